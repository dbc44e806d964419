"""An archiver, seen from the server: what it is asked, one thing after another, and its answers to come."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import StoreUnavailableError, error_from_wire
from .link import receive, send

LINK = 3
_AWAY = 16


class Archiver:
    """A process that works on a store for this server. It is started when it is first asked, and again if it dies.

    Args:
        store: The store's folder or URL.
        nice: How much it yields to others.
        bytes_per_s: How fast it writes at most; without a bound for None.
        on_process: Called with its process id, and whether it has begun, or has ended and was reaped.
    """

    def __init__(
        self,
        store: str,
        *,
        nice: int,
        bytes_per_s: float | None,
        on_process: Callable[[int, bool], None],
    ) -> None:
        self._command = [sys.executable, "-P", "-m", "snapserv.archiver", store, "--nice", str(nice)]
        self._command += [] if bytes_per_s is None else ["--bytes-per-s", str(bytes_per_s)]
        self._on_process = on_process
        self._thread = ThreadPoolExecutor(1, "snapserv-archiver")
        self._loop = asyncio.get_running_loop()
        self._link: socket.socket | None = None
        self.pid = 0
        self.waiting = 0

    async def ask(
        self, op: str, descriptors: Sequence[int] = (), **arguments: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """Have something done; return what came of it, and descriptors, which are the caller's.

        Args:
            op: What; see `snapserv.archiver.work.Archive`.
            descriptors: What it needs, closed here.
            arguments: Plain values.

        Raises:
            SnapservError: What came in between.
            StoreUnavailableError: The archiver has ended.
        """
        self.waiting += 1
        try:
            return await asyncio.shield(
                self._loop.run_in_executor(self._thread, self._ask, {"op": op, **arguments}, list(descriptors))
            )
        finally:
            self.waiting -= 1

    async def close(self) -> None:
        """Have it end when it has done what it was asked."""
        await self._loop.run_in_executor(self._thread, self._end)
        self._thread.shutdown()

    def kill(self) -> None:
        """End it now: who waits for it is told."""
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.shutdown(socket.SHUT_RDWR)

    # ------------------------------------------------------------------------------------------- in the thread

    def _ask(self, request: dict[str, Any], descriptors: list[int]) -> tuple[dict[str, Any], list[int]]:
        try:
            link = self._link or self._start()
            try:
                send(link, request, descriptors)
                reply, attached = receive(link)
            except (EOFError, OSError) as cause:
                self._end()
                raise StoreUnavailableError(
                    "the archiver ended while it was asked something",
                    hint="what was saved before is there; try again",
                ) from cause
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if "error" in reply:
            for descriptor in attached:
                os.close(descriptor)
            raise error_from_wire(reply["error"])
        return reply["ok"], attached

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                away = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _AWAY)
            try:
                pid = os.posix_spawn(
                    sys.executable,
                    self._command,
                    dict(os.environ),
                    file_actions=[(os.POSIX_SPAWN_DUP2, away, LINK)],
                    setpgroup=0,
                )
            finally:
                os.close(away)
        except OSError as cause:
            ours.close()
            raise StoreUnavailableError(f"the archiver cannot be started: {cause.strerror}") from cause
        self._link, self.pid = ours, pid
        self._on_process(pid, True)
        return ours

    def _end(self) -> None:
        if self._link is None:
            return
        self._link.close()
        self._link = None
        os.waitpid(self.pid, 0)
        self._on_process(self.pid, False)
        self.pid = 0
