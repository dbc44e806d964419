"""Commands on time: going back, finding when something began, and a tick with each of several inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from ..errors import BadRequestError, StepInterruptedError
from ..figures import said
from ..looks import elapsed
from ..watching import condition
from .completing import nodes
from .nodes import BranchName, NodeName, line_of, live
from .options import Endpoint, Json, connected, parsed
from .output import EXIT_CTRL_C, plain, progress_bar, report, show, table
from .parameters import Argument, Option

if TYPE_CHECKING:
    from .. import Branch
    from ..protocol import GotoResult, RunResult

MOST_ROWS = 20
"""So many ticks are shown, the last ones; a document of JSON has all of them."""
UNTESTABLE, ABORTS_FROM = 125, 128
"""What a command's exit code means to a bisection is what it means to ``git bisect run``."""
Progress = Annotated[bool, Option(help="A progress bar on a terminal.")]


def goto(
    node: NodeName,
    step: Annotated[int, Argument(help="A step of its past, counted from its tree's root.")],
    branch: Annotated[str | None, Option(metavar="NAME", help="Make a branch there; the node stays.")] = None,
    keep: Annotated[bool, Option(help="Keep what the branch is now as an automatic snapshot.")] = True,
    progress: Progress = True,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Go back to a step of a branch's past, exact to the tick; or make a branch of any node there.

    Examples:
        snapserv goto north 150
        snapserv goto east 120 --branch tried
    """
    with connected(endpoint, as_json=as_json) as server, progress_bar(f"goto {node}", enabled=progress) as bar:
        if branch is not None:
            made = server.node(node).branch_at(step, branch, progress=bar)
            show(made.last, as_json=as_json, people=lambda: line_of(made.last))
            return
        result = live(server, node).goto(step, keep=keep, progress=bar)
    show(result, as_json=as_json, people=lambda: _came(result))


def back(
    node: BranchName,
    ticks: Annotated[int, Argument(help="How many ticks.")] = 1,
    keep: Annotated[bool, Option(help="Keep what the branch is now as an automatic snapshot.")] = True,
    progress: Progress = True,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Go back by so many ticks.

    Examples:
        snapserv back north 10
    """
    with connected(endpoint, as_json=as_json) as server, progress_bar(f"back {node}", enabled=progress) as bar:
        result = live(server, node).back(ticks, keep=keep, progress=bar)
    show(result, as_json=as_json, people=lambda: _came(result))


def bisect(
    node: NodeName,
    good: Annotated[
        str, Argument(help="A step where it does not hold, or a snapshot.", shell_complete=nodes("snapshot"))
    ] = "0",
    bad: Annotated[int | None, Argument(help="A later step where it holds; the node's own.")] = None,
    when: Annotated[str | None, Option(help="What is looked for, as of step --until.")] = None,
    run: Annotated[
        str | None,
        Option(metavar="COMMAND", help="Run in a shell at each step, $SNAPSERV_NODE: fails where it holds."),
    ] = None,
    progress: Progress = True,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Find the first step at which something holds that keeps holding then: git bisect for a run.

    Examples:
        snapserv bisect north 0 --when "burnt_ha >= 1"
        snapserv bisect north root 140 --when "burnt_ha >= 1"
    """
    with connected(endpoint, as_json=as_json) as server, progress_bar(f"bisect {node}", enabled=progress) as bar:
        if (when is None) == (run is None):
            raise BadRequestError("what is looked for is a condition or a command", hint="give --when or --run")
        test = condition(when) if when is not None else _Command(run or "", server.endpoint)
        start = int(good) if good.isdigit() else good
        found = server.node(node).bisect(start, bad, test, progress=bar)
    told = {name: plain(getattr(found, name)) for name in ("node", "step", "returns", "number", "action", "parted")}

    def people() -> str:
        where = f"look at it: snapserv goto {found.node} {found.step - 1} --branch before-{found.step}"
        return f"{found}\n{where}"

    show(told, as_json=as_json, people=people)


def run(
    node: BranchName,
    inputs: Annotated[
        list[str],
        Argument(help="For each tick a JSON map; @FILE has one a line, and - is stdin."),
    ],
    atomic: Annotated[bool | None, Option(help="All of it or nothing; else what the server was told.")] = None,
    timeout_s: Annotated[float | None, Option("--timeout-s", help="How long it may take.")] = None,
    record: Annotated[list[str] | None, Option("--record", help="An output, mean(FIELD) or FIELD[1, 2].")] = None,
    every: Annotated[int, Option(help="Record only ticks whose step is a multiple of this.")] = 1,
    until: Annotated[str | None, Option(help="The last tick is the one after which this holds.")] = None,
    snapshot: Annotated[str | None, Option(help="What to call a snapshot that is taken then.")] = None,
    progress: Progress = True,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Run a tick of a branch with each of several inputs, in one request. Ctrl-C stops it between two ticks.

    Examples:
        snapserv run main '{"wind": [3, 0]}' '{"wind": [0, 3]}'
    """
    with connected(endpoint, as_json=as_json) as server:
        given = [each for text in inputs for each in _inputs(text)]
        until_then = None if until is None else condition(until)
        found = live(server, node)
        try:
            with progress_bar(f"run {node}", enabled=progress) as bar:
                result = found.run(
                    given, progress=bar, atomic=atomic, timeout_s=timeout_s,
                    record=record or (), every=every, until=until_then, snapshot=snapshot,
                )  # fmt: skip
        except KeyboardInterrupt as cause:
            here = found.info().step
            stopped = StepInterruptedError(f"{node} stopped at step {here:,}", details={"step": here})
            report(stopped, as_json=as_json)
            raise click.exceptions.Exit(EXIT_CTRL_C) from cause
    put_out: dict[str, Any] = dict(result.outputs)
    columns = {name: values.tolist() if hasattr(values, "tolist") else values for name, values in put_out.items()}
    show({**plain(result), "outputs": columns}, as_json=as_json, people=lambda: _put_out(node, result))


class _Command:
    """A command that says of a branch whether something holds there, as ``git bisect run`` asks one."""

    def __init__(self, command: str, endpoint: str) -> None:
        self._command = command
        self._endpoint = endpoint

    def __call__(self, branch: Branch) -> bool:
        told = {"SNAPSERV_ENDPOINT": self._endpoint, "SNAPSERV_NODE": branch.name}
        status = subprocess.run(
            self._command, shell=True, env={**os.environ, **told}, check=False, stdout=2
        ).returncode
        if status == UNTESTABLE or not 0 <= status < ABORTS_FROM:
            raise BadRequestError(
                f"the command cannot tell at step {branch.last.step:,}: it exited with {status}",
                hint="0 says that it does not hold there, 1 to 124, 126 and 127 that it does",
                details={"status": status, "step": branch.last.step},
            )
        return status != 0


def _inputs(text: str) -> list[dict[str, Any]]:
    """Return the inputs that an argument says."""
    if text != "-" and not text.startswith("@"):
        return [_a_map(parsed(text), text)]
    try:
        lines = (sys.stdin.read() if text == "-" else Path(text[1:]).read_text()).splitlines()
    except OSError as cause:
        raise BadRequestError(f"cannot read {text[1:]}: {cause.strerror or cause}") from cause
    except UnicodeDecodeError as cause:
        raise BadRequestError(f"{text[1:]} is no text: {cause}") from cause
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(_a_map(json.loads(line), line))
            except json.JSONDecodeError as cause:
                raise BadRequestError(
                    f"line {number} of {text}: {cause}", hint="write a JSON map a line"
                ) from cause
    return found


def _a_map(value: Any, text: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequestError(f"{text!r} are no inputs of a tick", hint="""write a map: '{"wind": [3, 0]}'""")
    return value


def _came(result: GotoResult) -> str:
    """Return where a branch has come to, and from where."""
    line = line_of(result.node)
    if not result.moved:
        return f"{line} · it stood there, nothing has changed"
    lines = [f"{line} · {result.ticks:,} ticks since {result.since} in {elapsed(result.elapsed_us)}"]
    if result.left is not None:
        lines.append(f"what it was is kept: {result.left.name}")
    if result.parted is not None:
        lines.append(f"NOT the same as it was, since step {result.parted:,} at the latest")
    elif result.agreed < result.node.step:
        lines.append(f"what was put out is known to be the same up to step {result.agreed:,}")
    return "\n".join(lines)


def _put_out(node: str, result: RunResult) -> Any:
    """Return what the last ticks have put out."""
    columns: dict[str, Any] = dict(result.outputs)
    title = f"{node} · step {result.step:,} · {elapsed(result.elapsed_us)}"
    rows = table(">step", *(f">{name}" for name in columns), title=title)
    first = result.step - result.ticks + 1
    for row in range(max(0, result.ticks - MOST_ROWS), result.ticks):
        rows.add_row(f"{first + row:,}", *(said(values[row]) for values in columns.values()))
    return rows
