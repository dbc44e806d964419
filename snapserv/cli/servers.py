"""``ps``: the servers of this user on this machine, and what killed ones have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from snapserv_client.cli.options import Json, failing
from snapserv_client.cli.output import duration, mebibytes, show, table

from snapserv.errors import SnapservError, UnreachableError

if TYPE_CHECKING:
    from snapserv.recovery.servers import Place

ANSWER_WITHIN_S = 2.0


class Listed(msgspec.Struct):
    """A server, as far as it says; ``state`` is serving, silent, killed or left, ``hint`` what to do about it."""

    endpoint: str
    name: str | None
    state: str
    pid: int
    simulations: list[str] = []
    uptime_s: float | None = None
    snapshots: int | None = None
    branches: int | None = None
    dead: int | None = None
    memory_bytes: int | None = None
    waiting: int = 0
    hint: str = ""


def ps(as_json: Json = False) -> None:
    """List this user's servers on this machine, and what those have left that were killed.

    Examples:
        snapserv ps
        snapserv ps --json
    """
    from snapserv.recovery.servers import places

    with failing(as_json=as_json):
        found = [_ask(place) if place.listens else _left(place) for place in places()]

    def people() -> Any:
        from rich.console import Group
        from rich.text import Text

        if not found:
            return "no server: start one with snapserv serve MODULE:CLASS"
        rows = table("~name", "~endpoint", ">pid", "state", "serves", ">up", ">nodes", ">MiB")
        for each in found:
            nodes = "" if each.snapshots is None else f"{each.snapshots + (each.branches or 0):,}"
            rows.add_row(
                each.name or "", each.endpoint, str(each.pid or ""), each.state, ", ".join(each.simulations),
                "" if each.uptime_s is None else duration(each.uptime_s), nodes, mebibytes(each.memory_bytes),
            )  # fmt: skip
        hints = [Text(f"→ {each.endpoint}: {each.hint}", "cyan") for each in found if each.hint]
        return Group(rows, *hints)

    show(found, as_json=as_json, people=people)


def _ask(place: Place) -> Listed:
    from snapserv_client import connect

    listed = Listed(place.endpoint, place.name, "serving", place.pid)
    try:
        with connect(place.endpoint, timeout_s=ANSWER_WITHIN_S, request_timeout_s=ANSWER_WITHIN_S) as server:
            stats = server.stats()
            trees = server.hello.trees if server.hello is not None else []
            listed.simulations = list(dict.fromkeys(server.spec(tree).simulation for tree in trees))
    except SnapservError as error:
        listed.state = "silent"
        listed.hint = f"{error.code}: {error.message}"
        if isinstance(error, UnreachableError):
            listed.hint = "it listens, and does not answer this client: it is still setting up, or wants keys"
        return listed
    listed.uptime_s, listed.memory_bytes = stats.uptime_s, stats.memory.charged_bytes
    listed.snapshots, listed.branches, listed.dead = stats.snapshots, stats.branches, stats.dead
    return listed


def _left(place: Place) -> Listed:
    if place.waiting:
        hint = f"{place.waiting:,} processes wait for a server: start it again as it was"
        return Listed(place.endpoint, place.name, "killed", 0, waiting=place.waiting, hint=hint)
    path = place.endpoint.removeprefix("ipc://")
    return Listed(place.endpoint, place.name, "left", 0, hint=f"nothing runs there any more: rm {path}*")
