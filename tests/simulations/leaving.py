"""A simulation whose branches start processes of every kind, and do not see to their end."""

from __future__ import annotations

import os
import subprocess
import time
from multiprocessing import resource_tracker, shared_memory
from typing import Any

import msgspec

from snapserv import Field, Simulation, exported

SLEEP = ["sleep", "600"]


class Leaving(Simulation):
    """Starts processes, and may fail."""

    value = Field("i8")

    class Inputs(msgspec.Struct):
        how: str = ""

    def step(self, inputs: Inputs) -> dict[str, Any]:
        if inputs.how == "raise":
            raise ValueError("told to raise")
        if inputs.how == "crash":
            os.abort()
        self.value += 1
        return {}

    @exported
    def start(self, keep: bool = False, bare: bool = False) -> int:
        """Start a process in the usual way, with this one's environment or none; return its number."""
        environment = {} if bare else {**os.environ, **({"SNAPSERV_KEEP": "1"} if keep else {})}
        self.started = subprocess.Popen(SLEEP, env=environment)
        return self.started.pid

    @exported
    def fork(self, stubborn: bool = False) -> int:
        """Fork a process that sleeps, and may not want to be ended."""
        pid = os.fork()
        if not pid:
            if stubborn:
                os.execvp("sh", ["sh", "-c", "trap '' TERM; while true; do sleep 1; done"])
            time.sleep(600)
            os._exit(0)
        return pid

    @exported
    def daemon(self) -> int:
        """Start a daemon: a process of a session of its own, whose parent has ended."""
        reader, writer = os.pipe()
        middle = os.fork()
        if not middle:
            os.setsid()
            pid = os.fork()
            if not pid:
                os.execvp(SLEEP[0], SLEEP)
            os.write(writer, b"%d" % pid)
            os._exit(0)
        os.close(writer)
        os.waitpid(middle, 0)
        with os.fdopen(reader) as told:
            return int(told.read())

    @exported
    def share(self) -> int:
        """Make shared memory and remove it; return which process would have seen to that otherwise."""
        memory = shared_memory.SharedMemory(create=True, size=100)
        memory.close()
        memory.unlink()
        tracker: Any = resource_tracker._resource_tracker
        return int(tracker._pid)
