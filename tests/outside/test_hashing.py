"""Hashes of fields: they depend on what the bytes are, and on nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snapserv.errors import NodeDiedError
from snapserv.ext import memory
from snapserv.outside import hashing
from snapserv.outside.fields import FieldPlace
from snapserv.outside.hashing import BaseHashes, hash_fields, hash_plainly

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]
PAGE = memory.PAGE
NBYTES = 5 * PAGE + 1000


@pytest.fixture(params=["huge_tmpfs", "memfd", "anonymous"])
def child(request: pytest.FixtureRequest) -> Iterator[tuple[Any, int, FieldPlace, list[tuple[int, int]]]]:
    """An arena that is sealed, and a copy of this process that has it as it was then."""
    from snapserv.errors import SnapservError
    from snapserv.memory.arena import Arena

    try:
        arena = Arena(backing=request.param)
    except SnapservError as error:
        pytest.skip(str(error))
    array = arena.allocate("field", "u1", (NBYTES,))
    array[:] = np.random.default_rng(1).integers(0, 256, NBYTES)
    arena.seal()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    extent = arena.extents["field"]
    place = FieldPlace("field", extent.address, extent.dtype, extent.shape)
    segments = [(segment.address, segment.size_bytes) for segment in arena.segments]
    root = pid if request.param != "anonymous" else 0
    yield array, root, place, segments
    os.close(writer)
    os.close(reader)
    os.waitpid(pid, 0)


RUNS = st.lists(st.tuples(st.integers(0, NBYTES - 1), st.integers(1, 9000), st.integers(0, 255)), max_size=5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS)
def test_a_hash_from_the_base_image_and_private_pages_is_that_of_all_bytes(
    child: tuple[Any, int, FieldPlace, list[tuple[int, int]]], runs: list[tuple[int, int, int]]
) -> None:
    array, root, place, segments = child
    base = BaseHashes()
    for start, length, value in runs:
        array[start : start + length] = value
        found = hash_fields([place], os.getpid(), segments, root=root or None, base=base)
        assert found == {"field": hash_plainly(array.tobytes())}
    if root:
        assert hash_fields([place], root, segments, root=root, base=base)["field"] < hashing.MODULUS


def test_pages_written_with_equal_bytes_hash_equally(
    child: tuple[Any, int, FieldPlace, list[tuple[int, int]]],
) -> None:
    array, root, place, segments = child
    base = BaseHashes()
    before = hash_fields([place], os.getpid(), segments, root=root or None, base=base)
    array[:] = array.copy()
    assert hash_fields([place], os.getpid(), segments, root=root or None, base=base) == before
    array[3 * PAGE] ^= 1
    assert hash_fields([place], os.getpid(), segments, root=root or None, base=base) != before


def test_equal_pages_at_other_places_hash_otherwise() -> None:
    one, other = b"a" * PAGE, b"b" * PAGE
    assert hash_plainly(one + other) != hash_plainly(other + one)
    assert hash_plainly(one + b"c") == hash_plainly(one + b"c" + b"\0" * 7)


def test_a_field_without_bytes_and_a_simulation_without_fields_have_hashes_as_well() -> None:
    empty = FieldPlace("none", 0, np.dtype("f8"), (0, 3))
    assert hash_fields([empty], os.getpid(), [], root=os.getpid(), base=BaseHashes()) == {"none": 0}
    assert hash_fields([], os.getpid(), [], root=None, base=BaseHashes()) == {}


def test_a_process_that_ended_is_a_typed_error() -> None:
    pid = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(pid, 0)
    place = FieldPlace("field", 1 << 40, np.dtype("u1"), (PAGE,))
    for root in (None, pid):
        with pytest.raises(NodeDiedError):
            hash_fields([place], pid, [(1 << 40, PAGE)], root=root, base=BaseHashes())


def test_segments_on_another_base_image_are_hashed_whole(serve: Serve) -> None:
    """A long line of snapshots gives segments a new base image; verify compares what stands on it all the same."""
    process = serve("tests.simulations.memory:Scribble", params={"pages": 4096})
    with process.connect() as server:
        main = server.branch("main")
        root = server.node("root").info().pid
        for number in range(400):
            main.step()
            main.snapshot(f"s{number}").drop()
            if number % 20 == 19 and _images(root) != _images(main.info().pid):
                break
        else:
            pytest.skip("this machine's clones are too fast to be worth a new base image")
        assert main.verify().ok


def _images(pid: int) -> set[str]:
    lines = [line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return {f"{line[0]} {line[3]}:{line[4]}" for line in lines if line[1] == "rw-p" and line[4] != "0"}
