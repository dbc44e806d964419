"""The files that a simulation writes through Python's buffers: known from when they are opened, to be flushed.

What stands in a buffer when a process is copied is written by each of the copies, and lost where one is ended.
Python keeps no list of its files, and a descriptor does not tell who buffers for it. So `open` notes what it gives.
"""

from __future__ import annotations

import _io
import builtins
import io
import sys
import weakref
from types import ModuleType
from typing import Any

FILES: type = _io._IOBase
"""What files that buffer are instances of, in the eyes of C: `io.IOBase` is above it."""
UNBUFFERED = (io.RawIOBase, io.BytesIO, io.StringIO)

NOTED: dict[int, weakref.ref[Any]] = {}
"""By id. No WeakSet, of which asking whether it is empty runs Python: each reply asks."""
_PLAIN = io.open


class _Open:
    """`open`, for as long as this process lives; no function, which would become a method in a class's body."""

    __module__ = "io"
    __name__ = __qualname__ = "open"
    __doc__ = _PLAIN.__doc__
    __wrapped__ = _PLAIN

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        opened = _PLAIN(*args, **kwargs)
        note(opened)
        return opened

    def __reduce__(self) -> str:
        return "open"


def watch() -> None:
    """Note the files that are opened from now on in this process, by whatever name `open` is called."""
    noting: Any = _Open()
    for module in list(sys.modules.values()):
        if type(module) is ModuleType:
            for name in [name for name, value in vars(module).items() if value is _PLAIN]:
                if vars(module) is not globals():
                    setattr(module, name, noting)
    builtins.open = noting


def note(opened: Any) -> None:
    """Note a file, if it is one that buffers what is written."""
    if isinstance(opened, UNBUFFERED):
        return
    try:
        if opened.writable():
            _keep(opened)
            buffer = getattr(opened, "buffer", None)
            if buffer is not None:
                _keep(buffer)  # which outlives it, where it is detached
    except (ValueError, TypeError):
        return  # it is closed, or nothing that can be noted


def _keep(opened: Any) -> None:
    number = id(opened)
    NOTED[number] = weakref.ref(opened, lambda gone: _forget(number, gone))


def _forget(number: int, gone: weakref.ref[Any]) -> None:
    if NOTED.get(number) is gone:  # and not another file that has the place of this one
        del NOTED[number]


def flush() -> Exception | None:
    """Write what is buffered; return what kept some of it from being written: that is tried again the next time."""
    failed: Exception | None = None
    for each in tuple(NOTED.values()):
        writer = each()
        try:
            if writer is not None and not writer.closed:
                writer.flush()
        except ValueError:
            continue  # it was detached: its buffer is one of the others
        except Exception as error:  # noqa: BLE001 - a class by others may raise anything
            failed = error
    return failed
