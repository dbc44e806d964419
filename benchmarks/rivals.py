"""What people use without snapserv: os.fork of a process that holds the same memory; and the floor below both."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

MADV_HUGEPAGE, MADV_NOHUGEPAGE = 14, 15
PRIME = 2_654_435_761
"""Its multiples go through all numbers below a smaller one, in an order that has nothing to do with their size."""


@contextmanager
def forking_process(size_bytes: int, *, huge: bool, dirty: int, scattered: bool = False) -> Iterator[Rival]:
    """Yield a process with ``size_bytes`` of anonymous memory in 4 KiB or huge pages, which forks when asked.

    Large NumPy arrays get huge pages by default (``madvise`` in numpy's allocator), so that is the honest rival.
    It dirties its first pages each time; or where they are to be ``scattered``, others of a random order, and keeps
    its first child: as long as one lives that has the pages, whoever writes to them pays for copies.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.rivals", *map(str, (size_bytes, int(huge), dirty, int(scattered)))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    rival = Rival(process)
    try:
        assert rival.line() == "ready"
        yield rival
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


class Rival:
    """The process, asked line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        """Return what it says next."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def fork_s(self) -> float:
        """Have it dirty its pages and fork; return the seconds that os.fork took in the parent."""
        return self.step_and_fork_s()[1]

    def step_and_fork_s(self) -> tuple[float, float]:
        """Have it dirty its pages and fork; return the seconds that each of the two took."""
        assert self._process.stdin is not None
        self._process.stdin.write("fork\n")
        self._process.stdin.flush()
        step, fork = map(float, self.line().split())
        return step, fork


def empty_fork_s(rounds: int) -> list[float]:
    """Return the seconds of fork(2) in an empty C program."""
    source = Path(__file__).with_name("empty_fork.c")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "empty_fork"
        subprocess.run([os.environ.get("CC", "cc"), "-O2", source, "-o", program], check=True)
        out = subprocess.run([program, str(rounds)], check=True, capture_output=True, text=True).stdout
    return [float(line) for line in out.split()]


def _serve(size_bytes: int, huge: bool, dirty: int, scattered: bool) -> None:
    memory = mmap.mmap(-1, size_bytes + (2 << 20), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    aligned = -(-start // (2 << 20)) * (2 << 20)
    if ctypes.CDLL(None).madvise(
        ctypes.c_void_p(aligned), ctypes.c_size_t(size_bytes), MADV_HUGEPAGE if huge else MADV_NOHUGEPAGE
    ):
        raise OSError("madvise")
    pages = np.frombuffer(memory, np.uint8, size_bytes, aligned - start).reshape(-1, 4096)
    pages[:] = 1
    order = np.arange(len(pages)) * PRIME % len(pages)
    at, children = 0, []
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        if scattered:
            pages[order[at : at + dirty], 0] += 1
            at = (at + dirty) % len(order)
        else:
            pages[:dirty, 0] += 1
        stepped = time.perf_counter()
        child = os.fork()
        if child == 0:
            signal.pause()
        forked = time.perf_counter()
        children.append(child)
        if len(children) > scattered:
            _end(children.pop())
        print(stepped - began, forked - stepped, flush=True)
    for child in children:
        _end(child)


def _end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2] == "1", int(sys.argv[3]), sys.argv[4] == "1")
