"""Simulations that hold what an image must bring back, and what no image can."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import select
import signal
import socket
import sqlite3
import zlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from snapserv import Field, Simulation


class Rich(Simulation):
    """Keeps its state in C, in objects, in generators, in open files, and in memory that is mapped in each tick."""

    total = Field("f8")

    def setup(self, folder: str, seed: int = 0) -> None:
        random.seed(seed)
        with open(f"{folder}/data", "wb") as data:
            data.write(np.arange(100_000, dtype="<i8").tobytes())
        self.data = open(f"{folder}/data", "rb", buffering=0)  # noqa: SIM115 - open for life
        self.again = os.dup(self.data.fileno())
        self.folder = os.open(folder, os.O_RDONLY)
        self.nothing = open("/dev/null", "wb")  # noqa: SIM115
        self.base = sqlite3.connect(":memory:")
        self.base.execute("CREATE TABLE seen (step INTEGER, value REAL)")
        self.packer, self.hash = zlib.compressobj(), hashlib.sha256()
        self.objects = {object() for _ in range(100)}
        self.libc = ctypes.CDLL(None)
        self.libc.srand(seed + 1)
        self.caught = 0
        signal.signal(signal.SIGUSR1, self._catch)
        os.chdir(folder)
        os.umask(0o027)
        self.fibonacci = self._fibonacci()

    def _catch(self, *_: object) -> None:
        self.caught += 1

    def _fibonacci(self) -> Any:
        a, b = 0, 1
        while True:
            yield a
            a, b = b, (a + b) % 1_000_003

    def step(self, inputs: Any) -> dict[str, Any]:
        fresh = np.full((1 << 22) + random.randrange(1 << 20), random.random())  # mapped for itself
        os.kill(os.getpid(), signal.SIGUSR1)
        value = random.random()
        self.base.execute("INSERT INTO seen VALUES (?, ?)", (self.caught, value))
        self.hash.update(self.packer.compress(bytes(random.randbytes(1000))))
        self.objects.add(object())
        self.objects.pop()
        outputs = {
            "value": value,
            "where": fresh.ctypes.data,
            "ids": sum(map(id, self.objects)),
            "sum": float(fresh[::4096].sum()),
            "file": int.from_bytes(os.read(self.again if self.caught % 2 else self.data.fileno(), 8), "little"),
            "rows": self.base.execute("SELECT COUNT(*), SUM(value) FROM seen").fetchone(),
            "hash": self.hash.hexdigest(),
            "fibonacci": next(self.fibonacci),
            "rand": self.libc.rand(),
            "rng": float(self.rng.random()),
            "caught": self.caught,
            "folder": os.getcwd(),
            "umask": os.umask(os.umask(0o077)) or os.umask(0o027),
            "thread": self.libc.syscall(186) == os.getpid(),
        }
        self.total += value
        return outputs


def _eventfd() -> object:
    return os.eventfd(0)


def _epoll() -> object:
    return select.epoll()


OBSTACLES: dict[str, tuple[str, Callable[[], object]]] = {
    "pipe": ("open_pipe", os.pipe),
    "socket": ("open_socket", socket.socketpair),
    "eventfd": ("open_kernel_object", _eventfd),
    "epoll": ("open_kernel_object", _epoll),
}
"""What can be held: the word for why it does not last, and how it is made."""


class Holding(Simulation):
    """Holds one thing that does not last, and is let do so."""

    allow: ClassVar[tuple[str, ...]] = ("pipes", "sockets", "events", "shared_memory", "timers")

    def setup(self, what: str) -> None:
        self.held = OBSTACLES[what][1]()

    def step(self, inputs: Any) -> None: ...
