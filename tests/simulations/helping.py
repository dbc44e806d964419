"""A simulation whose branches have helpers: processes that they fork, and that do part of the work."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from snapserv import Field, Simulation


def add(pipe: Connection) -> None:
    """Sum what comes, and say so."""
    total = 0
    while True:
        total += pipe.recv()
        pipe.send(total)


class Helped(Simulation):
    """Counts, with the help of a process that each branch starts for itself."""

    allow = ("sockets", "pipes")
    value = Field("i8")

    class Inputs(msgspec.Struct):
        by: int = 1

    def setup(self) -> None:
        self.pipe: Connection | None = None

    def on_branch(self, seed: int | None) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.helper = multiprocessing.get_context("fork").Process(target=add, args=(theirs,), daemon=True)
        self.helper.start()
        theirs.close()

    def step(self, inputs: Inputs) -> dict[str, Any]:
        assert self.pipe is not None
        self.pipe.send(inputs.by)
        self.value = self.pipe.recv()
        return {"value": int(self.value), "helper": self.helper.pid, "pid": os.getpid()}
