"""Commands on what was done to a node: log, replay, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import click

from .. import recordings
from ..display import ago, mark
from ..errors import BadRequestError
from ..history import Actions, describe_action
from ..protocol import NodeInfo
from .completing import nodes
from .drawing import Colours, Filmed, Gif, Limits, Mp4, files_of, limits_of, reel_of, written
from .nodes import NodeName, line_of
from .options import Endpoint, Json, connected
from .output import NOT_THE_SAME, progress_bar, show, table
from .parameters import Argument, Option
from .saving import saving


def log(
    node: NodeName,
    actions: Annotated[bool, Option("--actions", help="What was done to it since the root.")] = False,
    save: Annotated[Path | None, Option(help="Write that to a file, with what it is of, for replay.")] = None,
    gif: Gif = None,
    mp4: Mp4 = None,
    field: Filmed = None,
    limits: Limits = None,
    colours: Colours = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Show a node's lineage, from the root to itself, or what was done to it.

    A film shows the snapshots of its lineage, and itself.

    Examples:
        snapserv log main
        snapserv log main --actions
        snapserv log main --save main.json
        snapserv log main --gif past.gif
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.node(node)
        reel = reel_of(gif, mp4, field=field, limits=limits, colours=colours)
        if reel is not None:
            from ..pictures import film_past

            with written(reel):
                moments = film_past(reel, found, of=field, limits=limits_of(limits), colours=colours)
            said = f"wrote {len(moments):,} moments of {node} to {', '.join(files_of(reel).values())}"
            told = {"node": node, "moments": len(moments), **files_of(reel)}
            show(told, as_json=as_json, people=lambda: said)
            return
        if not actions and save is None:
            entries = found.log()
            show(entries, as_json=as_json, people=lambda: _lineage(entries))
            return
        done = found.actions()
        if save is not None:
            with saving(save):
                recordings.save(done, save)
            told = {"node": node, "file": str(save), "actions": len(done), "ticks": done.ticks}
            line = f"wrote {len(done):,} actions of {node}, {done.ticks:,} ticks, to {save}"
            show(told, as_json=as_json, people=lambda: line)
            return

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
    file: Annotated[str, Argument(metavar="FILE", help="What log --save wrote; - for stdin.")],
    start: Annotated[
        str | None,
        Option(help="The snapshot to start from; the root by default.", shell_complete=nodes("snapshot")),
    ] = None,
    name: Annotated[str | None, Option("--as", metavar="NAME", help="The new branch's name.")] = None,
    force: Annotated[bool, Option("--force", help="Also where it is of something else.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Make a branch, and do again what a file says.

    Examples:
        snapserv log main --save main.json
        snapserv replay main.json
    """
    with connected(endpoint, as_json=as_json) as server:
        actions = _actions_in(file)
        with progress_bar(f"replay {file}", enabled=not as_json) as bar:
            made = server.replay(actions, start, name, force=force, progress=bar)
    show(made.last, as_json=as_json, people=lambda: line_of(made.last))


def verify(
    node: NodeName,
    since: Annotated[
        str | None,
        Option(help="The ancestor to replay from; the root by default.", shell_complete=nodes("snapshot")),
    ] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Do a node's own actions again, and compare the states; exits with 1 where they differ.

    Examples:
        snapserv verify main
        snapserv verify north --since before
    """
    with (
        connected(endpoint, as_json=as_json) as server,
        progress_bar(f"verify {node}", enabled=not as_json) as bar,
    ):
        found = server.node(node).verify(since, progress=bar)
    show(found.result, as_json=as_json, people=lambda: str(found))
    if not found.ok:
        raise click.exceptions.Exit(NOT_THE_SAME)


def _lineage(entries: list[NodeInfo]) -> Any:
    """Return a table of a node's past, the oldest first: a straight line, however often it was branched."""
    rows = table("", "~node", ">step", "since", "message")
    for node in entries:
        rows.add_row(mark(node), " ".join([node.name, *(f"#{tag}" for tag in node.tags)]), f"{node.step:,}",
                     ago(node.created), node.message)  # fmt: skip
    return rows


def _parts(action: Any) -> dict[str, Any]:
    return {name: getattr(action, name) for name in action.__struct_fields__}


def _actions_in(file: str) -> Actions:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as cause:
        raise BadRequestError(f"cannot read {file}: {cause.strerror or cause}") from cause
    except UnicodeDecodeError as cause:
        raise BadRequestError(f"{file} is no JSON: {cause}") from cause
    return recordings.from_json(text, file)
