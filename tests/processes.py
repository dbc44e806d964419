"""Work in children of this process, and what the kernel refuses or shows there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import platform
import struct
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

CALLS = {
    "x86_64": {"ioctl": 16, "process_vm_readv": 310, "userfaultfd": 323, "fsopen": 430},
    "aarch64": {"ioctl": 29, "process_vm_readv": 270, "userfaultfd": 282, "fsopen": 430},
}

T = TypeVar("T")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
needs_filter = pytest.mark.skipif(
    platform.machine() not in CALLS, reason="no system call numbers for this processor"
)


def fork() -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of threads, and a test runner has some. The child runs no code that waits for them.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def forked(work: Callable[[], T]) -> T:
    """Return what ``work`` returns in a forked child, or raise what it raises."""
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        try:
            os.close(reading)
            try:
                answer = pickle.dumps((True, work()))
            except BaseException as cause:  # noqa: BLE001 - raised again in the parent
                traceback.print_exc()  # where it happened: a pickled exception does not say
                answer = pickle.dumps((False, cause))
            with os.fdopen(writing, "wb") as out:
                out.write(answer)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer_of:
        answer = answer_of.read()
    _, status = os.waitpid(child, 0)
    assert answer, f"the child ended without an answer, wait status {status}"
    succeeded, result = pickle.loads(answer)
    if not succeeded:
        raise result
    return result  # type: ignore[no-any-return]


@contextlib.contextmanager
def held_child(work: Callable[[], object] = lambda: None) -> Iterator[int]:
    """Yield the pid of a forked child that has done ``work`` and now waits to be let go."""
    told, telling = os.pipe()
    waiting, letting_go = os.pipe()
    child = fork()
    if child == 0:
        try:
            os.close(letting_go)
            work()
            os.write(telling, b"1")
            os.read(waiting, 1)
        finally:
            os._exit(0)
    os.close(telling)
    os.close(waiting)
    try:
        assert os.read(told, 1), "the child failed"
        yield child
    finally:
        os.close(letting_go)
        os.close(told)
        os.waitpid(child, 0)


def become_nobody() -> None:
    """Become an ordinary user, as one who logged in would be: a changed user is not dumpable (prctl(2))."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    pr_set_dumpable = 4
    assert ctypes.CDLL(None).prctl(pr_set_dumpable, 1, 0, 0, 0) == 0


def refuse(call: str, error: int, second_argument: int | None = None) -> None:
    """Make a system call fail in this process from now on, by a filter as containers have (seccomp(2))."""
    load, equal, answer = 0x20, 0x15, 0x06
    allow, fail = 0x7FFF0000, 0x00050000 | error
    number = CALLS[platform.machine()][call]
    if second_argument is None:
        steps = [(load, 0, 0, 0), (equal, 0, 1, number), (answer, 0, 0, fail), (answer, 0, 0, allow)]
    else:
        steps = [(load, 0, 0, 0), (equal, 0, 3, number), (load, 0, 0, 24), (equal, 0, 1, second_argument)]
        steps += [(answer, 0, 0, fail), (answer, 0, 0, allow)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    described = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    pr_set_no_new_privs, pr_set_seccomp, mode_filter = 38, 22, 2
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(pr_set_no_new_privs, 1, 0, 0, 0) == 0
    assert libc.prctl(pr_set_seccomp, mode_filter, described, 0, 0) == 0, os.strerror(ctypes.get_errno())


def areas() -> list[tuple[int, int, str]]:
    """Return the start, the end and the permissions of every area of this process."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, permissions = line.split()[:2]
        start, end = span.split("-")
        found.append((int(start, 16), int(end, 16), permissions))
    return found


def mapped_within(start: int, end: int) -> bool:
    return any(low < end and high > start for low, high, _ in areas())
