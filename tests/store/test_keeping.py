"""Collecting what nobody names, measuring what is whose, verifying, and copying from store to store."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from snapserv_client.errors import NameTakenError, StoreDamagedError, StoreUnavailableError
from snapserv_client.store.format import Base, Node

from snapserv.store.collecting import collect
from snapserv.store.copying import copy_nodes
from snapserv.store.usage import measure
from snapserv.store.verifying import verify
from snapserv.store.writing import StoreWriter

from ..conftest import assert_settles
from . import making
from .making import START


def keys(writer: StoreWriter, prefix: str) -> set[str]:
    return {entry.key for entry in writer.blobs.entries(prefix)}


def everything(writer: StoreWriter) -> set[str]:
    return {key for key in keys(writer, "") if not key.startswith("locks/")}


def can_save(writer: StoreWriter) -> bool:
    try:
        with writer.saving(wait_s=0):
            return True
    except StoreUnavailableError:
        return False


def line_of_three(writer: StoreWriter) -> list[Node]:
    """Save a root and two descendants, on one base image, each with a page of its own."""
    generator = np.random.default_rng(1)
    tree, nodes = making.tree_of(), list[Node]()
    with writer.saving() as saving:
        base = making.put_base(saving, making.some_pages(generator, 80))
        for name in ("root", "s1", "s2"):
            pages = making.some_pages(generator, 1)
            nodes.append(making.save(saving, tree, name, pages, nodes[-1] if nodes else None, base))
    return nodes


def test_only_what_nobody_names_is_collected(writer: StoreWriter) -> None:
    root, middle, last = line_of_three(writer)
    before = everything(writer)
    assert collect(writer, grace_s=0).removed == []
    assert everything(writer) == before
    writer.remove_node(middle.tree, middle.uid)
    would = collect(writer, grace_s=0, dry_run=True)
    assert len(everything(writer)) == len(before) - 1
    done = collect(writer, grace_s=0)
    assert done == would
    assert [key.partition("/")[0] for key in done.removed] == ["images", "packs"]
    assert verify(writer.store).damage == []
    for node in (root, last):
        writer.remove_node(node.tree, node.uid)
    collect(writer, grace_s=0)
    assert everything(writer) == {"snapserv-store"}


def test_a_session_keeps_its_tree_and_what_killed_writers_left_goes(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store")
    tree = making.tree_of()
    writer.put_tree(tree)
    writer.put_session(making.session_of(tree))
    left = Path(writer.blobs.url) / "temporary" / "left"
    left.write_bytes(b"half a pack")
    assert collect(writer, grace_s=0).removed == ["temporary/left"]
    assert [each.uid for each in writer.store.trees()] == [tree.uid]


def test_what_is_young_stays_with_all_that_it_needs(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store")
    generator = np.random.default_rng(2)
    with writer.saving() as saving:
        pack, slots = making.put_pages(saving, making.some_pages(generator, 2))
        base = saving.put_base(Base(8192, [pack], making.runs_of_slots(0, slots)))
        saving.put_image(making.image_of(2, [], making.runs_of([]), base))
        making.put_pages(saving, making.some_pages(generator, 1))
    for kind in ("packs/", "bases/"):
        for key in keys(writer, kind):
            os.utime(Path(writer.blobs.url) / key, (1, 1))
    found = collect(writer, grace_s=3600)
    assert [key.partition("/")[0] for key in found.removed] == ["packs"]
    assert found.young > 0
    assert len(keys(writer, "packs/")) == len(keys(writer, "bases/")) == 1
    assert len(collect(writer, grace_s=0).removed) == 3


def test_nothing_is_collected_where_it_cannot_be_told_what_a_node_needs(writer: StoreWriter) -> None:
    node = line_of_three(writer)[1]
    writer.remove_node(node.tree, node.uid)
    (one, *_) = keys(writer, "nodes/")
    data = bytearray(writer.blobs.get(one))
    data[40] ^= 1
    writer.blobs.put(one, data)
    before = everything(writer)
    with pytest.raises(StoreDamagedError):
        collect(writer, grace_s=0)
    assert everything(writer) == before
    _, tree, uid = one.split("/")
    writer.remove_node(tree, uid)
    assert collect(writer, grace_s=0).removed


def test_saves_and_collections_wait_for_each_other(writer: StoreWriter) -> None:
    began, end, order = threading.Event(), threading.Event(), list[str]()

    def save() -> None:
        with writer.saving() as saving:
            began.set()
            end.wait(10)
            making.save(saving, making.tree_of(), "s1", making.some_pages(np.random.default_rng(3), 1))
            order.append("saved")

    thread = threading.Thread(target=save)
    thread.start()
    try:
        assert began.wait(10)
        assert can_save(writer)  # side by side
        with pytest.raises(StoreUnavailableError) as raised:
            collect(writer, grace_s=0, wait_s=0.1)
        assert raised.value.details["reason"] == "in_use"
        collecting = threading.Thread(
            target=lambda: order.append(f"collected {len(collect(writer, grace_s=0).removed)}")
        )
        collecting.start()
        # Who waits to collect lets no more saves begin, or would wait for ever where there is always one.
        assert_settles(lambda: can_save(writer), False)
    finally:
        end.set()
        thread.join()
    collecting.join()
    assert order == ["saved", "collected 0"]
    assert can_save(writer)


def test_usage_tells_what_is_gained_by_removing_a_node(writer: StoreWriter) -> None:
    nodes = line_of_three(writer)
    other = making.tree_of("other")
    with writer.saving() as saving:
        making.save(saving, other, "s1", making.some_pages(np.random.default_rng(9), 5))
        making.put_pages(saving, making.some_pages(np.random.default_rng(10), 3))
    usage = measure(writer.store)
    assert [tree.name for tree in usage.trees] == ["other", "world"]
    assert [each.node.name for each in usage.trees[1].nodes] == ["root", "s1", "s2"]
    assert usage.trees[0].nodes[0].shared == 0
    sizes = {entry.key: entry.size for entry in writer.blobs.entries("")}
    assert usage.named + usage.unnamed == sum(sizes.values())
    assert usage.unnamed == collect(writer, grace_s=0, dry_run=True).size > 4096
    each = usage.trees[1].nodes[1]
    collect(writer, grace_s=0)
    before = sum(sizes.values()) - usage.unnamed
    writer.remove_node(nodes[1].tree, nodes[1].uid)
    collect(writer, grace_s=0)
    after = sum(entry.size for entry in writer.blobs.entries(""))
    # The head of its child is written anew, with another parent.
    assert before - after == pytest.approx(each.own, abs=60)


def test_nodes_are_copied_with_what_they_need_and_nothing_twice(writer: StoreWriter, tmp_path: Path) -> None:
    root, middle, last = line_of_three(writer)
    target = StoreWriter(tmp_path / "other")
    first = copy_nodes(writer.store, target, [root])
    assert (first.nodes, first.objects) == (1, 4)
    second = copy_nodes(writer.store, target, [last])
    assert (second.nodes, second.objects) == (1, 2)
    assert [node.name for node in target.store.lineage(target.store.node("s2"))] == ["s2", "root"]
    third = copy_nodes(writer.store, target, [middle])
    assert (third.nodes, third.objects) == (1, 2)
    assert [node.name for node in target.store.lineage(target.store.node("s2"))] == ["s2", "s1", "root"]
    again = copy_nodes(writer.store, target, writer.store.nodes())
    assert (again.nodes, again.objects, again.size) == (3, 0, 0)
    assert everything(target) == everything(writer)
    for node in (root, middle, last):
        assert target.store.read(node, START, 4096) == writer.store.read(node, START, 4096)
    assert verify(target.store).damage == []


def test_a_name_that_another_node_has_is_not_copied_over(writer: StoreWriter, tmp_path: Path) -> None:
    root, middle, _ = line_of_three(writer)
    target = StoreWriter(tmp_path / "other")
    copy_nodes(writer.store, target, [root])
    with target.saving() as saving:
        tree = target.store.tree(root.tree)
        making.save(saving, tree, "s9", making.some_pages(np.random.default_rng(4), 1), root, tags=["s1"])
    before = everything(target)
    with pytest.raises(NameTakenError):
        copy_nodes(writer.store, target, [middle])
    assert everything(target) == before
