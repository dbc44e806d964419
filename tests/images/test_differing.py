"""What two images differ in is found in tables, and is what is found page by page and address by address."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from snapserv_client.store.columns import pack_columns
from snapserv_client.store.format import PAGE, Area, File, Image, Machine, Pack

from snapserv.images.differing import Held, Runs, bounds, changed, stretches
from snapserv.images.script import Call, InFile, Script

MACHINE = Machine("x86_64", [], "", "", "", "", 1)
PACKS = [Pack(bytes([number]) * 32, 0, 0, 64) for number in range(3)]
FILES = [File("/a", 1, 1, b"a"), File("/b", 1, 1, b"b")]


def image_of(areas: list[Area], pages: dict[int, tuple[int, int]], packs: list[Pack]) -> Image:
    """Return an image whose pages are of (pack, slot)."""
    table = np.array([(at * PAGE, 1, *place) for at, place in sorted(pages.items())], np.uint64).reshape(-1, 4)
    return Image(MACHINE, packs, areas, pack_columns(*table.T), FILES, [], [], {})


@st.composite
def areas(draw: st.DrawFn) -> list[Area]:
    edges = sorted(draw(st.sets(st.integers(0, 24), max_size=9)))
    found = []
    for start, end in zip(edges[::2], edges[1::2], strict=False):
        kind: Any = draw(st.sampled_from(["anonymous", "file", "vdso"]))
        of = draw(st.integers(0, 1)) if kind == "file" else 0
        offset = start * PAGE if kind == "file" else 0
        found.append(Area(start * PAGE, end * PAGE, draw(st.sampled_from([1, 3])), kind, of, offset))
    return found


@given(areas(), areas())
def test_stretches_are_what_lies_at_each_address(ours: list[Area], theirs: list[Area]) -> None:
    def at(these: list[Area], address: int) -> Area | None:
        return next((area for area in these if area.start <= address < area.end), None)

    found = stretches(image_of(ours, {}, []), image_of(theirs, {}, []))
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    told = {address: each for each in found for address in range(each.start, each.end, PAGE)}
    for address in range(0, 25 * PAGE, PAGE):
        now, then = at(ours, address), at(theirs, address)
        if now is None and then is None:
            assert address not in told
            continue
        stretch = told[address]
        assert (stretch.now, stretch.then) == (now, then)
        alike = now is not None and then is not None and (now.kind, now.of) == (then.kind, then.of)
        assert stretch.kept == alike


PLACES = st.dictionaries(st.integers(0, 40), st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=30)


@given(PLACES, PLACES)
def test_a_page_has_changed_where_the_other_image_has_another_or_none(
    ours: dict[int, tuple[int, int]], theirs: dict[int, tuple[int, int]]
) -> None:
    image = image_of([], ours, PACKS)
    was = image_of([], {at: (2 - pack, slot) for at, (pack, slot) in theirs.items()}, PACKS[::-1])
    found = changed(Held.of(image), Held.of(was), image, was)
    assert found.tolist() == [theirs.get(at) != place for at, place in sorted(ours.items())]


@given(st.sets(st.integers(0, 60)), areas())
def test_runs_are_the_consecutive_pages_of_each_area(pages: set[int], extents: list[Area]) -> None:
    addresses = np.array(sorted(pages), np.uint64) * np.uint64(PAGE)
    for extent, (first, last), runs in zip(
        extents, bounds(addresses, extents), Runs(addresses).within(extents), strict=True
    ):
        wanted = [at for at in sorted(pages) if extent.start <= at * PAGE < extent.end]
        assert (addresses[first:last] // PAGE).tolist() == wanted
        assert [address // PAGE + step for address, count in runs for step in range(count)] == wanted
        assert all(address + count * PAGE < other for (address, count), (other, _) in itertools.pairwise(runs))


def test_a_script_says_where_what_goes_along_lies() -> None:
    script = Script()
    slot, content = script.slot(), script.data(b"content")
    script.call(Call.open, content, 5, why="one", into=slot)
    script.call(Call.lseek, slot + 3, InFile(content + 2), -1, why="two", equals=7)
    script.fill(0x1000, 2)
    script.filled()
    descriptor, begin = script.write(9)
    with open(descriptor, "rb") as file:
        written = file.read()
    assert len(written) == begin + 2 * PAGE
    _, mapped, registers, count = struct.unpack_from("<4Q", written)
    assert (mapped, registers, count) == (begin, 9, 3)
    operations = [struct.unpack_from("<HBB6s6x6Qq", written, 32 + 72 * number) for number in range(3)]
    at = operations[0][4]
    assert operations[0][:4] == (Call.open, 0, 3, bytes([1, 0, 0, 0, 0, 0]))
    assert written[at : at + 7] == b"content"
    assert operations[1][3:] == (bytes([5, 0, 0, 0, 0, 0]), 3, at + 2, (1 << 64) - 1, 0, 0, 0, 7)
    assert operations[2][3:] == (bytes([2, 0, 0, 0, 0, 0]), 0, 0x1000, 2 * PAGE, begin, 0, 0, 2 * PAGE)
