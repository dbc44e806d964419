"""``doctor``: what this kernel and this user can do, or what of a simulation will not branch well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import click
from snapserv_client.cli.options import Json, failing, pairs
from snapserv_client.cli.output import EXIT_CODES, show
from snapserv_client.cli.parameters import Argument, Option

if TYPE_CHECKING:
    from rich.text import Text

    from snapserv.doctor.machine import Finding

LEAST = 20
"""Characters that are shown of what was found, however narrow the terminal is."""
SIGNS = {"ok": ("✓", "green"), "weak": ("!", "yellow"), "missing": ("✗", "bold red")}


def doctor(
    target: Annotated[str | None, Argument(help="MODULE:CLASS to try out; this machine by default.")] = None,
    param: Annotated[list[str] | None, Option("--param", "-p", help="NAME=VALUE for its setup.")] = None,
    inputs: Annotated[
        list[str] | None, Option("--input", "-i", help="NAME=VALUE for each tick; JSON values.")
    ] = None,
    branch_dir: Annotated[
        list[str] | None, Option(help="A folder that each node would see as it wrote it itself; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what this machine can do and how to improve it; or what of a simulation will not branch well, and why.

    Examples:
        snapserv doctor
        snapserv doctor snapserv.examples.wildfire:Wildfire
    """
    from snapserv.doctor.machine import diagnose
    from snapserv.doctor.simulation import examine

    with failing(as_json=as_json):
        if target is None:
            found = diagnose()
            show(found, as_json=as_json, people=lambda: _lines(found.findings))
            if not found.runs:
                raise click.exceptions.Exit(EXIT_CODES["machine"])
            return
        given = pairs(inputs, "input") if inputs else None
        findings = examine(target, pairs(param or [], "param"), branch_dir or [], given)
    branches = not any(finding.verdict == "missing" for finding in findings)
    said = {"target": target, "branches": branches, "findings": findings}
    show(said, as_json=as_json, people=lambda: _lines(findings))
    if not branches:
        raise click.exceptions.Exit(EXIT_CODES["simulation"])


def _lines(findings: Sequence[Finding]) -> Any:
    """Return an entry a line; below those with which something is wrong, all that is known and what to do."""
    from rich.console import Group
    from rich.text import Text
    from snapserv_client.cli.console import results

    wide = max(len(finding.what) for finding in findings)
    parts: list[Any] = []
    cut = False
    for finding in findings:
        sign, style = SIGNS[finding.verdict]
        room = max(results.width - wide - 3, LEAST)
        line = Text(no_wrap=True).append(sign, style).append(f" {finding.what.ljust(wide)} ")
        parts.append(line.append(_fitting(finding.found, room)))
        cut |= finding.verdict == "ok" and len(finding.found) > room
        if finding.verdict != "ok" and len(finding.found) > room:
            parts += _indented(finding.found, results.width)
        if finding.improve:
            parts += _indented(f"→ {finding.improve}", results.width, style)
    if cut:
        parts += _indented("what was cut is whole in a wider terminal, and with --json", results.width, "dim")
    return Group(*parts)


def _indented(text: str, width: int, style: str = "") -> list[Text]:
    import textwrap

    from rich.text import Text

    return [Text(f"    {line}", style) for line in textwrap.wrap(text, max(width - 4, LEAST))]


def _fitting(found: str, room: int) -> str:
    """Return what was found, in one line: without the middle, or the end, where there is no room for it."""
    said = " ".join(found.split())
    if len(said) <= room:
        return said
    head, _, tail = said.rpartition("; ")
    left = room - len(tail) - 3
    if head and left >= LEAST:
        return f"{head[:left].rstrip(' ,')}…; {tail}"
    if head and left > 0:
        return tail
    return f"{said[: room - 1]}…"
