"""Signals to cells: sent only to a process that surely is one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

CELL = "snap-"


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal to a cell; return False where there is no such cell any more."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not Path(f"/proc/{pid}/comm").read_text().startswith(CELL):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except (FileNotFoundError, ProcessLookupError):
        return False
    finally:
        os.close(descriptor)
    return True
