"""Commands on snapshots that last, at a server: save, load, stored."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import click

from ..display import subject
from ..errors import ERRORS
from .nodes import NodeName, line_of
from .options import Endpoint, Json, connected
from .output import exit_code, mebibytes, moment, progress_bar, show, table
from .parameters import Argument, Option


def save(
    node: NodeName,
    name: Annotated[
        str | None, Option("--as", metavar="NAME", help="Of a live branch: what the snapshot of it is called.")
    ] = None,
    every: Annotated[bool, Option("--all", help="And all other snapshots of its tree.")] = False,
    replay: Annotated[
        bool, Option("--replay", help="Where an image is refused, save what was done to it.")
    ] = False,
    embed: Annotated[
        bool,
        Option("--embed", help="Save the libraries and files it stands on as well."),
    ] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Have a snapshot last: it is in the server's store when this returns. A live branch is snapshotted first.

    With --all it exits as after the first error, if a snapshot was refused; the others are saved all the same.

    Examples:
        snapserv save before
        snapserv save main --as evening
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.node(node).save(name, all=every, replay=replay, embed=embed)

    def people() -> Any:
        rows = table("~saved", "uid", ">MiB written", "", title=found.store)
        for each in found.saved:
            said = f"{each.error}: {each.message}" if each.error else "" if each.new else "was saved before"
            marks = ("replay" if each.replay else "", "with its files" if each.embedded else "", said)
            said = " · ".join(part for part in marks if part)
            rows.add_row(each.name, each.uid, mebibytes(each.bytes) if each.uid else "", said)
        return rows

    show(found, as_json=as_json, people=people)
    refused = [each for each in found.saved if each.error]
    if refused:
        raise click.exceptions.Exit(exit_code(ERRORS[refused[0].error](refused[0].message)))


def load(
    stored: Annotated[str, Argument(metavar="STORED", help="Its uid in the store, name, tag or TREE/NAME.")],
    name: Annotated[str | None, Option("--as", metavar="TREE", help="What to call its tree here.")] = None,
    tree: Annotated[bool, Option("--tree", help="All of its tree; else its ancestors come along.")] = False,
    replay: Annotated[
        bool, Option("--replay", help="Where no image brings it here, do again what was done to it.")
    ] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Take a snapshot out of the server's store: it can be branched then, like any other.

    Examples:
        snapserv load before
        snapserv load default/before
    """
    bars = progress_bar(f"replay {stored}", enabled=replay and not as_json)
    with connected(endpoint, as_json=as_json) as server, bars as bar:
        loaded = server.load(stored, name, tree=tree, replay=replay, progress=bar).last
    show(loaded, as_json=as_json, people=lambda: line_of(loaded))


def stored(endpoint: Endpoint = None, as_json: Json = False) -> None:
    """List what the server's store holds, also what is not loaded.

    Examples:
        snapserv stored
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.stored()

    def people() -> Any:
        names = Counter(f"{each.tree}/{each.name}" for each in found)
        rows = table("~stored", ">step", "taken", "as", ">MiB written", "~here as", "message")
        for each in found:
            name = f"{each.tree}/{each.name}"
            said = name if names[name] == 1 else f"{name} ({each.uid})"
            size = mebibytes(each.size)
            kind = "replay" if each.replay else "image"
            rows.add_row(
                said, f"{each.step:,}", moment(each.created), kind, size, each.here or "", subject(each.message)
            )
        return rows if found else "nothing is stored"

    show(found, as_json=as_json, people=people)
