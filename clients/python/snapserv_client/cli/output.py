"""What commands print: one JSON document with ``--json``, tables and trees for people otherwise.

Results go to stdout, everything else to stderr. What people see is drawn by `snapserv_client.cli.console`,
which is loaded where there is something to draw; and numpy is, where there is an array.
"""

from __future__ import annotations

import base64
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import figures
from ..errors import SnapservError, SnapservWarning
from ..figures import counted as counted
from ..figures import duration as duration
from ..figures import moment as moment

if TYPE_CHECKING:
    from .console import PlainTable

EXIT_CODES = {"unreachable": 3, "timeout": 3, "simulation": 1, "caller": 2, "machine": 4, "server": 5}
"""What a command exits with after an error: by its code where that is listed, by whose fault it was otherwise."""
NOT_THE_SAME = 1
"""What ``diff`` and ``verify`` exit with where two nodes are not known to be the same."""
EXIT_CTRL_C = 130

MOST_LISTED = 10_000


def show(value: Any, *, as_json: bool, people: Callable[[], Any]) -> None:
    """Print a result: ``value`` as JSON, or what ``people`` returns for rich to render."""
    if as_json:
        print(json.dumps(plain(value)))
        return
    from rich.text import Text

    from .console import results

    rendered = people()
    if isinstance(rendered, str):
        results.print(Text(rendered), soft_wrap=True)
    elif rendered is not None:
        results.print(rendered)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; arrays become their shape, dtype and, where they are small, values."""
    if isinstance(value, str | int | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no NaN
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__struct_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    return _plain_of_numpy(value) if hasattr(value, "dtype") else str(value)


def _plain_of_numpy(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.ndarray):
        described: dict[str, Any] = {"dtype": str(value.dtype), "shape": list(value.shape)}
        if value.size <= MOST_LISTED:
            described["values"] = plain(value.tolist())
        return described
    if isinstance(value, np.longdouble | np.clongdouble):  # whose item() is itself
        return plain(complex(value) if np.iscomplexobj(value) else float(value))
    return plain(value.item()) if isinstance(value, np.generic) else str(value)


def exit_code(error: SnapservError) -> int:
    """Return what a command exits with after ``error``."""
    return EXIT_CODES.get(error.code, EXIT_CODES[error.fault])


def report(error: SnapservError, *, as_json: bool) -> None:
    """Print an error: its code, what was wrong, what to do, and the simulation's traceback if there is one."""
    if as_json:
        print(json.dumps({"error": plain(error.to_wire())}))
        return
    from rich.text import Text

    from .console import errors

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
        from rich.text import Text

        from .console import errors

        errors.print(Text.assemble((message.code, "bold yellow"), " ", message.message), soft_wrap=True)
        if message.hint:
            errors.print(Text(f"→ {message.hint}", "cyan"), soft_wrap=True)

    warnings.showwarning = show
    warnings.simplefilter("always", SnapservWarning)


def table(*columns: str, title: str | None = None) -> PlainTable:
    """Return an empty table in the style of all of them.

    A column that begins with ``>`` is of numbers, one that begins with ``~`` of names; see `console.PlainTable`.
    """
    from .console import PlainTable

    return PlainTable.of(columns, title)


def mebibytes(size: int | None) -> str:
    """Return a size in MiB, or nothing where it is not known."""
    return "" if size is None else figures.mebibytes(size)


@contextmanager
def progress_bar(title: str, *, enabled: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what reports progress to a bar on stderr; None where there is nobody to see it."""
    if not (enabled and sys.stderr.isatty()):
        yield None
        return
    from rich.progress import Progress

    from .console import errors

    with Progress(console=errors, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
