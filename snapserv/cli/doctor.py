"""``doctor``: what this kernel and this user can do, or what of a simulation will not branch well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import click
from snapserv_client.cli.options import Json, failing, pairs
from snapserv_client.cli.output import EXIT_CODES, show
from snapserv_client.cli.parameters import Argument, Option

if TYPE_CHECKING:
    from snapserv.doctor.machine import Finding

SIGNS = {"ok": ("✓", "green"), "weak": ("!", "yellow"), "missing": ("✗", "bold red")}


def doctor(
    target: Annotated[str | None, Argument(help="MODULE:CLASS to try out; this machine by default.")] = None,
    param: Annotated[list[str] | None, Option("--param", "-p", help="NAME=VALUE for its setup.")] = None,
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
        findings = examine(target, pairs(param or [], "param"), branch_dir or [])
    branches = not any(finding.verdict == "missing" for finding in findings)
    said = {"target": target, "branches": branches, "findings": findings}
    show(said, as_json=as_json, people=lambda: _lines(findings))
    if not branches:
        raise click.exceptions.Exit(EXIT_CODES["simulation"])


def _lines(findings: Sequence[Finding]) -> Any:
    """Return an entry a line; below it, what is to be done, where that is something."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    wide = max(len(finding.what) for finding in findings)
    parts: list[Any] = []
    for finding in findings:
        line = Table.grid(padding=(0, 1))
        line.add_column(width=1)
        line.add_column(width=wide)
        line.add_column()
        line.add_row(Text(*SIGNS[finding.verdict]), Text(finding.what), Text(finding.found))
        parts.append(line)
        if finding.improve:
            parts.append(Padding(Text(f"→ {finding.improve}", SIGNS[finding.verdict][1]), (0, 0, 0, 4)))
    return Group(*parts)
