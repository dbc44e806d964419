"""Which page is whose: what the server says agrees with /proc as it is read here, and nothing false is said."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Pages, Server, aio
from snapserv_client.pages import squeezed
from snapserv_client.protocol import PAGE_CLASSES

from snapserv.ext import memory
from snapserv.mechanisms.fork import Fork, ForkRegion
from snapserv.outside import pages
from snapserv.outside.fields import FieldPlace
from snapserv.outside.pages import (
    ABSENT,
    BASE,
    DIFFERENT,
    ELSEWHERE,
    NO_PAGE,
    PRIVATE,
    SAME,
    SHARED,
    UNKNOWN,
    UNPROVEN,
)

from ..conftest import ROOT, ServerProcess, assert_settles

Serve = Callable[..., ServerProcess]
Array = np.ndarray[Any, Any]
PAGE = memory.PAGE
WILDFIRE = "snapserv.examples.wildfire:Wildfire"
WITHOUT_NUMBERS = ("setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin", "--")

needs_numbers = pytest.mark.skipif(not pages.numbers_are_told(), reason="page numbers need CAP_SYS_ADMIN")
needs_fork = pytest.mark.skipif(bool(Fork.why_not()), reason=Fork.why_not())


def sealed(count: int, backing: str) -> ForkRegion:
    """Return a region of some pages upon a base image of zeros: the first snapshot makes that."""
    region = Fork.make(count * PAGE, backing=backing)
    region.snapshot().close()
    return region


# ------------------------------------------------------------------------------------- an independent look at /proc


def pagemap(pid: int, address: int, count: int) -> Array:
    """Return the entries of some pages, by another way than the one under test."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        file.seek(address // PAGE * 8)
        return np.array(struct.unpack(f"={count}Q", file.read(8 * count)), np.uint64)


def bits(entries: Array, low: int, count: int = 1) -> Array:
    return (entries >> np.uint64(low)) & np.uint64((1 << count) - 1)


def addresses(server: Server, pid: int) -> dict[str, tuple[int, int]]:
    """Return (address, pages) of each field: they follow each other from the first mapping of the arena on.

    ``front`` is the last, since how long it is turns out in setup.
    """
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        extent, permissions, *_ = line.split()
        start, end = (int(text, 16) for text in extent.split("-"))
        if permissions == "rw-p" and "(deleted)" in line and (end - start) % memory.HUGE_PAGE == 0:
            break
    else:
        raise AssertionError("no arena")
    found, at = {}, start
    for field in sorted(server.spec().fields, key=lambda field: field.name == "front"):
        array = server.node("root").read(field.name)
        count = -(-array.nbytes // PAGE)
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:  # the addresses are what we think they are
            file.seek(at)
            assert file.read(array.nbytes) == array.tobytes(), field.name
        found[field.name] = (at, count)
        at += count * PAGE
    return found


def truth(server: Server, name: str, other: str | None, field: str) -> Array:
    """Return the class of every page of a field, from page numbers of all nodes of the tree."""
    pids = {node.name: node.pid for node in server.tree()}
    address, count = addresses(server, pids["root"])[field]
    entries = {node: pagemap(pid, address, count) for node, pid in pids.items()}
    ours = entries[name]
    own = (bits(ours, 63) == 1) & (bits(ours, 61) == 0)
    numbers = {node: np.where(bits(each, 63) == 1, bits(each, 0, 55), 0) for node, each in entries.items()}
    classes = np.where(own, PRIVATE, BASE)
    for node in pids.keys() - {name}:
        classes[own & (numbers[node] == numbers[name])] = ELSEWHERE
    if other is not None:
        classes[own & (numbers[other] == numbers[name])] = SHARED
    return classes


def assert_true(server: Server, found: Pages) -> None:
    """Assert that all that is said of two nodes agrees with the page numbers."""
    for field in found.fields:
        for index, (name, counts) in enumerate(found.sides(field)):
            against = found.node if index else found.other
            expected = truth(server, name, against, field.name)
            strip = found.classes(field.name, of_other=bool(index))
            assert strip.tolist() == expected.tolist(), (field.name, name)
            assert [getattr(counts, each) for each in PAGE_CLASSES] == np.bincount(expected, minlength=6).tolist()


def page_bytes(array: Array) -> Array:
    """Return a field's bytes, a row a page."""
    return np.ascontiguousarray(array).view(np.uint8).reshape(-1, PAGE)


# ---------------------------------------------------------------------------------------------- a running wildfire


@pytest.fixture
def fire(serve: Serve) -> Iterator[Server]:
    """A fire of 100 ticks, the snapshot s1 of it, and 10 ticks more."""
    with serve(WILDFIRE, params={"rows": 512, "cols": 512}).connect() as server:
        main = server.branch("main")
        main.step(100)
        main.snapshot("s1")
        main.step(10)
        yield server


@needs_numbers
def test_the_front_is_private_and_the_rest_is_shared(fire: Server) -> None:
    main = fire.branch("main")
    found = main.pages("s1")
    assert found.proof == "page numbers"
    assert_true(fire, found)
    state = found["state"]
    assert state.pages == 64
    assert 0 < state.counts.private < 64
    assert found["elevation"].counts.base == found["elevation"].pages == found["elevation"].same
    # What differs in bytes is surely not one page; what is one page does not differ.
    ours, theirs, base = (page_bytes(fire.node(name).read("state")) for name in ("main", "s1", "root"))
    changed = (ours != theirs).any(axis=1)
    strip = found.classes("state")
    assert changed.any()
    assert (strip[changed] != SHARED).all()
    assert not changed[(strip == BASE) & (found.classes("state", of_other=True) == BASE)].any()
    assert (ours == base).all(axis=1)[strip == BASE].all()
    assert state.same is not None
    assert state.different is not None
    assert state.same + state.different == state.pages
    assert changed.sum() <= state.different


@needs_numbers
def test_the_sums_agree_with_what_tree_measures(fire: Server) -> None:
    sizes = {node.name: node.private_bytes for node in fire.tree(sizes=True)}
    found = fire.branch("main").pages("s1")
    for name, counts in found.sides(None):
        assert found.own_bytes(counts) == sizes[name]
    assert found.result.same is not None
    assert found.result.same == sum(field.same or 0 for field in found.fields)
    assert len(found.result.strip) == sum(field.pages for field in found.fields)


@needs_numbers
def test_two_siblings_share_what_their_snapshot_wrote_and_not_what_both_write(fire: Server) -> None:
    left, right = fire.snapshot("s1").branch(names=["left", "right"])
    left.write("state", 3, np.s_[0:8, :])  # pages of 8 rows of 512 bytes
    right.write("state", 3, np.s_[0:8, :])
    left.write("state", 4, np.s_[8:16, :])
    found = left.pages(right, ["state"])
    assert_true(fire, found)
    strip, others = found.classes("state"), found.classes("state", of_other=True)
    assert (strip[0], others[0]) == (PRIVATE, PRIVATE)  # the same bytes, and yet two pages
    assert (strip[1], others[1]) == (PRIVATE, BASE)
    burnt = truth(fire, "s1", "left", "state") == SHARED
    burnt[:2] = False
    assert burnt.any()
    assert (strip[burnt] == SHARED).all()
    # main went on: what it has with neither of the two, and s1 has as well, is elsewhere.
    assert_true(fire, fire.node("s1").pages())
    assert (fire.node("s1").pages().classes("state")[burnt] == ELSEWHERE).all()
    assert_true(fire, fire.branch("main").pages("root"))


@needs_numbers
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="drops a capability by setpriv")
def test_without_page_numbers_the_proof_is_said_to_be_weaker_and_nothing_false_is_said(serve: Serve) -> None:
    process = serve(WILDFIRE, params={"rows": 512, "cols": 512}, prefix=WITHOUT_NUMBERS)
    with process.connect() as server:
        main = server.branch("main")
        main.step(100)
        main.snapshot("s1")
        main.step(10)
        left = server.snapshot("s1").branch(names=["left"])[0]
        left.write("state", 3, np.s_[0:8, :])
        unproven = 0
        for node, other in (("main", "s1"), ("left", "s1"), ("left", "main"), ("s1", None)):
            found = server.node(node).pages(other)
            assert found.proof == "page kinds"
            for field in found.fields:
                for index, (name, counts) in enumerate(found.sides(field)):
                    strip = found.classes(field.name, of_other=bool(index))
                    expected = truth(server, name, found.node if index else other, field.name)
                    told = strip != UNPROVEN
                    assert strip[told].tolist() == expected[told].tolist(), (node, other, field.name, name)
                    assert (expected[~told] != BASE).all()
                    unproven += counts.unproven
                assert (field.same or 0) + (field.different or 0) <= field.pages
                if other is not None:
                    shared = np.count_nonzero(truth(server, node, other, field.name) == SHARED)
                    assert field.same is not None
                    assert field.same <= shared + field.counts.base
        assert unproven > 0


def test_where_there_is_no_base_image_pages_are_still_told_apart(serve: Serve) -> None:
    with serve("tests.simulations.walk:Walk", "--backing", "anonymous").connect() as server:
        main = server.branch("main")
        main.step(1)
        main.snapshot("s")
        main.step(1)
        found = main.pages("s")
        assert not found.result.base_image
        assert found.counts.base == 0
        assert found["count"].counts.private == 1
        assert "no base image" in str(found)


def test_what_cannot_be_compared_is_refused(fire: Server) -> None:
    from snapserv_client.errors import BadRequestError, NodeDiedError, NotFoundError

    main = fire.branch("main")
    with pytest.raises(BadRequestError, match="itself"):
        main.pages(main)
    with pytest.raises(NotFoundError, match="nowhere"):
        main.pages("nowhere")
    with pytest.raises(NotFoundError, match="no field"):
        main.pages(None, ["heat"])
    fire.create(params={"rows": 64, "cols": 64}, name="wide")
    with pytest.raises(BadRequestError, match="different trees"):
        main.pages("wide/main")
    os.kill(main.info().pid, signal.SIGKILL)
    assert_settles(lambda: main.info().state, "dead")
    with pytest.raises(NodeDiedError):
        main.pages("s1")
    assert fire.node("s1").pages().counts.base > 0


def test_reading_a_snapshot_leaves_its_pages_shared(fire: Server) -> None:
    """Since Linux 5.19 a page that a fork left shared is copied for whoever pins it, and process_vm_readv does."""
    main = fire.branch("main")
    main.write("fuel", 1)  # every page of it is the branch's own
    snapshot = main.snapshot()
    before = main.pages(snapshot)
    assert before["fuel"].counts.shared == before["fuel"].pages
    for node in (main, snapshot):
        node.read("fuel")
        node.read("fuel", (slice(0, 50, 7), slice(3, 90)))
    main.diff(snapshot)
    after = main.pages(snapshot)
    assert [field.counts for field in after.fields] == [field.counts for field in before.fields]


def test_it_has_a_look_for_terminals_and_notebooks(fire: Server) -> None:
    found = fire.branch("main").pages("s1")
    text = repr(found)
    assert "main and s1" in text
    assert "state" in text
    assert found.proof in text
    assert "█" in text
    assert "<table>" in found._repr_html_()
    with pytest.raises(KeyError):
        fire.node("s1").pages().classes("state", of_other=True)


def test_the_client_for_asyncio_asks_the_same(fire: Server) -> None:
    async def ask() -> Pages:
        async with await aio.connect(fire.endpoint) as client:
            main = await client.branch("main")
            return await main.pages("s1", ["state"])

    assert str(asyncio.run(ask())) == str(fire.branch("main").pages("s1", ["state"]))


# ---------------------------------------------------------------------------------------------- the command line


def typed(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snapserv", "pages", *words, "--endpoint", server.endpoint]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_strips_json_and_a_picture(fire: Server, tmp_path: Path) -> None:
    picture = tmp_path / "pages.png"
    ran = typed(fire, "main", "s1", "--json", "--png", str(picture))
    assert ran.returncode == 0, ran.stderr
    value = json.loads(ran.stdout)
    found = fire.branch("main").pages("s1")
    assert value["proof"] == found.proof
    assert value["counts"]["private"] == found.counts.private
    state = next(field for field in value["fields"] if field["name"] == "state")
    assert state["strip"]["values"] == found.classes("state").tolist()
    assert state["other_strip"]["values"] == found.classes("state", of_other=True).tolist()
    from matplotlib.image import imread

    pixels = np.round(imread(picture)[:, :, :3] * 255).astype(int)
    red, blue = (np.abs(pixels - np.array(colour)).max(axis=2) < 8 for colour in ((214, 69, 61), (182, 203, 226)))
    assert 0 < red.sum() < blue.sum()
    for people in (typed(fire, "main", "s1", "--field", "state"), typed(fire, "s1")):
        assert people.returncode == 0, people.stderr
        assert "private" in people.stdout
        assert "·" in people.stdout
    assert "elevation" not in typed(fire, "main", "s1", "--field", "state").stdout


# ------------------------------------------------------------------------------------- pages of any two places


@needs_fork
@needs_numbers
@pytest.mark.parametrize("backing", ["memfd", "anonymous"])
def test_a_region_and_its_snapshots_page_by_page(backing: str) -> None:
    base = backing == "memfd"
    with sealed(8, backing) as region:
        region.write(2 * PAGE, b"\1")
        region.write(3 * PAGE, b"\1")
        with region.snapshot() as old, region.snapshot() as new:
            region.write(3 * PAGE, b"\2")
            region.write(4 * PAGE, b"\2")
            here, there = ((thing.place.pid, thing.place.address) for thing in (region, new))
            found = pages.compare(8 * PAGE, here, there, base=base)
            assert found.b is not None
            assert found.same is not None
            assert found.proof == "page numbers"
            assert found.a[2:5].tolist() == [SHARED, PRIVATE, PRIVATE]
            assert found.b[2:4].tolist() == [SHARED, ELSEWHERE]  # the older snapshot has it as well
            assert found.same[2:4].tolist() == [SAME, DIFFERENT]
            if base:
                assert found.a[5:].tolist() == [BASE] * 3
                assert found.same[4:].tolist() == [DIFFERENT, SAME, SAME, SAME]
            assert old.read(3 * PAGE, 1) == b"\1"


@needs_fork
@needs_numbers
def test_a_comparison_without_numbers_leaves_open_what_only_they_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    read = pages.read_entries
    monkeypatch.setattr(pages, "read_entries", lambda *place: read(*place) & ~pages.NUMBER)
    with sealed(8, "memfd") as region:
        region.write(2 * PAGE, b"\1")
        region.write(3 * PAGE, b"\1")
        with region.snapshot() as new:
            region.write(3 * PAGE, b"\2")
            here, there = ((thing.place.pid, thing.place.address) for thing in (region, new))
            found = pages.compare(8 * PAGE, here, there, base=True)
            assert found.same is not None
            assert found.proof == "page kinds"
            assert found.a.tolist() == [BASE, BASE, UNPROVEN, PRIVATE, *[BASE] * 4]
            assert found.same.tolist() == [SAME, SAME, UNKNOWN, DIFFERENT, *[SAME] * 4]


@needs_fork
def test_a_page_that_moves_while_it_is_looked_at_is_unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    read, calls = pages.read_entries, [0]

    def moving(pid: int, address: int, size: int) -> Any:
        entries = read(pid, address, size)
        if pid:
            calls[0] += 1
            entries[2] ^= np.uint64(calls[0])
        return entries

    with sealed(4, "memfd") as region:
        region.write(PAGE, bytes(2 * PAGE))
        monkeypatch.setattr(pages, "read_entries", moving)
        found = pages.compare(4 * PAGE, (region.place.pid, region.place.address), base=True)
        assert found.a.tolist() == [BASE, PRIVATE, UNPROVEN, BASE]


def test_memory_of_this_process_that_is_not_there_is_nobodys() -> None:
    import mmap

    with mmap.mmap(-1, 4 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area[PAGE] = 1
        view = np.frombuffer(area, np.uint8)
        here, there = (0, view.ctypes.data), (0, view.ctypes.data + PAGE)
        found = pages.compare(2 * PAGE, here, there, base=False)
        assert found.a.tolist() == [ABSENT, PRIVATE]
        assert found.same is not None
        assert found.same.tolist() == [NO_PAGE, NO_PAGE]
        with pytest.raises(ValueError, match="itself"):
            pages.compare(PAGE, here, (os.getpid(), here[1]), base=False)
        del view


def test_a_process_that_is_gone_says_so() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(ProcessLookupError):
        pages.compare(PAGE, (child.pid, PAGE), base=False)


@needs_fork
def test_a_large_arena_has_a_strip_of_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_STRIP", 10)
    monkeypatch.setattr(pages, "CHUNK_PAGES", 30)
    with sealed(64, "memfd") as region:
        region.write(20 * PAGE, b"\1")
        place = FieldPlace("bytes", region.place.address, np.dtype(np.uint8), (64 * PAGE,))
        found = pages.inspect([place, place], [region.place.pid], base=True)
        assert found.pages_each == 13
        assert [(field.first, field.stop) for field in found.fields] == [(0, 5), (5, 10)]
        assert found.strip[:5].tolist() == [BASE, PRIVATE, BASE, BASE, BASE]
        assert found.fields[0].counts.base == 63
    assert pages.inspect([], [], base=True).strip.size == 0


def test_a_squeezed_strip_loses_no_private_page() -> None:
    for length in (1, 63, 64, 65, 100, 1000, 4097):
        for at in (0, length // 2, length - 1):
            strip = np.full(length, BASE, np.uint8)
            strip[at] = PRIVATE
            short = squeezed(strip, 64)
            assert len(short) == min(length, 64)
            assert np.count_nonzero(short == PRIVATE) == 1
