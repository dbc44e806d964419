"""Commands on nodes: what changes them, makes them, ends them, and says where they come from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import click

from ..display import ago, describe, mark
from ..errors import BadRequestError, FrozenError, StepInterruptedError
from ..figures import said
from ..looks import elapsed
from ..protocol import NodeInfo
from ..watching import condition
from .completing import nodes
from .drawing import Colours, Filmed, Gif, Limits, Mp4, files_of, limits_of, reel_of, written
from .options import Endpoint, Json, Rng, connected, pairs, parsed, rng_of
from .output import EXIT_CTRL_C, mebibytes, plain, progress_bar, report, show, table
from .parameters import Argument, Option

if TYPE_CHECKING:
    from .. import Branch, Server

NodeName = Annotated[str, Argument(metavar="NODE", help="A node's name, tag or TREE/NAME.", shell_complete=nodes())]
BranchName = Annotated[str, Argument(metavar="BRANCH", help="A live branch.", shell_complete=nodes("branch"))]
STYLES = {"dead": "red", "faulted": "yellow", "stored": "blue"}
KEYWORD = re.compile(r"[A-Za-z_]\w*=")


def live(server: Server, name: str) -> Branch:
    """Return a branch that is to change.

    Raises:
        FrozenError: It is a snapshot.
    """
    from .. import Branch

    node = server.node(name)
    if not isinstance(node, Branch):
        raise FrozenError(
            f"{node.name} is a snapshot, which never changes",
            hint=f"branch it, and change the branch: snapserv branch {node.name}",
        )
    return node


def tree(
    name: Annotated[str | None, Argument(help="One tree; all by default.")] = None,
    sizes: Annotated[bool, Option(help="Measure each node's private memory.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Show all nodes as a tree.

    Examples:
        snapserv tree
        snapserv tree --sizes
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.tree(name, sizes=sizes)

    def people() -> Any:
        from rich.console import Group
        from rich.text import Text

        from ..pictures.colours import node_colour

        lines = [Text(server.endpoint, "bold")]
        for stem, node in found.rows():
            style = STYLES.get(node.state, node_colour(node.id))
            when = f" · {ago(node.created)}" if node.kind == "snapshot" else ""
            lines.append(Text.assemble(stem, (mark(node), style), " ", describe(node), (when, "dim")))
        return Group(*lines)

    show({"trees": found.trees, "nodes": found.nodes}, as_json=as_json, people=people)


def step(
    node: BranchName,
    ticks: Annotated[int, Argument(help="How many ticks.")] = 1,
    inputs: Annotated[list[str] | None, Option("--input", "-i", help="NAME=VALUE; JSON values.")] = None,
    atomic: Annotated[bool | None, Option(help="All of it or nothing; else what the server was told.")] = None,
    timeout_s: Annotated[float | None, Option("--timeout-s", help="How long it may take.")] = None,
    record: Annotated[list[str] | None, Option("--record", help="An output, mean(FIELD) or FIELD[1, 2].")] = None,
    every: Annotated[int, Option(help="Record, and film, only ticks whose step is a multiple of this.")] = 1,
    until: Annotated[str | None, Option(help="The last tick is the one after which this holds.")] = None,
    snapshot: Annotated[str | None, Option(help="What to call a snapshot that is taken then.")] = None,
    gif: Gif = None,
    mp4: Mp4 = None,
    field: Filmed = None,
    limits: Limits = None,
    colours: Colours = None,
    progress: Annotated[bool, Option(help="A progress bar on a terminal.")] = True,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Run ticks of a branch. Ctrl-C stops it between two ticks.

    Examples:
        snapserv step main 10
        snapserv step main 200 --input wind='[3, 0]' --atomic
        snapserv step main 1000 --until "burning_cells == 0" --snapshot burnt-out --record burnt_ha
        snapserv step main 100 --every 10 --gif fire.gif
    """
    with connected(endpoint, as_json=as_json) as server:
        given = pairs(inputs or [], "input")
        until_then = None if until is None else condition(until)
        reel = reel_of(gif, mp4, field=field, limits=limits, colours=colours)
        if reel is not None and atomic:
            raise BadRequestError("a film is several steps, each for itself: not all of it or nothing")
        found = live(server, node)
        try:
            with progress_bar(f"step {node}", enabled=progress) as bar, written(reel):
                if reel is None:
                    result = found.step(
                        ticks, inputs=given, progress=bar, atomic=atomic, timeout_s=timeout_s,
                        record=record or (), every=every, until=until_then, snapshot=snapshot,
                    )  # fmt: skip
                else:
                    from ..pictures import film_step

                    result = film_step(
                        reel, found, ticks, of=field, limits=limits_of(limits), colours=colours,
                        inputs=given, progress=bar, timeout_s=timeout_s,
                        record=record or (), every=every, until=until_then, snapshot=snapshot,
                    )  # fmt: skip
        except KeyboardInterrupt as cause:
            here = found.info().step
            stopped = StepInterruptedError(f"{node} stopped at step {here:,}", details={"step": here})
            report(stopped, as_json=as_json)
            raise click.exceptions.Exit(EXIT_CTRL_C) from cause

    def people() -> Any:
        rows = table(f"{node} · step {result.step:,}", elapsed(result.elapsed_us))
        outputs = result.outputs if isinstance(result.outputs, dict) else {"output": result.outputs}
        for key, value in outputs.items():
            rows.add_row(str(key), said(value))
        if result.stopped is not None:
            rows.add_row("stopped", f"{until} holds" if result.stopped else f"{until} has not held")
        for name, path in files_of(reel).items():
            rows.add_row(name, path)
        return rows

    show({**plain(result), **files_of(reel)}, as_json=as_json, people=people)


def snapshot(
    node: BranchName,
    name: Annotated[str | None, Argument(help="The snapshot's name.")] = None,
    message: Annotated[str, Option("--message", "-m", help="What there is to say of it, as of a commit.")] = "",
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Freeze a copy of a branch.

    Examples:
        snapserv snapshot main
        snapserv snapshot main before
        snapserv snapshot main -m "the wind has turned"
    """
    with connected(endpoint, as_json=as_json) as server:
        taken = live(server, node).snapshot(name, message=message)
    show(
        {"node": taken.last, "fork_us": taken.fork_us},
        as_json=as_json,
        people=lambda: f"{line_of(taken.last)} · fork {(taken.fork_us or 0) / 1000:.2f} ms",
    )


def branch(
    node: NodeName,
    names: Annotated[list[str] | None, Argument(help="Names of the branches.")] = None,
    count: Annotated[int | None, Option("--count", "-n", help="How many, where they have no names.")] = None,
    rng: Rng = "same",
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Make live branches of a snapshot (a live branch is snapshotted first).

    Examples:
        snapserv branch before north east
        snapserv branch before --count 4 --rng split
    """
    with connected(endpoint, as_json=as_json) as server:
        wanted = len(names or "") or 1 if count is None else count
        made = server.node(node).branch(wanted, names=names or None, rng=rng_of(rng))
    show([each.last for each in made], as_json=as_json, people=lambda: lines_of([each.last for each in made]))
    say_reseeded(made[0], as_json=as_json)


def restore(
    node: BranchName,
    snapshot: Annotated[str, Argument(help="The snapshot to go back to.", shell_complete=nodes("snapshot"))],
    rng: Rng = "same",
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Put a branch back to a snapshot; a dead branch lives again.

    Examples:
        snapserv restore east before
    """
    with connected(endpoint, as_json=as_json) as server:
        found = live(server, node)
        found.restore(snapshot, rng=rng_of(rng))
    show(found.last, as_json=as_json, people=lambda: line_of(found.last))
    say_reseeded(found, as_json=as_json)


def reset(node: BranchName, rng: Rng = "same", endpoint: Endpoint = None, as_json: Json = False) -> None:
    """Put a branch back to the moment after setup.

    Examples:
        snapserv reset main
        snapserv reset main --rng 7
    """
    with connected(endpoint, as_json=as_json) as server:
        found = live(server, node)
        found.reset(rng=rng_of(rng))
    show(found.last, as_json=as_json, people=lambda: line_of(found.last))
    say_reseeded(found, as_json=as_json)


def say_reseeded(branch: Branch, *, as_json: bool) -> None:
    """Tell people which random streams were given other states, if any were."""
    if branch.reseeded and not as_json:
        click.echo(f"reseeded: {', '.join(branch.reseeded)}")


def mark_(
    node: BranchName,
    remove: Annotated[bool, Option("--remove", help="Give the mark up.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Mark this moment of a branch, for rewind.

    Examples:
        snapserv mark main
    """
    with connected(endpoint, as_json=as_json) as server:
        marked = live(server, node).mark(remove=remove)
    text = f"{node} · no mark" if remove else f"{node} · marked at step {marked.step:,}"
    show(marked, as_json=as_json, people=lambda: text)


def rewind(
    node: BranchName,
    gif: Gif = None,
    mp4: Mp4 = None,
    field: Filmed = None,
    limits: Limits = None,
    colours: Colours = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Put a branch back to its mark, in place: quicker than restore where little has changed.

    A film of it shows the branch, its snapshots since the mark, and the mark.

    Examples:
        snapserv rewind main
        snapserv rewind main --gif back.gif
    """
    with connected(endpoint, as_json=as_json) as server:
        found, reel = live(server, node), reel_of(gif, mp4, field=field, limits=limits, colours=colours)
        if reel is None:
            gone = found.rewind()
        else:
            from ..pictures import film_rewind

            with written(reel):
                gone = film_rewind(reel, found, of=field, limits=limits_of(limits), colours=colours)
    text = f"{node} · step {gone.step:,} · {gone.pages:,} pages in {gone.elapsed_us / 1000:.2f} ms"
    lines = [text, *(f"→ {path}" for path in files_of(reel).values())]
    show({**plain(gone), **files_of(reel)}, as_json=as_json, people=lambda: "\n".join(lines))


def drop(
    names: Annotated[list[str], Argument(metavar="NODE...", help="Nodes to end.", shell_complete=nodes())],
    recursive: Annotated[bool, Option("--recursive", "-r", help="And all of their descendants.")] = False,
    force: Annotated[bool, Option("--force", "-f", help="Kill a step that runs.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """End nodes; their descendants live on.

    Examples:
        snapserv drop east
        snapserv drop before --recursive
    """
    gone: list[str] = []
    with connected(endpoint, as_json=as_json) as server:
        for name in names:
            gone += server.node(name).drop(recursive=recursive, force=force)
    show({"dropped": gone}, as_json=as_json, people=lambda: f"dropped {', '.join(gone)}")


def tag(
    node: NodeName,
    name: Annotated[str, Argument(help="The further name.")],
    remove: Annotated[bool, Option(help="Take it away.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Give a node a further name.

    Examples:
        snapserv tag before golden
        snapserv tag before golden --remove
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.node(node)
        found.tag(name, remove=remove)
    show(found.last, as_json=as_json, people=lambda: line_of(found.last))


def pin(
    node: NodeName,
    unpin: Annotated[bool, Option("--unpin", help="No longer protect it.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Protect a node from drop.

    Examples:
        snapserv pin before
        snapserv pin before --unpin
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.node(node)
        found.pin(not unpin)
    show(found.last, as_json=as_json, people=lambda: line_of(found.last))


def interrupt(
    node: BranchName,
    force: Annotated[bool, Option("--force", "-f", help="Kill the process.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Stop the step that runs, after its tick.

    Examples:
        snapserv interrupt main
    """
    with connected(endpoint, as_json=as_json) as server:
        stopped = live(server, node).interrupt(force=force)
    show({"interrupted": stopped}, as_json=as_json, people=lambda: "interrupted" if stopped else "nothing ran")


def call(
    node: BranchName,
    method: Annotated[str, Argument(help="A method that the author exported.")],
    args: Annotated[list[str] | None, Argument(help="Arguments, JSON; NAME=VALUE for keywords.")] = None,
    atomic: Annotated[bool, Option("--atomic", help="All of it or nothing.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Run a method of the simulation.

    Examples:
        snapserv call main cell_side_m
    """
    positional = [parsed(text) for text in args or [] if not KEYWORD.match(text)]
    with connected(endpoint, as_json=as_json) as server:
        named = [text for text in args or [] if KEYWORD.match(text)]
        keywords = pairs(named, "argument", reserved=("self", "method", "atomic"))
        value = live(server, node).call(method, *positional, atomic=atomic, **keywords)
    show({"value": value}, as_json=as_json, people=lambda: said(value))


def create(
    name: Annotated[str | None, Argument(help="The new tree's name.")] = None,
    simulation: Annotated[str | None, Option(help="A class that the server was started with.")] = None,
    param: Annotated[list[str] | None, Option("--param", "-p", help="NAME=VALUE for setup.")] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Run setup again, for another tree.

    Examples:
        snapserv create second --param seed=7
    """
    with connected(endpoint, as_json=as_json) as server:
        params = pairs(param or [], "param", reserved=("self", "simulation", "name"))
        made = server.create(simulation, name, **params)
    show(made.last, as_json=as_json, people=lambda: line_of(made.last))


def line_of(node: NodeInfo) -> str:
    """Return a node in one line."""
    return f"{mark(node)} {describe(node)}"


def lines_of(nodes: list[NodeInfo]) -> Any:
    """Return a table of nodes."""
    rows = table("", "~node", "kind", ">step", "state", ">pid", ">private MiB")
    for node in nodes:
        rows.add_row(
            mark(node), node.name, node.kind, f"{node.step:,}", node.death or node.state, str(node.pid or ""),
            mebibytes(node.private_bytes),
        )  # fmt: skip
    return rows
