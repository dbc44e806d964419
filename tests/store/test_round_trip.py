"""What is written to a store is what is read from it."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapserv_client.errors import BadRequestError, NotFoundError, NotPortableError, StoreDamagedError
from snapserv_client.store import open_store
from snapserv_client.store.format import PAGE, ZERO, Area, File, Pack

from snapserv.store.writing import StoreWriter

from . import making
from .making import START


def test_a_node_is_read_back_with_its_lineage_fields_and_outputs(writer: StoreWriter) -> None:
    generator = np.random.default_rng(1)
    height = np.dtype([("z", "<f8"), ("wet", "?"), ("rgb", "u1", (3,))], align=False)
    tree = making.tree_of(
        fields={"heat": (8, "<f4", [30, 40]), "cells": (5001, height.descr, [50]), "none": (0, "<i8", [0])}
    )
    with writer.saving() as saving:
        root = making.save(saving, tree, "root", making.some_pages(generator, 3))
        pages = making.some_pages(generator, 3)
        node = making.save(saving, tree, "s1", pages, root, outputs={"reward": 1.5}, tags=["best"])
    memory = pages.tobytes()
    store = open_store(writer.blobs.url)
    assert [each.name for each in store.trees()] == ["world"]
    assert store.tree(tree.uid).params == {"seed": 7}
    for reference in (node.uid, "s1", "best", "world/s1", f"{tree.uid}/best"):
        assert store.node(reference) == node
    assert [each.name for each in store.lineage(node)] == ["s1", "root"]
    heat = store.field(node, "heat")
    assert heat.flags.writeable
    np.testing.assert_array_equal(heat, np.frombuffer(memory, "<f4", 1200, 8).reshape(30, 40))
    cells = store.field(node, "cells")
    assert cells.dtype == height
    assert cells.tobytes() == memory[5001 : 5001 + 50 * height.itemsize]
    assert store.field(node, "none").shape == (0,)
    assert store.read(node, START + 4000, 200) == memory[4000:4200]
    assert store.read(node, START, 0) == b""
    with pytest.raises(NotFoundError):
        store.field(node, "cold")
    with pytest.raises(NotFoundError):
        store.read(node, START + 3 * PAGE - 1, 2)


def test_names_that_several_nodes_have_are_refused(writer: StoreWriter) -> None:
    pages = making.some_pages(np.random.default_rng(2), 1)
    trees = [making.tree_of("left"), making.tree_of("right")]
    with writer.saving() as saving:
        nodes = [making.save(saving, tree, "s1", pages) for tree in trees]
    with pytest.raises(BadRequestError) as raised:
        writer.store.node("s1")
    assert set(raised.value.details["uids"]) == {node.uid for node in nodes}
    assert writer.store.node("right/s1") == nodes[1]
    for unknown in ("s2", "middle/s1", making.uid(), "../s1"):
        with pytest.raises(NotFoundError):
            writer.store.node(unknown)


def test_equal_pages_are_kept_once_and_pages_can_be_of_several_packs(writer: StoreWriter) -> None:
    generator = np.random.default_rng(3)
    pages = making.some_pages(generator, 200)
    with writer.saving() as saving:
        with saving.pack() as pack_writer:
            first = pack_writer.add(pages, making.digests_of(pages))
            again = pack_writer.add(pages[50:150], making.digests_of(pages[50:150]))
            twice = pack_writer.add(
                np.vstack([pages[:5], pages[:5]]), making.digests_of(np.vstack([pages[:5]] * 2))
            )
            one = pack_writer.close()
        assert one is not None
        assert one.slots == 200
        np.testing.assert_array_equal(first, np.arange(200))
        np.testing.assert_array_equal(again, np.arange(50, 150))
        np.testing.assert_array_equal(twice, [*range(5), *range(5)])
        more = making.some_pages(generator, 70)
        other, slots = making.put_pages(saving, more)
    order = generator.permutation(270)
    held = np.vstack([pages, more])
    numbers = np.repeat(np.array([0, 1], np.uint32), [200, 70])
    numbers[[7, 260]] = ZERO
    held[[7, 260]] = 0
    found = writer.store.pages([one, other], numbers[order], np.concatenate([first, slots])[order])
    np.testing.assert_array_equal(found, held[order])
    assert writer.store.digests(one).tobytes() == making.digests_of(pages).tobytes()
    into = bytearray(2 * PAGE)
    writer.store.pages([one], np.array([0, 0]), np.array([199, 0]), into)
    assert bytes(into) == pages[199].tobytes() + pages[0].tobytes()


def test_an_empty_pack_is_none_and_one_that_is_given_up_leaves_nothing(writer: StoreWriter) -> None:
    pages = making.some_pages(np.random.default_rng(4), 100)
    with writer.saving() as saving:
        with saving.pack() as pack:
            assert pack.close() is None
        with saving.pack() as pack:
            pack.add(pages, making.digests_of(pages))
        with pytest.raises(BadRequestError):
            pack.add(pages, making.digests_of(pages))
    assert writer.blobs.entries("packs/") == []
    assert writer.blobs.entries("temporary/") == []


def test_written_pages_lie_over_a_base_image_a_file_or_zeros(writer: StoreWriter) -> None:
    generator = np.random.default_rng(5)
    base, written = making.some_pages(generator, 6), making.some_pages(generator, 2)
    with writer.saving() as saving:
        sha256 = making.put_base(saving, base)
        pack, _ = making.put_pages(saving, written)
        runs = making.runs_of(
            [(START + PAGE, 1, 0, 1), (START + 3 * PAGE, 1, ZERO, 0), (START + 8 * PAGE, 1, 0, 0)]
        )
        image = making.image_of(6, [pack], runs, sha256)
        image.files = [File("/a", 100, 0, b""), File("/b", 6 * PAGE, 0, b"", sha256)]
        end = START + 6 * PAGE
        image.areas += [
            Area(end, end + 4 * PAGE, 3, "anonymous"),
            Area(end + 4 * PAGE, end + 5 * PAGE, 1, "file", 1, 2 * PAGE),
            Area(end + 5 * PAGE, end + 6 * PAGE, 1, "file", 0),
            Area(end + 6 * PAGE, end + 7 * PAGE, 1, "vvar"),
        ]
        tree = making.tree_of()
        saving.put_tree(tree)
        node = making.node_of(tree, saving.put_image(image), "s1")
        saving.put_node(node)
    wanted = np.zeros((11, PAGE), np.uint8)
    wanted[:6] = base
    wanted[1], wanted[3], wanted[8], wanted[10] = written[1], 0, written[0], base[2]
    assert writer.store.read(node, START, wanted.size) == wanted.tobytes()
    for page in (11, 12):
        with pytest.raises(NotPortableError):
            writer.store.read(node, START + page * PAGE, 1)


def test_a_layer_is_read_back_as_it_was(writer: StoreWriter) -> None:
    archive = np.random.default_rng(6).integers(0, 8, 3_000_000, np.uint8).tobytes()
    with writer.saving() as saving:
        layer = saving.put_layer(io.BytesIO(archive))
    assert writer.blobs.entries("layers/")[0].size == layer.size < len(archive)
    with writer.store.layer(layer.sha256) as file:
        assert file.read() == archive


def test_what_is_not_there_cannot_be_named(writer: StoreWriter) -> None:
    nowhere = Pack(bytes(32), 100, 50, 1)
    tree = making.tree_of()
    with writer.saving() as saving:
        with pytest.raises(StoreDamagedError):
            saving.put_image(making.image_of(1, [nowhere], making.runs_of([])))
        with pytest.raises(StoreDamagedError):
            saving.put_image(making.image_of(1, [], making.runs_of([]), bytes(32)))
        image = saving.put_image(making.image_of(1, [], making.runs_of([])))
        with pytest.raises(StoreDamagedError):
            saving.put_node(making.node_of(tree, image, "s1"))
        saving.put_tree(tree)
        with pytest.raises(StoreDamagedError):
            saving.put_node(making.node_of(tree, bytes(32), "s1"))
    assert writer.store.nodes() == []


def test_a_removed_node_leaves_its_children_to_its_parent(writer: StoreWriter) -> None:
    pages = making.some_pages(np.random.default_rng(7), 1)
    tree = making.tree_of()
    with writer.saving() as saving:
        root = making.save(saving, tree, "root", pages)
        middle = making.save(saving, tree, "s1", pages, root)
        making.save(saving, tree, "s2", pages, middle)
    writer.remove_node(tree.uid, middle.uid)
    assert [node.name for node in writer.store.lineage(writer.store.node("s2"))] == ["s2", "root"]
    with pytest.raises(NotFoundError):
        writer.remove_node(tree.uid, middle.uid)


def test_packs_are_written_no_faster_than_they_may(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store", bytes_per_s=2e6)
    pages = np.random.default_rng(8).integers(0, 256, (200, PAGE), np.uint8)
    began = time.monotonic()
    with writer.saving() as saving:
        pack, _ = making.put_pages(saving, pages)
    assert pack.size > 800_000
    assert time.monotonic() - began > 0.25


def test_sessions_are_written_anew_and_removed(writer: StoreWriter) -> None:
    session = making.session_of(making.tree_of())
    writer.put_session(session)
    session.ended = True
    writer.put_session(session)
    assert writer.store.sessions() == [session]
    writer.remove_session(session.uid)
    assert writer.store.sessions() == []


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_runs_fill_any_part_of_memory(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    writer = StoreWriter(tmp_path_factory.mktemp("any") / "store")
    pools = [making.some_pages(generator, count) for count in data.draw(st.lists(st.integers(1, 150), max_size=3))]
    with writer.saving() as saving:
        packs = [making.put_pages(saving, pool)[0] for pool in pools]
    span = data.draw(st.integers(1, 200))
    memory = generator.integers(0, 256, (span, PAGE), np.uint8)
    wanted, parts, at = memory.copy(), [], 0
    while at < span:
        count = min(int(generator.integers(1, 20)), span - at)
        kind: Any = generator.choice([-2, -1, *range(len(packs))])
        if kind == -1:
            wanted[at : at + count] = 0
            parts.append((at * PAGE, count, ZERO, 0))
        elif kind >= 0:
            count = min(count, len(pools[kind]))
            slot = int(generator.integers(0, len(pools[kind]) - count + 1))
            wanted[at : at + count] = pools[kind][slot : slot + count]
            parts.append((at * PAGE, count, kind, slot))
        at += count
    first, last = sorted(data.draw(st.tuples(st.integers(0, span), st.integers(0, span))))
    part = memory[first:last].copy()
    writer.store.fill(packs, making.runs_of(parts), part.reshape(-1), first * PAGE)
    np.testing.assert_array_equal(part, wanted[first:last])
