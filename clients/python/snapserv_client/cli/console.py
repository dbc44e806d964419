"""What people see: the two consoles, and tables. With rich, which JSON does without: see `output`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..terminal import pictured


class ShowingConsole(Console):
    """A console that shows control characters in what it prints: only its own styles reach the terminal as such."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed."""
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else pictured(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)


errors = ShowingConsole(stderr=True)
results = ShowingConsole()


class PlainTable(Table):
    """A table that prints text as it is: ``[nan nan]`` in a simulation's output is no markup."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row; cells that are strings are taken literally."""
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    @classmethod
    def of(cls, columns: Iterable[str], title: str | None) -> PlainTable:
        """Return an empty one in the style of all; a column that begins with ``>`` is right-aligned."""
        title_text = Text(title, "bold") if title else None
        made = cls(title=title_text, title_justify="left", header_style="bold", border_style="dim")
        for column in columns:
            justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
            # Folded, so that what is shown can be copied.
            made.add_column(Text(column.lstrip(">")), justify=justify, overflow="fold")
        return made
