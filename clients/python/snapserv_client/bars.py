"""Bars that show how far requests have come, in a terminal or in a notebook: ``step(…, progress=True)``.

They are rich's, which is an extra. Bars that run at the same time share a screen. They are drawn when something is
heard, by whoever waits for it: there is no thread for them.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from .errors import UnsupportedError

if TYPE_CHECKING:
    from rich.progress import Progress as Drawn

    from .connection import Progress


class Told:
    """Who is told of a request's progress, if anybody is."""

    def __init__(self, heard: Progress | None) -> None:
        self.heard = heard

    def ended(self, done: int | None = None) -> None:
        """Hear how much was done in the end, all of it by default; only bars want to know."""


class _Screen(Protocol):
    drawn: Drawn
    bars: int

    def draw(self) -> None: ...

    def close(self) -> None: ...


class _Terminal:
    """Bars below what is printed, on stderr."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        self.bars = 0
        drawn.start()

    def draw(self) -> None:
        """Show them as they are."""
        self.drawn.refresh()

    def close(self) -> None:
        """Leave them as they are."""
        self.drawn.stop()


class _Notebook:
    """Bars in a display of a notebook, which is drawn anew: as HTML, which an exported page has as well."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        self.bars = 0
        self._handle: Any = importlib.import_module("IPython.display").display(drawn, display_id=True)

    def draw(self) -> None:
        """Show them as they are."""
        self._handle.update(self.drawn)

    def close(self) -> None:
        """Leave them as they are."""


class _Bar(Told):
    """One bar of a screen."""

    def __init__(self, what: str, total: int) -> None:
        super().__init__(self._hear)
        self._screen = _enter()
        self._total = total
        self._task = self._screen.drawn.add_task(what, total=total)
        self._screen.draw()

    def ended(self, done: int | None = None) -> None:
        """Show how much was done in the end: fewer ticks than asked where the simulation was finished."""
        self._screen.drawn.update(self._task, completed=self._total if done is None else done)

    def close(self) -> None:
        """Leave it on the screen as it is."""
        self._screen.drawn.stop_task(self._task)
        self._screen.draw()
        _leave()

    def _hear(self, done: int, total: int) -> None:
        self._total = total
        self._screen.drawn.update(self._task, completed=done, total=total)
        self._screen.draw()


_lock = threading.Lock()
_screen: _Screen | None = None


def _enter() -> _Screen:
    """Return the screen of the bars that run, with one more on it."""
    global _screen
    with _lock:
        if _screen is None:
            _screen = _open()
        _screen.bars += 1
        return _screen


def _leave() -> None:
    """Close the screen with the last of its bars."""
    global _screen
    with _lock:
        if _screen is None:
            return
        _screen.bars -= 1
        if not _screen.bars:
            _screen.close()
            _screen = None


def _open() -> _Screen:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Drawn
    except ModuleNotFoundError as cause:
        raise UnsupportedError(
            f"a bar needs {cause.name}, which is not installed",
            hint="pip install 'snapserv-client[progress]', or pass a function as progress",
        ) from cause
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    drawn = Drawn(*columns, console=console, auto_refresh=False)
    return _Notebook(drawn) if console.is_jupyter else _Terminal(drawn)


@contextmanager
def shown(progress: Progress | bool | None, what: str, total: int) -> Iterator[Told]:
    """Show a request's progress for as long as it runs, if that is wanted.

    Args:
        progress: True for a bar; or who is told, with what is done and what is wanted; or nobody.
        what: What the bar is of.
        total: How much is wanted.

    Raises:
        UnsupportedError: A bar is wanted, and rich is not installed.
    """
    if progress is not True:
        yield Told(progress or None)
        return
    bar = _Bar(what, total)
    try:
        yield bar
    finally:
        bar.close()
