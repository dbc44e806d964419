"""Whose threads they are: of which library, and what keeps it from starting them.

A thread's name seldom says it, and the kernel does not. But the stack of a thread ends in the function that it was
started with, which is code of the library that kept it, and that lies in a file.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import time
from bisect import bisect_right
from types import FrameType
from typing import NamedTuple

from ..simulation.packages import package_of

CURES = (
    (r"openblas", "OpenBLAS", "OPENBLAS_NUM_THREADS=1"),
    (r"mkl_", "MKL", "MKL_NUM_THREADS=1"),
    (r"numba|workqueue|omppool|tbbpool", "numba", "NUMBA_NUM_THREADS=1"),
    (r"lib[gi]?omp5?\b|libgomp", "OpenMP", "OMP_NUM_THREADS=1, and NUMBA_NUM_THREADS=1 where numba uses it"),
    (r"numexpr", "numexpr", "NUMEXPR_NUM_THREADS=1"),
    (r"torch|libc10", "torch", "torch.set_num_threads(1), and OMP_NUM_THREADS=1"),
    (r"libtbb", "TBB", "for numba NUMBA_THREADING_LAYER=workqueue and NUMBA_NUM_THREADS=1; else none is known"),
    (r"blosc", "Blosc", "BLOSC_NTHREADS=1"),
    (r"wasmtime", "wasmtime", "config.parallel_compilation = False, of wasmtime.Config"),
    (r"tqdm", "tqdm", "tqdm.tqdm.monitor_interval = 0"),
    (r"libzmq|ZMQbg", "ZeroMQ", "terminate its contexts before setup and step return"),
    (
        r"libSDL|SDLTimer|SDLAudio",
        "SDL",
        "no pygame.time.Clock, and pygame.display.init() for pygame.init()",
    ),
    (
        r"openmm",
        "OpenMM",
        "they end with the Context: before setup and step return keep its createCheckpoint(), and let go of it; "
        "the next step makes another, and loads that",
    ),
    (
        r"libarrow|pyarrow",
        "Arrow",
        "JE_ARROW_MALLOC_CONF=background_thread:false, and use_threads=False in what reads and computes",
    ),
    (r"polars", "Polars", ""),
    (
        r"jemalloc_bg_thd",
        "jemalloc",
        "background_thread:false in the MALLOC_CONF variable of the library that brings it",
    ),
    (r"jax|xla", "XLA (JAX)", ""),
    (r"tensorflow|^tf_", "TensorFlow", ""),
    (r"libjvm|^GC Thread|^VM Thread", "the Java virtual machine", ""),
    (r"mini_racer|^V8 ", "V8", ""),
    (
        r"taichi",
        "Taichi",
        "ti.reset() ends them: before setup and step return keep what fields hold with to_numpy(), and call it",
    ),
    (r"tokio|rayon", "a pool of Rust's", ""),
)
"""A pattern of a library's file or of a thread's name, what people call it, and what starts it without threads; ""
where nothing is known to."""

STARTERS = re.compile(r"^(ld-linux|libc[.-]|libpthread|libstdc\+\+|libpython|python|\[)")
"""What starts threads for others."""
MOST_STACK = 1 << 20
SETTLES_IN_S = 0.2
"""How long a pool may still be busy: its threads look for work for a while before they sleep."""


class Thread(NamedTuple):
    """A thread: its name, whose it is and the cure ("" where that cannot be told), and whether it is to be kept."""

    name: str
    owner: str
    cure: str
    kept: bool = False

    def __str__(self) -> str:
        return f"{self.name} of {self.owner}" if self.owner else self.name


def owned(task: int, name: str) -> Thread:
    """Return a thread with what is known of whose it is.

    Args:
        task: Its number, as the kernel has it.
        name: As it is called.
    """
    if task == os.getpid():
        return Thread(name, "", "", kept=True)
    frame = _pythons(task)
    path = _started_in(task) if frame is None else _outermost(frame)
    package = package_of(path)
    telling = [package] if frame is not None else [os.path.basename(path), package, name]
    for pattern, owner, cure in CURES:
        if any(re.search(pattern, each, re.IGNORECASE) for each in telling):
            return Thread(name, owner, cure)
    return Thread(name, package or os.path.basename(path), "")


def advice(threads: list[Thread]) -> str:
    """Return what keeps those threads from being started, for each owner once."""
    said = {}
    for thread in threads:
        if thread.owner and thread.owner not in said:
            said[thread.owner] = f"{thread.owner}: {thread.cure or 'no cure is known'}"
    libraries = {owner for _, owner, _ in CURES}
    if any(not thread.kept and thread.owner not in libraries for thread in threads):
        said[""] = "threads of your own must end before setup and step return"
    return "; ".join(said.values())


def _pythons(task: int) -> FrameType | None:
    """Return where a thread is that Python has started."""
    threading = sys.modules.get("threading")
    if threading is None:
        return None
    known = {thread.native_id: thread.ident for thread in threading.enumerate()}
    return sys._current_frames().get(known.get(task, -1))


def _outermost(frame: FrameType) -> str:
    """Return the file of the function that a thread of Python's runs; "" where only `threading` is at work."""
    found = ""
    here: FrameType | None = frame
    while here is not None:
        if os.path.basename(here.f_code.co_filename) != "threading.py":
            found = here.f_code.co_filename
        here = here.f_back
    return found


def _started_in(task: int) -> str:
    """Return the file of the code that a thread was started with; "" where it cannot be told."""
    pointer = _stack_pointer(task)
    if not pointer:
        return ""
    stack, code = None, []
    with open("/proc/self/maps") as maps:
        for line in maps:
            extent, permissions, _, _, _, *path = line.rstrip("\n").split(None, 5)
            start, end = (int(each, 16) for each in extent.split("-"))
            if start <= pointer < end:
                stack = end
            if "x" in permissions and path and not STARTERS.match(os.path.basename(path[0])):
                code.append((start, end, path[0]))
    if stack is None:
        return ""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        start = max(pointer, stack - MOST_STACK) & ~7
        words = os.pread(memory.fileno(), (stack - start) & ~7, start)
    starts = [start for start, _, _ in code]
    for (word,) in reversed(list(struct.iter_unpack("=Q", words))):
        place = bisect_right(starts, word) - 1
        if place >= 0 and word < code[place][1]:
            return code[place][2]
    return ""


def _stack_pointer(task: int) -> int:
    """Return where a thread's stack stands while it sleeps; 0 where it does not, or may not be asked."""
    until = time.monotonic() + SETTLES_IN_S
    while True:
        try:
            with open(f"/proc/self/task/{task}/syscall") as call:
                told = call.read().split()
        except OSError:
            return 0
        if len(told) >= 3:
            return int(told[-2], 16)
        if time.monotonic() > until:
            return 0
        time.sleep(0.005)
