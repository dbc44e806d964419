"""What commands print: one JSON document with ``--json``, tables and trees for people otherwise.

Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec
import numpy as np
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from snapserv.errors import SnapservError, SnapservWarning
from snapserv.machine.terminal import pictured

EXIT_CODES = {"unreachable": 3, "timeout": 3, "simulation": 1, "caller": 2, "machine": 4, "server": 5}
"""What a command exits with after an error: by its code where that is listed, by whose fault it was otherwise."""
NOT_THE_SAME = 1
"""What ``diff`` and ``verify`` exit with where two nodes are not known to be the same."""
EXIT_CTRL_C = 130

MOST_LISTED = 10_000


class ShowingConsole(Console):
    """A console that shows control characters in what it prints: only its own styles reach the terminal as such."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of what is printed."""
        for segment in super().render(renderable, options):
            shown = segment.text if segment.control else pictured(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)


errors = ShowingConsole(stderr=True)
results = ShowingConsole()


def show(value: Any, *, as_json: bool, people: Callable[[], Any]) -> None:
    """Print a result: ``value`` as JSON, or what ``people`` returns for rich to render."""
    if as_json:
        print(json.dumps(plain(value)))
        return
    rendered = people()
    if isinstance(rendered, str):
        results.print(Text(rendered), soft_wrap=True)
    elif rendered is not None:
        results.print(rendered)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; arrays become their shape, dtype and, where they are small, values."""
    if isinstance(value, np.ndarray):
        described: dict[str, Any] = {"dtype": str(value.dtype), "shape": list(value.shape)}
        if value.size <= MOST_LISTED:
            described["values"] = plain(value.tolist())
        return described
    if isinstance(value, np.longdouble | np.clongdouble):  # whose item() is itself
        return plain(complex(value) if np.iscomplexobj(value) else float(value))
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)  # JSON has no NaN
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def exit_code(error: SnapservError) -> int:
    """Return what a command exits with after ``error``."""
    return EXIT_CODES.get(error.code, EXIT_CODES[error.fault])


def report(error: SnapservError, *, as_json: bool) -> None:
    """Print an error: its code, what was wrong, what to do, and the simulation's traceback if there is one."""
    if as_json:
        print(json.dumps({"error": plain(error.to_wire())}))
        return
    traceback = error.details.get("traceback")
    if traceback:
        errors.print(Text(str(traceback).rstrip(), "dim"), soft_wrap=True)
    errors.print(Text.assemble((error.code, "bold red"), " ", error.message), soft_wrap=True)
    if error.hint:
        errors.print(Text(f"→ {error.hint}", "cyan"), soft_wrap=True)


def show_notices() -> None:
    """Have what requests are told besides printed on stderr, in the style of errors, each time."""
    otherwise = warnings.showwarning

    def show(message: Warning | str, *args: Any, **options: Any) -> None:
        if not isinstance(message, SnapservWarning):
            otherwise(message, *args, **options)
            return
        errors.print(Text.assemble((message.code, "bold yellow"), " ", message.message), soft_wrap=True)
        if message.hint:
            errors.print(Text(f"→ {message.hint}", "cyan"), soft_wrap=True)

    warnings.showwarning = show
    warnings.simplefilter("always", SnapservWarning)


class PlainTable(Table):
    """A table that prints text as it is: ``[nan nan]`` in a simulation's output is no markup."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row; cells that are strings are taken literally."""
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def table(*columns: str, title: str | None = None) -> PlainTable:
    """Return an empty table in the style of all of them; a column that begins with ``>`` is right-aligned."""
    made = PlainTable(
        title=Text(title, "bold") if title else None, title_justify="left", header_style="bold", border_style="dim"
    )
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        made.add_column(Text(column.lstrip(">")), justify=justify, overflow="fold")  # what is shown can be copied
    return made


def mebibytes(size: int | None) -> str:
    """Return a size in MiB, or nothing where it is not known."""
    return "" if size is None else f"{size / (1 << 20):,.1f}"


@contextmanager
def progress_bar(title: str, *, enabled: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what reports progress to a bar on stderr; None where there is nobody to see it."""
    if not (enabled and errors.is_terminal):
        yield None
        return
    from rich.progress import Progress

    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
