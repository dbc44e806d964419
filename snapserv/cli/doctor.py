"""``doctor``: what this kernel and this user can do, or what of a simulation will not branch well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import click

from .options import Json, failing, pairs
from .output import EXIT_CODES, show, table
from .parameters import Argument, Option

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
    """Say what this machine can do and how to improve it; or what of a simulation will not branch well, and why."""
    from snapserv.doctor.machine import diagnose
    from snapserv.doctor.simulation import examine

    with failing(as_json=as_json):
        if target is None:
            found = diagnose()
            show(found, as_json=as_json, people=lambda: _table(found.findings))
            if not found.runs:
                raise click.exceptions.Exit(EXIT_CODES["machine"])
            return
        findings = examine(target, pairs(param or [], "param"), branch_dir or [])
    branches = not any(finding.verdict == "missing" for finding in findings)
    said = {"target": target, "branches": branches, "findings": findings}
    show(said, as_json=as_json, people=lambda: _table(findings))
    if not branches:
        raise click.exceptions.Exit(EXIT_CODES["simulation"])


def _table(findings: Sequence[Finding]) -> Any:
    from rich.text import Text

    rows = table("", "what", "found", "to improve")
    for finding in findings:
        rows.add_row(Text(*SIGNS[finding.verdict]), finding.what, finding.found, finding.improve)
    return rows
