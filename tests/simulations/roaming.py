"""Simulations that keep state wherever a process can, to be taken back."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation

from .. import refuse

CLONE3, IO_SETUP = {"x86_64": (435, 206), "aarch64": (435, 0)}[platform.machine()]


CLONE_NEWUTS, ADDR_NO_RANDOMIZE, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 0x04000000, 0x0040000, 29, 30


def _count_open() -> int:
    """Count descriptors, but for that of the cell's registration: a child that is a clone may have one."""
    found = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sum("userfaultfd" not in os.readlink(each) for each in found if os.path.lexists(each))


class Roams(Simulation):
    """Keeps state wherever a process can, and changes any of it, and of what the kernel holds, as it is told to."""

    value = Field("f8", shape=(5000,))
    begun = Field("i8")

    class Inputs(msgspec.Struct):
        how: str = ""
        ballast: Any = None

    def setup(self, holds: str = "") -> None:
        self.log: list[float] = []
        self.moved = False
        self.file = open(__file__, "rb", buffering=0)  # noqa: SIM115 - it stays open, at a position of its own
        self.memory = mmap.mmap(-1, 64 * mmap.PAGESIZE, mmap.MAP_PRIVATE)
        self.memory[:] = bytes(range(256)) * (len(self.memory) // 256)
        self.spare = mmap.mmap(-1, 16 * mmap.PAGESIZE, mmap.MAP_PRIVATE)
        self.spare[:] = b"s" * len(self.spare)
        self.large = np.arange(1 << 20)
        with open(__file__, "rb") as text:
            self.text = mmap.mmap(text.fileno(), 0, mmap.MAP_PRIVATE)
        self.held = os.pipe() if holds == "pipe" else None
        if holds == "limit":
            resource.setrlimit(resource.RLIMIT_CPU, (1000, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        self.other = open(__file__, "rb", buffering=0)  # noqa: SIM115
        self.same = os.dup(self.file.fileno())
        self.merging = mmap.mmap(-1, 256 * mmap.PAGESIZE, mmap.MAP_PRIVATE)
        self.merging[:] = b"k" * len(self.merging)
        if holds == "equal pages":
            self.merging.madvise(mmap.MADV_MERGEABLE)
        self.c = ctypes.CDLL(None)
        for function in (self.c.malloc, self.c.realloc):
            function.restype = ctypes.c_void_p
        self.c.realloc.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        self.c.free.argtypes = (ctypes.c_void_p,)
        self.c.memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
        self.c.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self.c.srand(1)
        self.blocks = [(self.c.malloc(size), size) for size in (4 << 20, 8 << 20)]
        for number, (block, size) in enumerate(self.blocks):
            self.c.memset(block, number + 1, size)
        self.zeros = np.zeros(1 << 23)
        signal.signal(signal.SIGUSR2, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        self.c.sbrk.restype = ctypes.c_void_p
        self.c.sbrk.argtypes = (ctypes.c_ssize_t,)
        self.heap: int | None = -(-self.c.sbrk(1 << 20) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.c.memset(self.heap, 5, 1 << 19)

    def on_branch(self, seed: int | None) -> None:
        self.begun += 1

    def step(self, inputs: Inputs) -> dict[str, Any]:
        if inputs.how:
            getattr(self, f"_{inputs.how}")()
        self.value[self.rng.integers(0, 5000, 20)] += self.rng.random() + random.random()
        self.log.append(float(self.value.sum()))
        return {
            "sum": self.log[-1],
            "drawn": self.c.rand(),
            "logged": len(self.log),
            "begun": int(self.begun),
            "read": self.file.read(10),
            "memory": hash(bytes(self.memory)),
            "spare": None if self.spare.closed else hash(bytes(self.spare)),
            "large": None if self.large is None else int(self.large.sum()),
            "text": hash(bytes(self.text)),
            "blocks": [hash(ctypes.string_at(block, min(size, 4 << 20))) for block, size in self.blocks],
            "thread": self.c.pthread_kill(ctypes.c_ulong(threading.get_ident()), 0),
            "open": _count_open(),
            "folder": os.getcwd(),
            "on_signal": getattr(signal.getsignal(signal.SIGUSR1), "__qualname__", None),
            "modules": len(sys.modules),
            "threads": threading.active_count(),
            "other": self.other.read(10),
            "same": os.read(self.same, 10),
            "merging": hash(bytes(self.merging)),
            "pending": len(signal.sigpending()),
            "heap": self.heap and hash(ctypes.string_at(self.heap, 1 << 19)),
            "persona": self.c.personality(0xFFFFFFFF),
            "host": socket.gethostname(),
            "scheduler": os.sched_getscheduler(0),
            "slack": self.c.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0),
            "filters": [line for line in Path("/proc/self/status").read_text().splitlines() if "Seccomp" in line],
        }

    def _address(self, memory: mmap.mmap) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))

    # What goes back.

    def _fill(self) -> None:
        self.log += list(np.arange(500_000.0))
        self.grown = {number: str(number) for number in range(200_000)}

    def _allocate(self) -> None:
        for size in (1 << 26, *[1 << 16] * 500):
            self.c.memset(self.c.malloc(size), 1, size)

    def _overwrite(self) -> None:
        self.memory[:] = b"o" * len(self.memory)

    def _map(self) -> None:
        self.maps = [mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE) for _ in range(20)]
        for each in self.maps:
            each[:] = b"m" * len(each)

    def _forget(self) -> None:
        self.memory.madvise(mmap.MADV_DONTNEED)

    def _forget_and_look(self) -> None:
        self.memory.madvise(mmap.MADV_DONTNEED)
        assert not any(bytes(self.memory))

    def _forget_and_write(self) -> None:
        self.memory.madvise(mmap.MADV_DONTNEED)
        self.memory[:: 2 * mmap.PAGESIZE] = b"w" * 32

    def _seek(self) -> None:
        self.file.seek(1000)

    def _load(self) -> None:
        import sqlite3

        self.loaded = sqlite3.connect(":memory:").execute("select 1").fetchall()

    def _open_and_close(self) -> None:
        with open(__file__) as file:
            file.readlines()

    def _guard(self) -> None:
        address, size = self._address(self.memory), len(self.memory)
        assert self.c.mprotect(address, size, mmap.PROT_READ) == 0
        assert self.c.mprotect(address, size, mmap.PROT_READ | mmap.PROT_WRITE) == 0
        self.memory[0] = 7

    def _unmap(self) -> None:
        self.spare.close()

    def _protect(self) -> None:
        self.c.mprotect(self._address(self.spare), len(self.spare), mmap.PROT_READ)

    def _free(self) -> None:
        self.large = None
        self.log += [float(number) for number in range(300_000)]
        del self.log[-300_000:]

    def _patch(self) -> None:
        self.text[100] = 0

    def _reallocate(self) -> None:
        if len(self.blocks) == 1:
            return
        (small, size), (large, freed) = self.blocks
        self.c.free(large)
        # The kernel moves its pages into the hole, and copies none.
        self.blocks = [(self.c.realloc(small, freed), size)]

    def _move_pages(self) -> None:
        if self.moved:
            return
        self.moved = True
        self.c.mremap.restype = ctypes.c_void_p
        maymove, fixed, size = 1, 2, len(self.spare) // 2
        old, new = self._address(self.spare), self._address(self.memory)
        moved = self.c.mremap(*map(ctypes.c_void_p, (old, size, size, maymove | fixed, new)))
        assert moved == new
        self.c.mmap.restype = ctypes.c_void_p
        again = self.c.mmap(
            *map(ctypes.c_void_p, (old, size, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10, -1, 0))
        )
        assert again == old

    def _look_at_zeros(self) -> None:
        assert not self.zeros.any()

    def _read_in(self) -> None:
        with open(__file__, "rb", buffering=0) as file:
            assert file.readinto(self.memory) > mmap.PAGESIZE, "the kernel writes them, and no instruction of ours"

    def _grow_heap(self) -> None:
        self.c.sbrk.restype = ctypes.c_void_p
        grown = self.c.sbrk(ctypes.c_long(1 << 21))
        self.c.memset(ctypes.c_void_p(grown), 1, 1 << 21)

    def _map_and_unmap(self) -> None:
        """Have as many pages mapped as before, and others: of a kind that can be mapped again."""
        self.spare.close()
        self.maps = [mmap.mmap(-1, 16 * mmap.PAGESIZE, mmap.MAP_PRIVATE)]

    def _compact(self) -> None:
        Path("/proc/sys/vm/compact_memory").write_text("1")

    # What does not.

    def _limit(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))

    def _append(self) -> None:
        fcntl.fcntl(self.file, fcntl.F_SETFL, os.O_APPEND)

    def _lock(self) -> None:
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def _pin(self) -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    def _handle_otherwise(self) -> None:
        self.c.signal(signal.SIGUSR2, ctypes.c_void_p(ctypes.cast(self.c.abort, ctypes.c_void_p).value))

    def _be_nice(self) -> None:
        os.nice(1)

    def _open(self) -> None:
        self.opened = os.open(__file__, os.O_RDONLY)

    def _connect(self) -> None:
        self.ends = socket.socketpair()

    def _swap(self) -> None:
        other = os.open("/dev/null", os.O_RDONLY)
        os.dup2(other, self.file.fileno())
        os.close(other)

    def _run_thread(self) -> None:
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()

    def _run_process(self) -> None:
        subprocess.run(["true"], check=True)

    def _move(self) -> None:
        os.chdir("/")

    def _handle(self) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: None)

    def _wake_me(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 3600)

    def _pend(self) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    def _share(self) -> None:
        os.dup2(self.file.fileno(), self.other.fileno(), inheritable=False)

    def _part(self) -> None:
        apart = os.open(__file__, os.O_RDONLY)
        os.dup2(apart, self.same, inheritable=False)
        os.close(apart)

    def _ask(self) -> None:
        context = ctypes.c_ulong()
        assert self.c.syscall(IO_SETUP, 8, ctypes.byref(context)) == 0

    def _leave_a_child(self) -> None:
        assert self.c.syscall(CLONE3, (ctypes.c_uint64 * 8)(), 64) != 0 or self.c._exit(0)

    def _pierce(self) -> None:
        assert self.heap is not None
        assert self.c.munmap(ctypes.c_void_p(self.heap), ctypes.c_size_t(1 << 16)) == 0
        self.heap = None

    def _persona(self) -> None:
        assert self.c.personality(ADDR_NO_RANDOMIZE) != -1

    def _rename_host(self) -> None:
        assert self.c.unshare(CLONE_NEWUTS) == 0
        socket.sethostname("elsewhere")

    def _be_a_batch(self) -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    def _slacken(self) -> None:
        assert self.c.prctl(PR_SET_TIMERSLACK, 123456, 0, 0, 0) == 0

    def _filter(self) -> None:
        refuse.install("process_vm_readv")

    def _merge(self) -> None:
        self.merging[: 128 * mmap.PAGESIZE] = b"K" * 128 * mmap.PAGESIZE

    def _protect_text(self) -> None:
        self.c.mprotect(self._address(self.text), len(self.text), mmap.PROT_READ)

    # What ends it.

    def _segfault(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def _raise(self) -> None:
        raise RuntimeError("as told")

    def _dawdle(self) -> None:
        time.sleep(0.05)


class Compiles(Roams):
    """Has memory that is written while it is made, as code is by a compiler, and cannot be afterwards."""

    def setup(self) -> None:
        super().setup()
        self.c.mprotect(self._address(self.spare), len(self.spare), mmap.PROT_READ)

    def _compile(self) -> None:
        address, size = self._address(self.spare), len(self.spare)
        self.c.mprotect(address, size, mmap.PROT_READ | mmap.PROT_WRITE)
        self.c.memset(address, 1, 100)
        self.c.mprotect(address, size, mmap.PROT_READ)
