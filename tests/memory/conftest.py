"""Arenas on each backing, and what a process holds of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snapserv.memory.arena import Arena
from snapserv.memory.backings import NAMES, probe

from ..processes import areas

MakeArena = Callable[..., Arena]


def _arenas(backing: str) -> Iterator[MakeArena]:
    for found in probe():
        if found.name == backing and not found.available:
            pytest.skip(f"{backing} cannot be had here: {found.reason}")
    made: list[Arena] = []

    def new(**options: Any) -> Arena:
        made.append(Arena(backing=backing, **options))
        return made[-1]

    yield new
    for arena in made:
        arena.close()


@pytest.fixture(params=NAMES)
def make(request: pytest.FixtureRequest) -> Iterator[MakeArena]:
    """Make arenas on each backing; they are closed at the end."""
    yield from _arenas(request.param)


@pytest.fixture(params=["huge_tmpfs", "memfd"])
def make_based(request: pytest.FixtureRequest) -> Iterator[MakeArena]:
    """Make arenas on each backing that has a base image; they are closed at the end."""
    yield from _arenas(request.param)


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def status_kib(pid: int | str, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {key} in the status of {pid}")


def within(arena_start: int, size: int) -> list[tuple[int, int, str]]:
    return [(low, high, mode) for low, high, mode in areas() if low < arena_start + size and high > arena_start]


def fill(array: np.ndarray[Any, Any], seed: int) -> bytes:
    """Fill an array with bytes that suit any dtype and return them."""
    raw = np.random.default_rng(seed).integers(0, 2, max(1, array.nbytes), np.uint8)[: array.nbytes].tobytes()
    if array.nbytes:
        array[...] = np.ndarray(array.shape, array.dtype, buffer=raw)
    return array.tobytes()
