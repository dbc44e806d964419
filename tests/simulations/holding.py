"""A simulation that keeps its state somewhere else than in private memory, or holds what no clone could have."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import mmap
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from snapserv import Simulation

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.shmat.restype = ctypes.c_void_p
MADV_WIPEONFORK = 18
NUMBER = struct.Struct("q")


class Holds(Simulation):
    """Adds up what it is given, in a place that ``what`` names; from the start, or from tick ``later`` on."""

    class Inputs(msgspec.Struct):
        by: int = 1

    def setup(self, what: str, folder: str = "", later: int = 0) -> None:
        self.what, self.folder, self.later = what, folder, later
        self.ticks = 0
        if not later:
            self.begin()

    def begin(self) -> None:
        self.place = getattr(self, f"make_{self.what}")()

    def step(self, inputs: Inputs) -> dict[str, int]:
        self.ticks += 1
        if self.ticks < self.later:
            return {"sum": 0}
        if self.ticks == self.later:
            self.begin()
        return {"sum": getattr(self, f"add_{self.what}", self.add)(inputs.by)}

    def add(self, by: int) -> int:
        """Add in what can be written like a sequence."""
        self.place[0] += by
        return int(self.place[0])

    # ------------------------------------------------------------------------------ places that become its own

    def make_map(self) -> Any:
        self.map = mmap.mmap(-1, 4096)
        return np.frombuffer(self.map, "i8")

    def make_array(self) -> Any:
        import multiprocessing

        return multiprocessing.RawArray("q", 4)

    def make_value(self) -> Any:
        import multiprocessing

        return multiprocessing.Value("q", 0)

    def add_value(self, by: int) -> int:
        with self.place.get_lock():
            self.place.value += by
            return int(self.place.value)

    def make_segment(self) -> Any:
        from multiprocessing import shared_memory

        self.segment = shared_memory.SharedMemory(create=True, size=4096)
        self.segment.unlink()
        return np.ndarray((4,), "i8", buffer=self.segment.buf)

    def make_mapped_file(self) -> Any:
        path = Path(self.folder, "mapped")
        path.write_bytes(bytes(4096))
        return np.memmap(path, "i8", mode="r+")

    def make_nameless(self) -> Any:
        return os.memfd_create("numbers")

    def make_temporary(self) -> Any:
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        return self.file.fileno()

    def make_removed(self) -> Any:
        path = Path(self.folder, "removed")
        self.file = path.open("w+b", buffering=0)
        path.unlink()
        return self.file.fileno()

    def add_nameless(self, by: int) -> int:
        held = os.pread(self.place, 8, 0)
        total = (NUMBER.unpack(held)[0] if held else 0) + by
        os.pwrite(self.place, NUMBER.pack(total), 0)
        return int(total)

    add_temporary = add_removed = add_nameless

    def make_listing(self) -> Any:
        for number in range(4000):
            Path(self.folder, f"{number:06}").touch()
        self.names: list[str] = []
        return os.scandir(self.folder)

    def add_listing(self, by: int) -> int:
        self.names += [next(self.place).name for _ in range(100 * by)]
        return len(set(self.names))

    def make_many_files(self) -> Any:
        path = Path(self.folder, "numbers")
        path.write_bytes(b"".join(map(NUMBER.pack, range(1000))))
        return [path.open("rb", buffering=0) for _ in range(300)]

    def add_many_files(self, by: int) -> int:
        return sum(NUMBER.unpack(file.read(8))[0] for file in self.place for _ in range(by))

    def make_tasks(self) -> Any:
        asyncio.set_event_loop(asyncio.new_event_loop())
        self.worked = 0

        async def work() -> None:
            while True:
                self.worked += 1
                await asyncio.sleep(0)

        return asyncio.get_event_loop().create_task(work())

    def add_tasks(self, by: int) -> int:
        loop = asyncio.get_event_loop()
        for _ in range(by):
            loop.run_until_complete(asyncio.sleep(0.001))
        return self.worked > 0 and not self.place.done()

    # -------------------------------------------------------------------------- what cannot be copied, by its kind

    def make_shared_with_a_child(self) -> Any:
        self.map = mmap.mmap(-1, 4096)
        self.child = os.fork()
        if not self.child:
            signal.pause()
        return np.frombuffer(self.map, "i8")

    def make_file_of_others(self) -> Any:
        return self.make_mapped_file()

    def make_mapped_twice(self) -> Any:
        file = os.memfd_create("ring")
        os.ftruncate(file, 4096)
        self.maps = [mmap.mmap(file, 4096) for _ in range(2)]
        return np.frombuffer(self.maps[0], "i8")

    def make_sysv(self) -> Any:
        segment = LIBC.shmget(0, 4096, 0o1600)
        address = LIBC.shmat(segment, None, 0)
        LIBC.shmctl(segment, 0, None)
        return (ctypes.c_int64 * 4).from_address(address)

    def make_pipe(self) -> Any:
        self.ends = os.pipe()
        return [0]

    def make_engine(self) -> Any:
        self.engine = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        return [0]

    def make_sockets(self) -> Any:
        self.ends = socket.socketpair()
        return [0]

    def make_listener(self) -> Any:
        self.listener = socket.create_server(("127.0.0.1", 0))
        return [0]

    def make_terminal(self) -> Any:
        self.ends = pty.openpty()
        return [0]

    def make_eventfd(self) -> Any:
        self.event = os.eventfd(1)
        return [0]

    def make_timerfd(self) -> Any:
        self.timer = LIBC.timerfd_create(1, 0)
        return [0]

    def make_signalfd(self) -> Any:
        self.signals = LIBC.signalfd(-1, ctypes.create_string_buffer(128), 0)
        return [0]

    def make_inotify(self) -> Any:
        self.changes = LIBC.inotify_init1(0)
        return [0]

    def make_epoll(self) -> Any:
        self.epoll = select.epoll()
        return [0]

    def make_lock(self) -> Any:
        self.file = Path(self.folder, "locked").open("w")  # noqa: SIM115
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return [0]

    def make_record_lock(self) -> Any:
        self.file = Path(self.folder, "locked").open("w")  # noqa: SIM115
        fcntl.lockf(self.file, fcntl.LOCK_EX)
        return [0]

    def make_left_out(self) -> Any:
        self.map = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.map.madvise(mmap.MADV_DONTFORK)
        return np.frombuffer(self.map, "i8")

    def make_emptied(self) -> Any:
        self.map = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.map.madvise(MADV_WIPEONFORK)
        return np.frombuffer(self.map, "i8")

    def make_timer(self) -> Any:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 3600)
        return [0]

    def make_own_timer(self) -> Any:
        timer = ctypes.c_void_p()
        assert LIBC.timer_create(1, None, ctypes.byref(timer)) == 0
        return [0]

    def make_nothing(self) -> Any:
        """Hold what holds nothing: devices of memory, files that are only read, a lock that was given back."""
        self.files = [open("/dev/null", "wb"), open("/dev/urandom", "rb"), open(__file__, "rb")]  # noqa: SIM115
        self.path = os.open(self.folder or "/", os.O_PATH)
        self.child = os.pidfd_open(os.getpid())
        return [0]


class Waits(Simulation):
    """Waits, from the second tick on, for what only its original has: a byte that came once."""

    allow = ("pipes",)

    def setup(self) -> None:
        self.reading, writing = os.pipe()
        os.write(writing, b"..")
        self.ticks = 0

    def step(self, inputs: Any) -> dict[str, int]:
        os.read(self.reading, 1)
        self.ticks += 1
        return {"ticks": self.ticks}
