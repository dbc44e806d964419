"""``doctor``: what this kernel and this user can do."""

from __future__ import annotations

from typing import Any

import typer

from .options import Json, failing
from .output import EXIT_CODES, show, table

SIGNS = {"ok": ("✓", "green"), "weak": ("!", "yellow"), "missing": ("✗", "bold red")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(as_json: Json = False) -> None:
    """Say what this kernel and this user can do, which arena backing is used, and how to get a better one."""
    from rich.text import Text

    from snapserv.diagnosis import diagnose

    with failing(as_json=as_json):
        found = diagnose()

    def people() -> Any:
        rows = table("", "what", "found", "to improve")
        for finding in found.findings:
            rows.add_row(Text(*SIGNS[finding.verdict]), finding.what, finding.found, finding.improve)
        return rows

    show(found, as_json=as_json, people=people)
    if not found.runs:
        raise typer.Exit(EXIT_CODES["machine"])
