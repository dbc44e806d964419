"""What was measured, as tables, and whether it is as it should be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from rich.table import Table

Check: TypeAlias = tuple[str, float, Literal["≤", "≥"], float]
"""What was measured, how much it is, and what it should be at most or at least."""


def checked(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """Return a row for each goal that says whether it is met."""
    return [
        {
            "what": what,
            "measured": round(value, 2),
            "goal": f"{sign} {limit:g}",
            "met": "yes" if (value <= limit if sign == "≤" else value >= limit) else "no",
        }
        for what, value, sign, limit in checks
    ]


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Return rows, which have the same columns, as a table."""
    made = Table(title=title, title_justify="left")
    for name in rows[0]:
        made.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        made.add_row(*map(_cell, row.values()))
    return made


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.2f}" if isinstance(value, float) else str(value)
