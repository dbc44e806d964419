"""How a cell ends by itself: at once, with what it has printed, and without the exit handlers of its simulator."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """End this process without the exit handlers of the simulator: they belong to all of its relatives."""
    flush()
    os._exit(status)


def flush() -> None:
    """Write what is buffered, which two processes would print otherwise."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # a closed or full terminal must not end a simulation
