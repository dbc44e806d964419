"""A server with a store that is killed with all its cells, and one that goes on where it stopped."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snapserv_client import Server

from ..conftest import ServerProcess, assert_settles, session_processes, start_server


class Lives:
    """One store, and one server after the other."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.options = options
        self.process: ServerProcess | None = None
        self._number = 0
        self._again: Callable[[], ServerProcess]

    def begin(self, *targets: str, options: tuple[str, ...] = (), **how: Any) -> Server:
        """Start a server; without a target one that goes on."""
        self._number += 1
        place = self.folder / str(self._number)
        place.mkdir()
        store = ("--store", str(self.store))
        every = (*store, *self.options, *options)
        self._again = functools.partial(start_server, place, *targets, options=every, **how)
        self.process = self._again()
        return self.process.connect()

    def kill_all(self) -> None:
        """Kill the server and all that it has started, as a machine that loses its power would."""
        assert self.process is not None
        pids = [self.process.pid, *session_processes(self.process.pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.end(signal.SIGKILL)
        assert_settles(lambda: [pid for pid in pids[1:] if _lives(pid)], [])

    def drop_caches(self) -> None:
        """Have the kernel forget what it has read of files, if this user may."""
        with contextlib.suppress(PermissionError):
            Path("/proc/sys/vm/drop_caches").write_text("3")

    def kill_server(self) -> None:
        """Kill the server alone: its cells wait for the next one."""
        assert self.process is not None
        self.process.end(signal.SIGKILL)

    def rise(self) -> Server:
        """Start the next server at the same address, as the last one was started."""
        self.process = self._again()
        return self.process.connect()

    def end(self) -> None:
        """End the server as it should."""
        assert self.process is not None
        assert self.process.end() == 0, self.process.log.read_text()

    def close(self) -> None:
        """End whatever runs."""
        if self.process is not None and self.process.process.poll() is None:
            self.end()

    @property
    def log(self) -> str:
        """What the server has logged."""
        assert self.process is not None
        return self.process.log.read_text()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
