"""What is being done to a node, and what came of it: one line that says so, as the command line words it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from nicegui.element import Element

from ..connection import Progress
from ..errors import SnapservError, SnapservWarning, StepInterruptedError, UnauthorizedError
from .parts import Button, Handler, box, text
from .session import Session

Work: TypeAlias = Callable[[Progress], Awaitable[str]]
SHOWN_EVERY_S = 0.1


class Doing:
    """The line below a node's buttons: what runs, how far it is, how to stop it; then the result or the error.

    Args:
        session: Whose nodes.
        place: Where the line is.
    """

    def __init__(self, session: Session, place: Element) -> None:
        self._session = session
        self._place = place
        self._busy = 0
        place.visible = False
        place.classes(remove="bad-news")

    async def do(self, what: str, work: Work, *, stop: Handler | None = None, changes: bool = True) -> bool:
        """Do something, and show what comes of it; return whether it was done.

        Args:
            what: What is done, as it is shown meanwhile.
            work: Does it, and returns what to say of it.
            stop: Ends it early.
            changes: Whether it changes anything, which not everyone may.
        """
        try:
            if changes and not self._session.may_change:
                raise UnauthorizedError(f"{what}: {self._session.why_not}", hint="ask whoever started the page")
            self._show_progress(what, stop)
            self._busy += 1
            try:
                said = await work(self._told)
            finally:
                self._busy -= 1
        except StepInterruptedError as error:
            self.say(error.message)
            return False
        except SnapservError as error:
            self.show_error(error)
            return False
        except TimeoutError as error:
            self.show_error(SnapservError(f"{what}: {error or 'it took too long'}"))
            return False
        finally:
            self._session.touched()
        self.say(said)
        return True

    def say(self, said: str) -> None:
        """Show what came of something."""
        if self._gone:
            return
        self._clear()
        with self._place:
            text(said, "grow mono")
            self._closing()

    def warn(self, warning: SnapservWarning) -> None:
        """Show something that whoever asked should know."""
        if self._gone:
            return
        with self._place:
            text(f"{warning.code} {warning.message}" + (f" → {warning.hint}" if warning.hint else ""), "warn")

    def show_error(self, error: SnapservError) -> None:
        """Show an error: its code, what was wrong, what to do, and the traceback of a simulation's author."""
        if self._gone:
            return
        self._clear()
        self._place.classes(add="bad-news")
        with self._place:
            text(error.code, tag="code")
            text(error.message, "grow")
            if error.hint:
                text(f"→ {error.hint}", "hint")
            self._closing()
            traceback = error.details.get("traceback")
            if isinstance(traceback, str):
                text(traceback.rstrip(), tag="pre")

    def clear(self) -> None:
        """Show nothing."""
        if not self._busy and not self._gone:
            self._clear()
            self._place.visible = False

    @property
    def _gone(self) -> bool:
        return self._place.is_deleted

    def _clear(self) -> None:
        self._place.clear()
        self._place.classes(remove="bad-news")
        self._place.visible = True

    def _closing(self) -> None:
        Button("×", self.clear, classes="plain", title="close")

    def _show_progress(self, what: str, stop: Handler | None) -> None:
        self._clear()
        with self._place:
            text(what, "mono")
            self._bar = box("progress", role="progressbar", aria_label=what)
            with self._bar:
                self._filled = box()
            self._filled.style("width: 0%")
            self._ticks = text("", "number soft")
            if stop is not None:
                Button("Stop", stop)
        self._told_at = 0.0

    def _told(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self._told_at + SHOWN_EVERY_S or self._gone:
            return
        self._told_at = now
        self._filled.style(f"width: {100 * done / max(total, 1):.1f}%")
        self._ticks.set_text(f"{done:,} / {total:,}")
