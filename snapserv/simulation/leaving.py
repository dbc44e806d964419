"""How a cell ends by itself: at once, with what it has written, and without the exit handlers of its simulator."""

from __future__ import annotations

import os
from typing import NoReturn

from ..errors import SimulationError
from ..ext import fork
from . import writers


def leave(status: int) -> NoReturn:
    """End this process without the exit handlers of the simulator: they belong to all of its relatives."""
    flush()
    os._exit(status)


def flush() -> Exception | None:
    """Write what is buffered, in Python or in C; return what kept some of it from being written.

    Two processes would write it otherwise, and one that is ended would not.
    """
    fork.flush_standard_files()
    return writers.flush() if writers.NOTED else None


def flush_all() -> None:
    """Write what is buffered before this process is copied.

    Raises:
        SimulationError: Some of it cannot be written, and each copy would try to.
    """
    failed = flush()
    if failed is not None:
        raise SimulationError(
            f"what is buffered for a file cannot be written: {failed}",
            hint="a copy of it would be written by every branch: make room, or close the file",
        )
