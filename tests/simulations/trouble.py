"""A simulation that fails in every way that matters, at a tick that is named."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import os
import signal
import stat
import threading
import time
from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported


class Trouble(Simulation):
    """Fails as it is told to, at a tick that is named."""

    count = Field("i8")
    pages = Field("u1", shape=("pages", 4096))

    class Inputs(msgspec.Struct):
        how: str = ""
        at: int = 0

    def setup(self, pages: int = 4, how: str = "") -> None:
        if how:
            self.fail(how)

    def step(self, inputs: Inputs) -> None:
        if inputs.how and int(self.count) + 1 == inputs.at:
            self.fail(inputs.how)
        self.count += 1

    @exported
    def fail(self, how: str) -> None:
        """Fail: the name says how."""
        match how:
            case "raise":
                raise ValueError("told to raise")
            case "segfault":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(1000)
            case "exit":
                raise SystemExit(7)
            case "sleep":
                time.sleep(3600)
            case "threads":
                threading.Thread(target=threading.Event().wait, name="pool-worker", daemon=True).start()
            case "unsendable":
                raise AssertionError("use give_object")
            case "close-everything":
                os.closerange(3, 256)

    @exported
    def garble(self, content: bytes) -> None:
        """Write into every socket that there is, as if it were one of the simulation's own."""
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the listing's own is closed by now
                if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                    os.write(int(name), content)

    @exported
    def give_object(self) -> Any:
        """Return something that no message can carry."""
        return object()

    @exported
    def give(self, what: str) -> Any:
        """Return something that looks as if it could be sent, and cannot."""
        return {
            "tuple key": {(1, 2): 3},
            "date": datetime.date(2020, 1, 1),
            "duration": datetime.timedelta(1),
            "objects": np.array([object()]),
            "large": 1 << 80,
            "set": {1},
        }[what]

    @exported
    def touch(self, first: int, last: int, value: int) -> None:
        """Write ``value`` into pages."""
        self.pages[first:last] = value
