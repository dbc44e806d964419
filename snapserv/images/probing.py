"""Where the kernel maps things in a process that begins with the loader: found out once, by trying."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import signal
import socket

from ..ext import LOADER
from .script import CONTROL, HOME, STACK_AT, Call, Script

_ABOVE = 64
_PROBES = 2
_LOOKING_S = 5.0


@functools.cache
def find_top() -> int | None:
    """Return below which address the kernel maps things in the loader; None where it is not always the same.

    Without randomisation of addresses it is: personality(2), ADDR_NO_RANDOMIZE, which some sandboxes refuse.

    Raises:
        OSError: The loader cannot be started.
    """
    tops = {_probe() for _ in range(_PROBES)}
    return tops.pop() if len(tops) == 1 else None


def _probe() -> int:
    """Return where a first mapping ends in a process that waits until it was looked at."""
    script = Script()
    script.call(Call.mmap, 0, 4096, 0, 0x22, -1, 0, why="a page anywhere")
    script.call(Call.sendto, CONTROL, script.data(b"."), 1, 0, 0, 0, why="saying so")
    script.call(Call.recvfrom, CONTROL, STACK_AT, 1, 0, 0, 0, why="waiting", may_fail=True)
    descriptor, _ = script.write(0)
    ours, theirs = socket.socketpair()
    with ours, contextlib.ExitStack() as closing:
        closing.callback(os.close, descriptor)
        moved = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _ABOVE + 2) for each in (descriptor, theirs.fileno())]
        for each in moved:
            closing.callback(os.close, each)
        theirs.close()
        pid = os.posix_spawn(
            LOADER,
            [LOADER, str(_ABOVE), str(_ABOVE + 1)],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, moved[number], _ABOVE + number) for number in range(2)],
        )
        try:
            ours.settimeout(_LOOKING_S)
            ours.recv(1)
            return _highest(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _highest(pid: int) -> int:
    """Return the end of the highest page that was mapped without permissions and above the loader."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            extent, permissions = line.split()[:2]
            start, end = (int(each, 16) for each in extent.split("-"))
            if start > HOME and permissions == "---p" and end - start == 4096:
                found = end
    return found
