"""What is not what was written is found, whatever it is, and named; what is newer is told from it."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from snapserv_client.errors import NotFoundError, SnapservError, StoreDamagedError, VersionMismatchError
from snapserv_client.store import Store, open_store
from snapserv_client.store.format import PAGE, Base, Image, Node, Tree
from snapserv_client.store.framing import HEADER, pack_object, unpack_object

from snapserv.store.verifying import verify
from snapserv.store.writing import StoreWriter

from . import making
from .making import START

KINDS = ("snapserv-store", "packs/", "images/", "bases/", "layers/", "trees/", "nodes/", "sessions/")


def fill(writer: StoreWriter) -> Node:
    """Write an object of each kind."""
    generator = np.random.default_rng(1)
    tree = making.tree_of(fields={"heat": (0, "<f8", [512])})
    with writer.saving() as saving:
        base = making.put_base(saving, making.some_pages(generator, 70))
        layers = [saving.put_layer(io.BytesIO(bytes(5000)))]
        node = making.save(saving, tree, "s1", making.some_pages(generator, 66), base=base, layers=layers)
    writer.put_session(making.session_of(tree))
    return node


def use(store: Store) -> None:
    """Read everything that there is to read."""
    store.sessions()
    for node in store.nodes():
        store.tree(node.tree)
        image = store.image(node.image)
        store.read(node, START, 66 * PAGE)
        for sha256 in image.bases:
            base = store.base(sha256)
            store.fill(base.packs, base.runs, bytearray(base.size))
        for layer in node.layers:
            with store.layer(layer.sha256) as file:
                file.read()


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_found_by_who_reads_it_and_by_verify(writer: StoreWriter, kind: str) -> None:
    node = fill(writer)
    generator = np.random.default_rng(len(kind))
    use(open_store(writer.blobs.url))
    key = generator.choice([entry.key for entry in writer.blobs.entries("") if entry.key.startswith(kind)])
    sound = writer.blobs.get(key)
    places = {0, 9, len(sound) // 2, len(sound) - 1, *generator.integers(0, len(sound), 6).tolist()}
    for place in sorted(places):
        data = bytearray(sound)
        data[place] ^= 1 << int(generator.integers(0, 8))
        writer.blobs.put(key, data)
        found = verify(writer.store)
        assert [damage.key for damage in found.damage if "is missing" not in damage.what] == [key]
        if kind in ("packs/", "images/", "bases/", "layers/"):
            assert found.damage[0].nodes == [f"nodes/{node.tree}/{node.uid}"]
        # The first bytes of a pack say what it is to people, and nobody reads them who has its index.
        if not (kind == "packs/" and place < 16):
            with pytest.raises(StoreDamagedError) as raised:
                use(open_store(writer.blobs.url))
            assert raised.value.details["key"] == key
    writer.blobs.put(key, sound)
    use(open_store(writer.blobs.url))
    assert verify(writer.store).damage == []


@pytest.mark.parametrize("kind", ["packs/", "images/", "bases/", "layers/"])
def test_what_is_missing_or_cut_short_is_named(writer: StoreWriter, kind: str) -> None:
    node = fill(writer)
    (key, *_) = [entry.key for entry in writer.blobs.entries(kind)]
    sound = writer.blobs.get(key)
    for rest in (None, b"", sound[:-1], sound[: len(sound) // 2]):
        if rest is None:
            writer.blobs.delete(key)
        else:
            writer.blobs.put(key, rest)
        with pytest.raises(StoreDamagedError) as raised:
            use(open_store(writer.blobs.url))
        assert raised.value.details["key"] == key
        assert raised.value.details.get("missing", False) == (rest is None)
        (damage,) = verify(writer.store).damage
        assert (damage.key, damage.nodes) == (key, [f"nodes/{node.tree}/{node.uid}"])


def test_one_damaged_node_does_not_hide_the_others(writer: StoreWriter) -> None:
    node = fill(writer)
    tree = writer.store.tree(node.tree)
    with writer.saving() as saving:
        child = making.save(saving, tree, "s2", making.some_pages(np.random.default_rng(8), 1), node)
        making.save(saving, tree, "s3", making.some_pages(np.random.default_rng(9), 1), child)
    key = f"nodes/{child.tree}/{child.uid}"
    data = bytearray(writer.blobs.get(key))
    data[-1] ^= 1
    writer.blobs.put(key, data)
    store = open_store(writer.blobs.url)
    with pytest.raises(StoreDamagedError):
        store.nodes()
    errors = list[SnapservError]()
    assert [each.name for each in store.nodes(damaged=errors)] == ["s1", "s3"]
    assert [error.details["key"] for error in errors] == [key]
    assert store.node("world/s1") == node
    assert [each.name for each in store.lineage(store.node("s3"))] == ["s3"]
    for reference in ("s2", child.uid):
        with pytest.raises(StoreDamagedError):
            store.node(reference)
    writer.remove_node(child.tree, child.uid)
    assert [each.name for each in store.nodes()] == ["s1", "s3"]


def test_a_head_in_the_place_of_another_is_found(writer: StoreWriter) -> None:
    fill(writer)
    (key,) = [entry.key for entry in writer.blobs.entries("nodes/")]
    other = key[:-32] + making.uid()
    writer.blobs.put(other, writer.blobs.get(key))
    with pytest.raises(StoreDamagedError):
        writer.store.nodes()
    assert [damage.key for damage in verify(writer.store).damage] == [other]


def test_what_is_strange_is_told_and_left_alone(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store")
    fill(writer)
    for name in ("notes.txt", "packs/zz", f"packs/00/{'1' * 64}"):
        writer.blobs.put(name, b"hello")
    found = verify(writer.store)
    assert found.strange == ["notes.txt", f"packs/00/{'1' * 64}", "packs/zz"]
    assert found.damage == []
    assert found.nodes == 1


def newer_object(data: bytes) -> bytes:
    """Return an object as a newer version would write it: only the frame is as it is."""
    start = bytearray(data[:16])
    start[8:10] = struct.pack("<H", 2)
    return bytes(start) + xxhash.xxh3_128_digest(bytes(start) + b"something new") + b"something new"


@pytest.mark.parametrize("kind", ["snapserv-store", "trees/", "nodes/", "sessions/"])
def test_a_newer_format_is_no_damage(writer: StoreWriter, kind: str) -> None:
    fill(writer)
    (key,) = [entry.key for entry in writer.blobs.entries("") if entry.key.startswith(kind)]
    writer.blobs.put(key, newer_object(writer.blobs.get(key)))
    with pytest.raises(VersionMismatchError) as raised:
        use(open_store(writer.blobs.url))
    assert raised.value.details == {"key": key, "format": 2, "known": 1}
    if kind == "snapserv-store":
        with pytest.raises(VersionMismatchError):
            StoreWriter(writer.blobs.url)


def test_a_pack_of_a_newer_format_is_no_damage_and_a_flipped_byte_of_its_footer_is(writer: StoreWriter) -> None:
    with writer.saving() as saving:
        pack, slots = making.put_pages(saving, making.some_pages(np.random.default_rng(3), 3))
    key = f"packs/{pack.sha256.hex()[:2]}/{pack.sha256.hex()}"
    sound = writer.blobs.get(key)
    for place in range(len(sound) - 48, len(sound)):
        data = bytearray(sound)
        data[place] ^= 2
        writer.blobs.put(key, data)
        with pytest.raises(StoreDamagedError):
            open_store(writer.blobs.url).digests(pack)
    index, footer = sound[pack.index : -48], bytearray(sound[-48:])
    footer[32] = 2
    footer[16:32] = xxhash.xxh3_128_digest(index + footer[:16] + footer[32:])
    writer.blobs.put(key, sound[:-48] + footer)
    with pytest.raises(VersionMismatchError):
        open_store(writer.blobs.url).pages([pack], np.zeros(3, np.uint32), slots)


def test_fields_that_were_added_are_ignored() -> None:
    import msgspec
    import zstandard

    tree = making.tree_of()
    plain = msgspec.msgpack.encode({**msgspec.to_builtins(tree), "colour": "red"})
    packed = zstandard.ZstdCompressor().compress(plain)
    start = HEADER.pack(b"\x89snapobj", 1, 2, len(plain), b"")[:16]
    data = start + xxhash.xxh3_128_digest(start + packed) + packed
    assert unpack_object("trees/x", data, Tree) == tree


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 60), st.sampled_from([Tree, Node, Image, Base]))
def test_no_bytes_are_believed(data: bytes, keep: int, kind: type[Tree]) -> None:
    sound = pack_object(making.tree_of())
    for tried in (data, sound[:keep] + data, sound[: len(sound) - keep]):
        if tried == sound and kind is Tree:
            continue
        with pytest.raises((StoreDamagedError, VersionMismatchError)):
            unpack_object("trees/x", tried, kind)


def test_runs_that_contradict_themselves_are_damage(writer: StoreWriter) -> None:
    pages = making.some_pages(np.random.default_rng(2), 2)
    one = (START, 1, 0, 0)
    wrong: list[tuple[str, Callable[[Image], None]]] = [
        ("order", lambda image: setattr(image, "runs", making.runs_of([(START + PAGE, 1, 0, 0), one]))),
        (
            "overlap",
            lambda image: setattr(image, "runs", making.runs_of([(START, 2, 0, 0), (START + PAGE, 1, 0, 0)])),
        ),
        ("no pack", lambda image: setattr(image, "runs", making.runs_of([(START, 1, 1, 0)]))),
        ("no slot", lambda image: setattr(image, "runs", making.runs_of([(START, 2, 0, 1)]))),
        ("half a page", lambda image: setattr(image, "runs", making.runs_of([(START + 8, 1, 0, 0)]))),
        ("half a column", lambda image: setattr(image.runs, "slot", b"abc")),
        ("short column", lambda image: setattr(image.runs, "pack", b"")),
        ("no base", lambda image: setattr(image.areas[0], "kind", "base")),
    ]
    tree = making.tree_of()
    with writer.saving() as saving:
        saving.put_tree(tree)
        pack, _ = making.put_pages(saving, pages)
        for name, change in wrong:
            image = making.image_of(2, [pack], making.runs_of([one]))
            change(image)
            node = making.node_of(tree, saving.put_image(image), name)
            saving.put_node(node)
            with pytest.raises(StoreDamagedError):
                writer.store.read(node, START, 2 * PAGE)
    found = verify(writer.store)
    assert len(found.damage) == len(wrong)
    with pytest.raises(NotFoundError):
        writer.store.node("unknown")
