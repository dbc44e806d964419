"""A store, as it is written: packs first, then what names them, and heads last.

What an object names is there before the object is, and nobody removes anything while a save goes on: so at every
moment all that anything in the store names is there too, and who is killed leaves nothing but what nobody names.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import zstandard
from snapserv_client.store import framing, keys
from snapserv_client.store.blobs import TIMEOUT_S, Blobs, stretches
from snapserv_client.store.format import Base, Image, Layer, Marker, Node, Piece, Session, Tree
from snapserv_client.store.places import open_blobs
from snapserv_client.store.reader import Store

from snapserv.errors import BadRequestError, NotFoundError, SnapservError, StoreUnavailableError

from .locks import WAIT_S, Hold, held
from .packing import PackWriter, Rate
from .references import named_by, named_by_node

CHUNK_BYTES = 1 << 20
LAYER_LEVEL = 3
PIECE_BYTES = 1 << 18
"""Streams of actions are cut at multiples of this, so that nodes of one run share what they have done together."""
REST_BYTES = 1 << 14
"""What a head holds of one at most: heads are all read to list them."""


class Saving:
    """A save that goes on: what is in the store stays there for as long as it does. Threads may share it."""

    def __init__(self, blobs: Blobs, rate: Rate, hold: Hold) -> None:
        self._blobs, self._rate, self._hold = blobs, rate, hold
        self._there: set[str] = set()

    def pack(self) -> PackWriter:
        """Return a pack to write pages to."""
        return PackWriter(self._blobs, self._rate, self._there.add)

    def put_base(self, base: Base) -> bytes:
        """Write a base image, or the content of a file; return its SHA-256.

        Raises:
            StoreDamagedError: A pack that it names is not there.
        """
        self._require(keys.of_content(keys.PACKS, pack.sha256) for pack in base.packs)
        return self._put_content(keys.BASES, framing.pack_object(base))

    def put_image(self, image: Image) -> bytes:
        """Write an image; return its SHA-256.

        Raises:
            StoreDamagedError: A pack or a base that it names is not there.
        """
        self._require(named_by(image))
        return self._put_content(keys.IMAGES, framing.pack_object(image))

    def put_layer(self, archive: BinaryIO) -> Layer:
        """Write a layer of branched folders, read from a tar archive."""
        found, size = hashlib.sha256(), 0
        spool = self._blobs.spool()
        try:
            compressor = zstandard.ZstdCompressor(level=LAYER_LEVEL)
            for data in compressor.read_to_iter(archive, read_size=CHUNK_BYTES, write_size=CHUNK_BYTES):
                self._rate.take(len(data))
                found.update(data)
                size += len(data)
                spool.write(data)
            key = keys.of_content(keys.LAYERS, found.digest())
            spool.keep(key)
        finally:
            spool.discard()
        self._there.add(key)
        return Layer(found.digest(), size)

    def put_actions(self, stream: bytes) -> tuple[list[Piece], bytes, int]:
        """Write a stream of actions in pieces; return them, the rest, for the head to hold, and what that took.

        What a node has done before is a prefix of what it has done later: pieces of that are there already.
        """
        whole = len(stream) - len(stream) % PIECE_BYTES
        end = len(stream) if len(stream) - whole > REST_BYTES else whole
        pieces, written = [], len(stream) - end
        for at in range(0, end, PIECE_BYTES):
            part = stream[at : at + PIECE_BYTES]
            data = zstandard.ZstdCompressor(level=LAYER_LEVEL).compress(part)
            pieces.append(Piece(hashlib.sha256(data).digest(), len(part)))
            if self.absent([keys.of_content(keys.ACTIONS, pieces[-1].sha256)]):
                self._rate.take(len(data))
                self._put_content(keys.ACTIONS, data)
                written += len(data)
        return pieces, stream[end:], written

    def copy(self, source: Blobs, key: str) -> int:
        """Write an object that is named by its content as it is in another store; return its size.

        Raises:
            StoreDamagedError: It is missing there, or not what was written.
        """
        entry = source.head(key)
        if entry is None:
            raise framing.missing(key)
        found, spool = hashlib.sha256(), self._blobs.spool()
        try:
            for data in stretches(source, entry):
                self._rate.take(len(data))
                found.update(data)
                spool.write(data)
            if found.digest() != keys.sha256_of(key):
                raise framing.damaged(key, "its bytes have changed")
            spool.keep(key)
        finally:
            spool.discard()
        self._there.add(key)
        return entry.size

    def absent(self, named: Iterable[str]) -> list[str]:
        """Return those keys of which there is no object; the others stay for as long as the save goes on."""
        asked = set(named) - self._there
        absent = self._blobs.absent(sorted(asked))
        self._there |= asked.difference(absent)
        return absent

    def put_tree(self, tree: Tree) -> None:
        """Write a tree, in the place of what was written of it before."""
        key = keys.of_tree(tree.uid)
        self._blobs.put(key, framing.pack_object(tree))
        self._there.add(key)

    def put_node(self, node: Node) -> None:
        """Write a node, in the place of what was written of it before.

        Raises:
            StoreDamagedError: Its tree, its image, a layer or a piece of its actions is not there.
            StoreUnavailableError: It cannot be written, or others may have removed meanwhile what it names.
        """
        key = keys.of_node(node.tree, node.uid)
        self._require([keys.of_tree(node.tree), *named_by_node(node)])
        self._hold.sure()
        anew = self._blobs.head(key) is not None
        self._blobs.put(key, framing.pack_object(node))
        try:
            self._hold.sure()
        except StoreUnavailableError:
            if not anew:
                self._blobs.delete(key)
            raise

    def _put_content(self, kind: str, data: bytes) -> bytes:
        sha256 = hashlib.sha256(data).digest()
        key = keys.of_content(kind, sha256)
        self._blobs.put(key, data)
        self._there.add(key)
        return sha256

    def _require(self, named: Iterable[str]) -> None:
        """Check that what is to be named is there."""
        for key in self.absent(named):
            raise framing.missing(key)


class StoreWriter:
    """A store that is written; threads may share it, and any number of processes.

    Args:
        place: A folder, or the URL of an object store; see `open_store`.
        create: Whether to make a store where there is none.
        bytes_per_s: How fast packs and layers are written at most; without a bound by default.
        by: What is said to have made it.
        timeout_s: How long to wait for an object store that does not answer.

    Raises:
        NotFoundError: There is no store, and none should be made.
        BadRequestError: There is something else.
        UntrustedError: The folder is somebody else's, a link, or others may write to it.
        StoreUnavailableError: It cannot be reached or written.
        VersionMismatchError: It is of a newer format.
    """

    def __init__(
        self,
        place: str | os.PathLike[str] | None = None,
        *,
        create: bool = True,
        bytes_per_s: float | None = None,
        by: str = "snapserv",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.blobs = open_blobs(place, create=create, timeout_s=timeout_s)
        self._rate = Rate(bytes_per_s)
        if create and self.blobs.head(keys.MARKER) is None:
            self._found(by)
        self.store = Store(self.blobs)
        """The same store, to be read."""

    @contextlib.contextmanager
    def saving(self, wait_s: float = WAIT_S) -> Iterator[Saving]:
        """Save something: nothing that is there is removed while the block runs. It should not be nested.

        Raises:
            StoreUnavailableError: Somebody collects for longer than ``wait_s``.
        """
        with held(self.blobs, "save", wait_s) as hold:
            yield Saving(self.blobs, self._rate, hold)

    def put_tree(self, tree: Tree) -> None:
        """Write a tree, as a save of its own; see `Saving.put_tree`."""
        with self.saving() as saving:
            saving.put_tree(tree)

    def put_node(self, node: Node) -> None:
        """Write a node whose image is there, as a save of its own; see `Saving.put_node`."""
        with self.saving() as saving:
            saving.put_node(node)

    def remove_node(self, tree: str, uid: str) -> None:
        """Remove a node, whose children become those of its parent. What only it named goes with a collection.

        Raises:
            NotFoundError: It is not there.
        """
        key = keys.of_node(tree, uid)
        with self.saving() as saving:
            if self.blobs.head(key) is None:
                raise NotFoundError(f"there is no node {uid} in {self.blobs.url}", details={"key": key})
            with contextlib.suppress(SnapservError):  # one that is damaged, or on a tree that is, can be removed
                parent = framing.unpack_object(key, self.blobs.get(key), Node).parent
                for child in self.store.nodes(tree):
                    if child.parent == uid:
                        child.parent = parent
                        saving.put_node(child)
            self.blobs.delete(key)

    def put_session(self, session: Session) -> None:
        """Write a session, in the place of what was written of it before."""
        self.blobs.put(keys.of_session(session.uid), framing.pack_object(session))

    def remove_session(self, uid: str) -> None:
        """Remove a session; one that is not there is no matter."""
        self.blobs.delete(keys.of_session(uid))

    def _found(self, by: str) -> None:
        """Make it a store, if there is nothing yet."""
        ours = (keys.LOCKS, keys.TEMPORARY)
        others = [entry.key for entry in self.blobs.entries("") if not entry.key.startswith(ours)]
        if others and keys.MARKER not in others:
            raise BadRequestError(
                f"{self.blobs.url} is no store, and there is something else: {others[0]}",
                hint="a store needs a folder, or a prefix, of its own",
            )
        marker = Marker(secrets.token_hex(16), time.time(), by)
        self.blobs.put_new(keys.MARKER, framing.pack_object(marker))
