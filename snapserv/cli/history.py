"""Commands on what was done to a node: log, replay, verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from snapserv_client.history import describe_action

from snapserv.errors import BadRequestError

from .nodes import NodeName, line_of, lines_of
from .options import Endpoint, Json, connected
from .output import NOT_THE_SAME, show, table


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (log, replay, verify):
        app.command()(command)


def log(
    node: NodeName,
    actions: Annotated[bool, typer.Option("--actions", help="What was done to it since the root.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Show a node's lineage, from the root to itself, or what was done to it."""
    with connected(endpoint, as_json=as_json) as server:
        found = server.node(node)
        if not actions:
            entries = found.log()
            show(entries, as_json=as_json, people=lambda: lines_of(entries))
            return
        done = found.actions()

    def people() -> Any:
        rows = table("", ">at step", ">times", "action", title=f"{node} · {done.ticks:,} ticks")
        for index, action in enumerate(done):
            rows.add_row(f"{index:,}", f"{action.step:,}", f"{action.repeat:,}", describe_action(action))
        return rows

    show(
        [{"kind": type(each).__struct_config__.tag, **_parts(each)} for each in done],
        as_json=as_json,
        people=people,
    )


def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What log --actions --json printed; - for stdin.")],
    start: Annotated[str | None, typer.Option(help="The snapshot to start from; the root by default.")] = None,
    name: Annotated[str | None, typer.Option(help="The new branch's name.")] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Make a branch, and do again what a file says."""
    with connected(endpoint, as_json=as_json) as server:
        made = server.replay(_actions_in(file), start, name)
    show(made.last, as_json=as_json, people=lambda: line_of(made.last))


def verify(
    node: NodeName,
    since: Annotated[str | None, typer.Option(help="The ancestor to replay from; the root by default.")] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Do a node's own actions again, and compare the states; exits with 1 where they differ."""
    with connected(endpoint, as_json=as_json) as server:
        found = server.node(node).verify(since)
    show(found.result, as_json=as_json, people=lambda: str(found))
    if not found.ok:
        raise typer.Exit(NOT_THE_SAME)


def _parts(action: Any) -> dict[str, Any]:
    return {name: getattr(action, name) for name in action.__struct_fields__}


def _actions_in(file: str) -> list[Any]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        found = json.loads(text, object_hook=_array)
    except OSError as cause:
        raise BadRequestError(f"cannot read {file}: {cause.strerror or cause}") from cause
    except ValueError as cause:
        raise BadRequestError(f"{file} is no JSON: {cause}") from cause
    if not isinstance(found, list):
        raise BadRequestError(f"{file} holds no list of actions", hint="print one with log --actions --json")
    return found


def _array(found: dict[str, Any]) -> Any:
    """Return the array that was printed as its dtype, shape and values; anything else as it is."""
    if found.keys() == {"dtype", "shape"}:
        raise BadRequestError(
            "an array is too large for JSON", hint="replay from Python: server.replay(node.actions())"
        )
    if found.keys() != {"dtype", "shape", "values"}:
        return found
    try:
        return np.array(found["values"], np.dtype(found["dtype"])).reshape(found["shape"])
    except (TypeError, ValueError) as cause:
        raise BadRequestError(f"no array: {cause}", hint="print one with log --actions --json") from cause
