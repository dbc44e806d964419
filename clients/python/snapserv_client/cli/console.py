"""What people see: the two consoles, and tables. With rich, which JSON does without: see `output`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ..terminal import pictured
from .legible import in_ascii

SHORTEST_NAME = 12
"""A name is never shortened to less than so many letters."""
LONGEST_WORD = 24
"""A word that is longer may be folded."""


class ShowingConsole(Console):
    """A console that shows control characters in what it prints: only its own styles reach the terminal as such."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed."""
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else pictured(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)


errors = ShowingConsole(stderr=True)
results = ShowingConsole()


class Names:
    """The cells of a column of names, which are shortened alike where there is no room for all of them.

    In the middle, since what tells names from each other is mostly at an end. Where two of them would look the
    same, they are folded instead.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def cell(self, name: str) -> Name:
        """Return the cell of another name."""
        self._names[name] = None
        return Name(name, self)

    def within(self, width: int, mark: str) -> dict[str, str] | None:
        """Return what is shown of each name in so many columns; None where that would not tell them apart."""
        shown = {name: shortened(name, width, mark) for name in self._names}
        return shown if len({*shown.values()}) == len(shown) else None


class Name:
    """A name in a column of names."""

    def __init__(self, name: str, among: Names) -> None:
        self._name = name
        self._among = among

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        wide = cell_len(self._name)
        return Measurement(min(wide, SHORTEST_NAME), wide)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        shown = self._among.within(options.max_width, "~" if options.ascii_only else "…")
        yield Text(self._name, overflow="fold") if shown is None else Text(shown[self._name], no_wrap=True)


def shortened(name: str, width: int, mark: str = "…") -> str:
    """Return a name in so many columns: all of it, or its beginning and its end."""
    if cell_len(name) <= width or width < 3:
        return name
    head = (width - len(mark) + 1) // 2
    return f"{name[:head]}{mark}{name[len(name) - (width - len(mark) - head) :]}"


class PlainTable(Table):
    """A table that prints text as it is, ``[nan nan]`` is no markup, and that is never wider than there is room.

    Its widest columns yield first, and none below what it has to show in one piece: numbers, words, and so much of
    a name that it can be told from others.
    """

    @classmethod
    def of(cls, columns: Iterable[str], title: str | None) -> PlainTable:
        """Return an empty one in the style of all.

        A column that begins with ``>`` is of numbers, which are right-aligned and in one piece; one that begins
        with ``~`` is of names, which are shortened where they have to be. Others are folded, so that they can be
        copied.
        """
        title_text = Text(title, "bold") if title else None
        made = cls(title=title_text, title_justify="left", header_style="bold", border_style="dim")
        made._contents = []
        for column in columns:
            head, sign = column.lstrip(">~"), column[:1]
            justify: Literal["left", "right"] = "right" if sign == ">" else "left"
            made.add_column(Text(head), justify=justify, overflow="fold")
            made._contents.append(_Contents(sign, _widest(head.splitlines()), _widest(head.split())))
        return made

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row; cells that are strings are taken literally."""
        parts = zip(self._contents, cells, strict=False)
        super().add_row(*(contents.cell(cell) for contents, cell in parts), **options)

    def least_width(self) -> int:
        """Return the columns that a terminal needs to show all in one piece that should be."""
        return sum(contents.least for contents in self._contents) + self._frame

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Any]:
        self._fit(options.max_width)
        yield from super().__rich_console__(console, options)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        self._fit(options.max_width)
        return super().__rich_measure__(console, options)

    def _fit(self, room: int) -> None:
        widths = [contents.widest for contents in self._contents]
        while (excess := sum(widths) + self._frame - room) > 0:
            loose = [index for index, each in enumerate(self._contents) if widths[index] > each.least]
            loose = loose or [index for index, width in enumerate(widths) if width > 1]
            if not loose:
                break
            first, *others = sorted((widths[index] for index in loose), reverse=True)
            index = next(index for index in loose if widths[index] == first)
            least = self._contents[index].least if first > self._contents[index].least else 1
            widths[index] -= max(1, min(excess, first - max([least, *others[:1]])))
        for column, width in zip(self.columns, widths, strict=True):
            column.width = width

    @property
    def _frame(self) -> int:
        return 3 * len(self._contents) + 1  # lines before, between and behind them, and a space at each side

    _contents: list[_Contents]


class _Contents:
    """What a column has to show, and in how many columns of the terminal."""

    def __init__(self, sign: str, widest: int, least: int) -> None:
        self._sign = sign
        self._names = Names()
        self.widest = widest
        self.least = least

    def cell(self, cell: Any) -> Any:
        """Take a cell in, and return it as it is put into the table."""
        if isinstance(cell, str):
            cell = cell if results.encoding.startswith("utf") else in_ascii(cell)
        text = cell if isinstance(cell, str) else getattr(cell, "plain", "")
        wide = _widest(text.splitlines())
        self.widest = max(self.widest, wide)
        whole = {">": wide, "~": min(wide, SHORTEST_NAME)}.get(self._sign, min(_widest(text.split()), LONGEST_WORD))
        self.least = max(self.least, whole)
        if not isinstance(cell, str):
            return cell
        return self._names.cell(text) if self._sign == "~" and text else Text(text)


def _widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)
