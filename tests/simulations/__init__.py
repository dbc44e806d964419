"""Simulations that the tests serve: small, deterministic, and able to fail in every way that matters."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import mmap
import os
import platform
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported

from .. import refuse

CLONE3, IO_SETUP = {"x86_64": (435, 206), "aarch64": (435, 0)}[platform.machine()]
CLONE_NEWUTS, ADDR_NO_RANDOMIZE, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 0x04000000, 0x0040000, 29, 30


def _private_kib() -> int:
    with open("/proc/self/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_Dirty"))


class Walk(Simulation):
    """A random walk of many walkers."""

    position = Field("f8", shape=("cols",), units="m", doc="where each walker stands")
    count = Field("i8", doc="ticks so far")

    class Inputs(msgspec.Struct):
        drift: float = 0.0

    def setup(self, cols: int = 1000, seed: int = 0) -> None:
        self.history: list[int] = []

    def step(self, inputs: Inputs) -> dict[str, Any]:
        self.position += self.rng.standard_normal(self.position.size) + inputs.drift
        self.count += 1
        self.history.append(int(self.count))
        return {"mean": float(self.position.mean()), "count": int(self.count)}

    @exported
    def total(self) -> float:
        """Return the sum of all positions."""
        return float(self.position.sum())

    @exported
    def echo(self, value: Any) -> Any:
        """Return what was given."""
        return value

    @exported
    def past(self) -> list[int]:
        """Return the ticks that this branch remembers in its Python heap."""
        return self.history

    @exported
    def process(self) -> dict[str, int]:
        """Return who runs this."""
        return {"pid": os.getpid(), "parent": os.getppid(), "thread": threading.get_native_id()}

    @exported
    def grow(self, objects: int) -> None:
        """Put many small objects that the collector looks at on the Python heap."""
        self.kept = [[number] for number in range(objects)]

    @exported
    def collect(self) -> int:
        """Run the collector; return the KiB of memory that it had copied."""
        before = _private_kib()
        gc.collect()
        return _private_kib() - before

    def hidden(self) -> None:
        """Not exported."""


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
            case "exit":
                raise SystemExit(7)
            case "hang":
                while True:
                    pass
            case "sleep":
                time.sleep(3600)
            case "threads":
                threading.Thread(target=threading.Event().wait, name="pool-worker", daemon=True).start()
            case "unsendable":
                raise AssertionError("use give_object")
            case "close-everything":
                os.closerange(3, 256)

    @exported
    def give_object(self) -> Any:
        """Return something that no message can carry."""
        return object()

    @exported
    def give(self, what: str) -> Any:
        """Return something that looks as if it could be sent, and cannot."""
        return {
            "tuple key": {(1, 2): 3},
            "date": np.datetime64("2020-01-01"),
            "duration": np.timedelta64(1, "s"),
            "complex": np.complex64(1j),
            "long": np.longdouble(1),
            "large": 1 << 80,
            "set": {1},
        }[what]

    @exported
    def touch(self, first: int, last: int, value: int) -> None:
        """Write ``value`` into pages."""
        self.pages[first:last] = value


class Heap(Simulation):
    """Keeps its state where only a fork finds it: generators, the random module, an open file, C state."""

    total = Field("f8")

    def setup(self, seed: int = 0) -> None:
        random.seed(seed)
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - open for life, as engines keep their data files
        self.file.write(np.arange(100_000, dtype="<i8").tobytes())
        self.file.seek(0)
        self.fibonacci = self._fibonacci()
        self.libc = ctypes.CDLL(None)
        self.libc.srand(seed + 1)

    def _fibonacci(self) -> Any:
        a, b = 0, 1
        while True:
            yield a
            a, b = b, (a + b) % 1_000_003

    def step(self, inputs: Any) -> dict[str, Any]:
        outputs = {
            "random": random.random(),
            "fibonacci": next(self.fibonacci),
            "file": int.from_bytes(os.read(self.file.fileno(), 8), "little"),
            "rand": self.libc.rand(),
            "rng": float(self.rng.random()),
        }
        self.total += sum(outputs.values())
        return outputs


class Branching(Simulation):
    """Notes how it was branched."""

    value = Field("f8")

    def setup(self, seed: int = 0) -> None:
        self.seeds: list[int | None] = []
        self.fail_on_branch = False

    def step(self, inputs: Any) -> dict[str, float]:
        self.value = self.rng.random()
        return {"value": float(self.value)}

    def on_branch(self, seed: int | None) -> None:
        if self.fail_on_branch:
            raise RuntimeError("told to fail on branch")
        self.seeds.append(seed)

    @exported
    def seeds_so_far(self) -> list[int | None]:
        """Return the seed of each branching in this one's past."""
        return self.seeds

    @exported
    def fail_next(self) -> None:
        """Make every branch from now on fail to begin."""
        self.fail_on_branch = True


class Big(Simulation):
    """An arena of a given size, and a step that dirties pages of it."""

    memory = Field("u1", shape=("nbytes",))

    class Inputs(msgspec.Struct):
        pages: int = 0
        stride: int = 4096

    def setup(self, nbytes: int = 1 << 20, fill: int = 1) -> None:
        self.memory[:] = fill

    def step(self, inputs: Inputs) -> None:
        self.memory[: inputs.pages * inputs.stride : inputs.stride] += 1


class Scribble(Simulation):
    """Writes to 256 pages a tick, in an order that has nothing to do with where they lie, again and again."""

    memory = Field("u1", shape=("pages", 4096))

    def setup(self, pages: int = 1024) -> None:
        self.memory[:] = 1
        self.order = np.random.default_rng(5).permutation(pages)
        self.at = 0

    def step(self, inputs: Any) -> None:
        chosen = self.order[self.at : self.at + 256]
        self.memory[chosen, 0] += 1
        self.at = (self.at + 256) % len(self.order)


class Rewindable(Simulation):
    """Keeps state of every kind that goes back: fields, named attributes, generators, and what cannot change."""

    value = Field("f8", shape=(5000,))
    rewindable = ("log", "twin")

    def setup(self, seed: int = 1) -> None:
        self.log: list[float] = []
        self.twin = {"log": self.log}
        self.scale = 2.0
        self.table = np.arange(10)
        self.table.flags.writeable = False

    def step(self, inputs: Any) -> dict[str, float]:
        chosen = self.rng.integers(0, 5000, 20)
        self.value[chosen] += self.scale * self.rng.random() + random.random()
        self.log.append(float(self.value.sum()))
        return {"sum": self.log[-1], "count": len(self.twin["log"])}

    @exported
    def everything(self) -> list[Any]:
        """Return all that there is, and whether what was shared is."""
        return [
            self.value.tolist(),
            self.log,
            self.twin["log"] is self.log,
            str(self.rng.bit_generator.state),
        ]

    @exported
    def surprise(self) -> None:
        """Keep something that nobody named."""
        self.surprised = True


class Roams(Simulation):
    """Keeps state wherever a process can, and changes any of it, and of what the kernel holds, as it is told to."""

    value = Field("f8", shape=(5000,))
    begun = Field("i8")

    class Inputs(msgspec.Struct):
        how: str = ""

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
            "open": len(os.listdir("/proc/self/fd")),
            "folder": os.getcwd(),
            "on_signal": str(signal.getsignal(signal.SIGUSR1)),
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

    # What does not.

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


class LooksAhead(Simulation):
    """Tries futures within a step, and takes each back."""

    value = Field("i8")
    trail = Field("i8", shape=(100_000,))

    def step(self, inputs: Any) -> dict[str, int]:
        self.value += 1
        mark, best = self.arena.mark(), 0
        for choice in (1, 3, 2):
            for _ in range(2):
                self.value += choice
                self.trail[int(self.value) * 1000] = choice
            best = max(best, int(self.value))
            self.arena.rewind(mark)
        assert not self.trail.any()
        return {"best": best, "value": int(self.value)}


class Dice(Simulation):
    """Has no fields; its die is loaded, until at some tick it is one that nobody can throw twice."""

    class Inputs(msgspec.Struct):
        sides: int = 6

    def setup(self, fair_from: int = 0, seed: int = 0) -> None:
        self.thrown = 0
        self.fair_from = fair_from

    def step(self, inputs: Inputs) -> dict[str, int]:
        self.thrown += 1
        fair = 0 < self.fair_from <= self.thrown
        throw = int.from_bytes(os.urandom(8), "little") if fair else int(self.rng.integers(inputs.sides))
        return {"throw": throw}


class Clock(Simulation):
    """Counts, and from some tick on notes the time in the last page of a field that it never puts out."""

    count = Field("i8")
    noted = Field("i8", shape=(5000,))

    def setup(self, notes_from: int = 1, forbidden: str = "") -> None:
        self.notes_from = notes_from
        self.forbidden = forbidden

    def step(self, inputs: Any) -> dict[str, int]:
        self.count += 1
        if self.forbidden and int(self.count) == 12 and os.path.exists(self.forbidden):
            raise FileExistsError(self.forbidden)
        if int(self.count) >= self.notes_from:
            self.noted[4500] = time.monotonic_ns()
        return {"count": int(self.count)}

    @exported
    def poke(self, value: int) -> None:
        """Change something."""
        self.noted[0] = value


class Steered(Simulation):
    """Turns as it is told to, and is finished once it has turned by a hundred."""

    turned = Field("i8")

    class Inputs(msgspec.Struct):
        turn: int = 0

    def step(self, inputs: Inputs) -> dict[str, int]:
        self.turned += inputs.turn
        self.finished = bool(self.turned >= 100)
        return {"turned": inputs.turn, "said": "turned"}

    @exported
    def wander(self) -> dict[str, int]:
        """Return inputs by chance."""
        return {"turn": int(self.rng.integers(0, 9))}

    @exported
    def further(self, by: int) -> int:
        """Return how far it would be."""
        return int(self.turned) + by

    @exported
    def broken_policy(self) -> dict[str, int]:
        """Return nothing."""
        raise ValueError("it cannot decide")

    @exported
    def no_inputs(self) -> int:
        """Return what are no inputs."""
        return 7


class Crowd(Simulation):
    """Counts how many of its relatives are in a tick at the same time."""

    def setup(self) -> None:
        self.here = mmap.mmap(-1, 4096)
        self.lock = os.memfd_create("crowd")

    def step(self, inputs: Any) -> dict[str, int]:
        with open(f"/proc/self/fd/{self.lock}", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.here[0] += 1
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.02)
            together = self.here[0]
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.here[0] -= 1
            return {"together": together}


class Hooked(Simulation):
    """Writes down when it is branched, frozen and dropped, and draws from every random stream that Python has."""

    value = Field("f8")

    def setup(self, journal: str = "", fail: str = "") -> None:
        self.journal = journal
        self.fail = fail
        random.seed(1)
        np.random.seed(1)

    def step(self, inputs: Any) -> dict[str, float]:
        return {"own": self.rng.random(), "random": random.random(), "numpy": np.random.random()}

    def note(self, what: str) -> None:
        with open(self.journal, "a") as journal:
            journal.write(f"{what} {os.getpid()}\n")
        if self.fail == what:
            raise ValueError(what)
        if self.fail == f"{what} hangs":
            time.sleep(3600)

    def on_branch(self, seed: int | None) -> None:
        self.note("branch")

    def on_snapshot(self) -> None:
        self.note("snapshot")

    def on_drop(self) -> None:
        self.note("drop")


class Slow(Simulation):
    """Takes its time, and writes down outside of the server's sight how far it is."""

    count = Field("i8")

    class Inputs(msgspec.Struct):
        fail_at: int = 0
        hang: bool = False

    def setup(self, diary: str = "", tick_s: float = 0.02) -> None:
        self.diary = diary
        self.tick_s = tick_s

    def step(self, inputs: Inputs) -> dict[str, int]:
        while inputs.hang:
            pass
        time.sleep(self.tick_s)
        if inputs.fail_at and int(self.count) + 1 == inputs.fail_at:
            self._write("failed")
            raise ValueError("told to fail")
        self.count += 1
        self._write(str(int(self.count)))
        return {"count": int(self.count)}

    def _write(self, text: str) -> None:
        if self.diary:
            with open(self.diary, "w") as diary:
                diary.write(text)


class Glutton(Simulation):
    """Takes memory in the Python heap, a piece a tick, and keeps it."""

    ballast = Field("u1", shape=("ballast",), doc="memory of the base image")

    class Inputs(msgspec.Struct):
        mebibytes: int = 0

    def setup(self, ballast: int = 1 << 20, take: int = 0) -> None:
        self.kept: list[np.ndarray[Any, Any]] = []
        self.take(take)

    def step(self, inputs: Inputs) -> dict[str, Any]:
        self.take(inputs.mebibytes)
        return {"pieces": len(self.kept)}

    @exported
    def take(self, mebibytes: int) -> None:
        """Take so much memory, every page of it written."""
        if mebibytes:
            self.kept.append(np.ones(mebibytes << 20, np.uint8))


class Late(Simulation):
    """Draws from numpy's global stream in a branch first, where numpy makes it."""

    def setup(self, seed: int = 0) -> None:
        assert "numpy.random" not in sys.modules

    def step(self, inputs: Any) -> dict[str, float]:
        return {"drawn": float(np.random.random())}


class Scored(Simulation):
    """Puts out what it is told."""

    class Inputs(msgspec.Struct):
        score: float | None = None

    def step(self, inputs: Inputs) -> dict[str, float]:
        return {"score": float("nan") if inputs.score is None else inputs.score}
