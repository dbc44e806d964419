"""How the server's log looks: lines for people, or JSON for programs; always on stderr.

Writing a line may take as long as its reader likes: a pipe is full, a terminal is stopped, a disk is slow. So a
thread of its own writes them, and nobody waits for it; what it cannot keep up with is lost, and counted.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TextIO, cast

import structlog
from snapserv_client.terminal import escaped

log = structlog.get_logger(__name__)

cause: ContextVar[Callable[[], dict[str, Any]] | None] = ContextVar("cause", default=None)
"""Gives what a line is to say of why it is there, such as the request that is served; asked only for a line."""

of_each_request = True
"""Whether there are lines of requests that went well: whoever would write one asks this first, which costs less."""

MOST_WAITING = 10_000
LAST_LINES_WITHIN_S = 2.0


class Lines:
    """A stream whose lines are written by a thread, which starts with the first of them.

    Its reader may go away, or its disk fill up: the server lives on without a log. ``lost`` counts lines that were
    not written, until one can be that says so.

    Args:
        descriptor: Where to write.
        encoding: Of what is written; letters that it has not are escaped.
    """

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._waiting: queue.Queue[str | threading.Event] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self.lost = 0

    def write(self, text: str) -> int:
        """Have a line written soon, or lost where too many wait."""
        if self._thread is None:
            # A daemon: one that a full pipe holds up must not hold up the end of the process as well.
            self._thread = threading.Thread(target=self._write_all, name="snapserv-log", daemon=True)
            self._thread.start()
            atexit.register(self.close)
        if threading.current_thread() is self._thread:
            self._put_out(text)  # its own word, of lines that were lost
            return len(text)
        try:
            self._waiting.put_nowait(text)
        except queue.Full:
            self.lost += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: nobody waits for lines."""

    def close(self) -> None:
        """Wait a moment for the last lines to be written."""
        written = threading.Event()
        with contextlib.suppress(queue.Full):
            self._waiting.put(written, timeout=LAST_LINES_WITHIN_S)
            written.wait(LAST_LINES_WITHIN_S)

    def _write_all(self) -> None:
        while True:
            line = self._waiting.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            if self._put_out(line) and self.lost:
                lost, self.lost = self.lost, 0
                log.warning("log_lines_lost", lines=lost)

    def _put_out(self, text: str) -> bool:
        # Past Python's own streams, whose locks a stuck thread would hold when the interpreter ends.
        data = text.encode(self._encoding, errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self.lost += 1
            return False
        return True


def configure(*, as_json: bool, quiet: bool = False, verbose: bool = False) -> None:
    """Set structlog up for this process.

    Args:
        as_json: For programs; lines for people otherwise.
        quiet: Leave only warnings and errors.
        verbose: Say of every request, fork and event as well.
    """
    shape: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if as_json
        else [_show_controls, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    global of_each_request
    of_each_request = verbose and not quiet
    least = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    stream = _stream()
    structlog.configure(
        processors=[
            _name_cause,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S"),
            *shape,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=stream is not sys.stderr,  # which its owner may close and replace,
    )


def _name_cause(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    asked = cause.get()
    return event if asked is None else {**asked(), **event}


def _show_controls(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Have what a simulation says of itself be shown by a terminal and not obeyed, and stay on its line."""
    return {name: escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _stream() -> TextIO:
    try:
        return cast(TextIO, Lines(sys.stderr.fileno(), sys.stderr.encoding))
    except io.UnsupportedOperation:
        return sys.stderr  # somebody's own, in memory: it keeps nobody waiting
