"""What was done to nodes, in a store: in pieces, shared, copied, collected and checked as all else is."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pytest
from snapserv_client.errors import NotPortableError, StoreDamagedError
from snapserv_client.protocol import CallAction, StepAction
from snapserv_client.store import keys
from snapserv_client.store.format import Node, Recorded

from snapserv.cell.history import CALL, STEP, History
from snapserv.store.collecting import collect
from snapserv.store.copying import copy_nodes
from snapserv.store.usage import measure
from snapserv.store.verifying import verify
from snapserv.store.writing import PIECE_BYTES, StoreWriter

from . import making


def stream_of(history: History) -> bytes:
    content: bytes = history.stream(1 << 30)["actions"].tobytes()
    return content


def long_history(count: int = 3000) -> History:
    history = History()
    for number in range(count):
        history.add(
            STEP, history.pack({"push": number, "noise": np.random.default_rng(number).bytes(150)}), ticks=1
        )
    return history


def put(writer: StoreWriter, stream: bytes, name: str, parent: Node | None = None) -> Node:
    """Save a node that lasts as its recording alone."""
    tree = making.tree_of() if parent is None else writer.store.tree(parent.tree)
    with writer.saving() as saving:
        pieces, rest, _ = saving.put_actions(stream)
        saving.put_tree(tree)
        node = making.node_of(tree, b"", name, parent, recorded=Recorded(pieces, rest, count=1))
        saving.put_node(node)
    return node


def test_what_was_done_is_read_as_the_client_replays_it(writer: StoreWriter) -> None:
    history = History()
    history.add(STEP, history.pack({"array": np.arange(300.0)}), ticks=7)
    history.add(STEP, history.pack({"array": np.arange(300.0)}), ticks=7)
    history.add(CALL, history.pack(("tell", [1 + 2j, "x"], {"n": np.float32(1.5)})), raised=True)
    node = put(writer, stream_of(history), "s1")
    step, call = writer.store.actions(node)
    assert isinstance(step, StepAction)
    assert (step.ticks, step.repeat, step.step, call.step) == (7, 2, 0, 14)
    np.testing.assert_array_equal(step.inputs["array"], np.arange(300.0))
    assert isinstance(call, CallAction)
    assert (call.method, call.args[0], call.kwargs, call.raised) == ("tell", 1 + 2j, {"n": 1.5}, True)
    with pytest.raises(NotPortableError, match="recording alone"):
        writer.store.read(node, making.START, 8)


def test_descendants_share_pieces_and_each_goes_without_harm(writer: StoreWriter, tmp_path: Path) -> None:
    history = long_history()
    first = stream_of(history)
    root = put(writer, b"", "root")
    one = put(writer, first, "one", root)
    history.add(STEP, history.pack({"push": 0}), ticks=1)
    two = put(writer, stream_of(history), "two", one)
    pieces = [entry.key for entry in writer.blobs.entries(keys.ACTIONS)]
    assert len(pieces) == 3, "one that both have, and the end of each"
    assert writer.store.stream(one) == first
    assert writer.store.stream(two).startswith(first[:PIECE_BYTES])
    assert collect(writer, grace_s=0).removed == []
    assert verify(writer.store).damage == []
    assert [each.shared > 0 for each in measure(writer.store).trees[0].nodes] == [False, True, True]
    other = StoreWriter(tmp_path / "other")
    assert copy_nodes(writer.store, other, [one]).objects == 2
    assert other.store.stream(other.store.node("one")) == first
    writer.remove_node(one.tree, one.uid)
    assert len(collect(writer, grace_s=0).removed) == 1
    assert len(writer.store.actions(two)) == 3001
    gone = keys.of_content(keys.ACTIONS, two.recorded.pieces[0].sha256) if two.recorded else ""
    writer.blobs.delete(gone)
    assert [(each.key, each.nodes) for each in verify(writer.store).damage] == [
        (gone, [keys.of_node(two.tree, two.uid)])
    ]
    with pytest.raises(StoreDamagedError, match="missing"):
        writer.store.stream(two)


def test_a_recording_that_is_missing_or_none_says_so(writer: StoreWriter) -> None:
    root = put(writer, b"", "root")
    tree = writer.store.tree(root.tree)
    nodes = [
        making.node_of(tree, b"", "long", root, recorded=Recorded(missing="it is 99 bytes")),
        making.node_of(tree, b"", "none", root),
        making.node_of(tree, b"", "cut", root, recorded=Recorded(actions=msgpack.packb(7))),
        making.node_of(tree, b"", "odd", root, recorded=Recorded(actions=msgpack.packb("x") * 3)),
        making.node_of(tree, b"", "kind", root, recorded=Recorded(actions=b"\x01\x93\x09\x00\xc2\x80")),
    ]
    for node, error in zip(nodes, [NotPortableError] * 2 + [StoreDamagedError] * 3, strict=True):
        with writer.saving() as saving:
            saving.put_node(node)
        with pytest.raises(error, match=node.name):
            writer.store.actions(writer.store.node(node.uid))
