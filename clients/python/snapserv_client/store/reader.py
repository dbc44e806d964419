"""A store, as anybody reads it: nodes with their lineage, parameters and outputs, and what was in their memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ..errors import (
    BadRequestError,
    NotFoundError,
    NotPortableError,
    SnapservError,
    StoreDamagedError,
    VersionMismatchError,
)
from ..history import Actions
from . import framing, keys, memory, packs
from .actions import actions_of
from .blobs import TIMEOUT_S, Blobs, Buffer
from .columns import Array, Columns, Pages, columns, within
from .format import PAGE, ZERO, Base, Image, Marker, Node, Pack, Runs, Session, Tree
from .places import open_blobs
from .recent import Recent

INDEX_BYTES = 64 << 20
"""How much memory indexes of packs are kept in."""
FRAME_BYTES = 64 << 20
"""How much memory unpacked frames of packs are kept in: relatives have most of their pages in the same ones."""
OBJECTS_KEPT = 32
"""How many images and bases are kept."""

Damaged: TypeAlias = list[SnapservError] | None
_Head = TypeVar("_Head", Tree, Node, Session)
_Content = TypeVar("_Content", Image, Base)


class Store:
    """A store that is read; threads may share it.

    Args:
        blobs: What it lies in.

    Raises:
        NotFoundError: It is no store.
        StoreDamagedError: What makes it one has changed.
        VersionMismatchError: It is of a newer format.
    """

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self._indexes: Recent[bytes, packs.Index] = Recent(INDEX_BYTES, lambda index: index.nbytes)
        self._frames: packs.Frames = Recent(FRAME_BYTES, len)
        self._objects: Recent[str, Any] = Recent(OBJECTS_KEPT)
        try:
            self.marker = framing.unpack_object(keys.MARKER, blobs.get(keys.MARKER), Marker)
        except NotFoundError as cause:
            raise NotFoundError(f"{blobs.url} is no store", details={"store": blobs.url}) from cause

    def trees(self, damaged: Damaged = None) -> list[Tree]:
        """Return all trees, in order of their names.

        Args:
            damaged: Where to put the errors of those that cannot be read; without it the first one is raised.
        """
        return sorted(self._heads(keys.TREES, Tree, damaged), key=lambda tree: (tree.name, tree.uid))

    def tree(self, uid: str) -> Tree:
        """Return a tree.

        Raises:
            NotFoundError: There is none of that ``uid``.
            StoreDamagedError: It is not what was written.
        """
        return self.head(keys.of_tree(uid), Tree)

    def nodes(self, tree: str | None = None, damaged: Damaged = None) -> list[Node]:
        """Return nodes, in order of when they were taken.

        Args:
            tree: The ``uid`` of the tree that they are of; all trees by default.
            damaged: Where to put the errors of those that cannot be read; without it the first one is raised.
        """
        found = self._heads(keys.nodes_of(tree) if tree is not None else keys.NODES, Node, damaged)
        return sorted(found, key=lambda node: (node.created, node.uid))

    def node(self, reference: str) -> Node:
        """Return a node.

        Args:
            reference: Its ``uid``, its name or a tag of it; or ``tree/name``, with the tree's name or ``uid``.

        Raises:
            NotFoundError: There is none.
            BadRequestError: There are several of that name.
            StoreDamagedError: It is not what was written, or there is none, and one that is not might be it.
        """
        damaged: list[SnapservError] = []
        if keys.is_uid(reference):
            for entry in self.blobs.entries(keys.NODES):
                if entry.key.endswith("/" + reference):
                    return self.head(entry.key, Node)
        of, slash, name = reference.rpartition("/")
        trees = {tree.uid for tree in self.trees(damaged) if not slash or of in (tree.name, tree.uid)}
        nodes = [each for each in self.nodes(damaged=damaged) if not slash or each.tree in trees]
        found = [each for each in nodes if name in (each.name, each.uid, *each.tags)]
        if not found and damaged:
            raise damaged[0]
        if not found:
            raise NotFoundError(f"there is no node {reference!r} in {self.blobs.url}")
        if len(found) > 1:
            raise BadRequestError(
                f"{len(found)} nodes are called {reference!r}",
                hint="name one of them by its uid",
                details={"uids": [node.uid for node in found]},
            )
        return found[0]

    def lineage(self, node: Node) -> list[Node]:
        """Return a node and its ancestors, the root last; it ends where an ancestor is not there, or damaged."""
        there = {each.uid: each for each in self.nodes(node.tree, damaged=[])}
        line = [node]
        while (parent := there.pop(line[-1].parent or "", None)) is not None:
            line.append(parent)
        return line

    def sessions(self, damaged: Damaged = None) -> list[Session]:
        """Return all sessions of servers, the latest first; see `trees`."""
        return sorted(self._heads(keys.SESSIONS, Session, damaged), key=lambda session: -session.began)

    def image(self, sha256: bytes) -> Image:
        """Return an image.

        Raises:
            StoreDamagedError: It is missing, or not what was written.
        """
        return self._content(keys.of_content(keys.IMAGES, sha256), Image)

    def base(self, sha256: bytes) -> Base:
        """Return a base image, or the content of a file.

        Raises:
            StoreDamagedError: It is missing, or not what was written.
        """
        return self._content(keys.of_content(keys.BASES, sha256), Base)

    def digests(self, pack: Pack) -> Array:
        """Return XXH3-128 of each page of a pack, by slot; dtype V16, shape (slots,).

        Raises:
            StoreDamagedError: The pack is missing, or its index is not what was written.
        """
        return self._index(pack).digests

    def pages(self, of: Sequence[Pack], pack: Array, slot: Array, into: Any = None) -> Array:
        """Return pages of packs, each of them checked.

        Args:
            of: The packs.
            pack: Which of them each page is of, or `ZERO` for zeros; shape (n,).
            slot: Where in its pack each page is; shape (n,).
            into: Where to put them, a writable buffer of n * 4096 bytes; by default a new array.

        Returns:
            uint8, shape (n, 4096); a view of ``into``, where that is given.

        Raises:
            StoreDamagedError: A pack is missing, or a page is not what was written.
        """
        out = np.empty((len(pack), PAGE), np.uint8) if into is None else _rows(into)
        if len(out) != len(pack):
            raise BadRequestError(f"there is room for {len(out)} pages, not for {len(pack)}")
        self._scatter(of, Pages(np.arange(len(pack)), np.asarray(pack), np.asarray(slot, np.int64)), out)
        return out

    def fill(self, of: Sequence[Pack], runs: Runs | Columns, into: Any, start: int = 0) -> None:
        """Put the pages of runs where they belong in a buffer; what no run names is left as it is.

        Args:
            of: The packs that the runs name.
            runs: Of an image or a base.
            into: A writable buffer of whole pages, such as a memory map.
            start: The address, or the offset, that its first byte stands for.

        Raises:
            StoreDamagedError: A pack is missing, or a page is not what was written.
        """
        out = _rows(into)
        table = columns("runs", runs, len(of)) if isinstance(runs, Runs) else runs
        self._scatter(of, within(table, start, out.nbytes), out)

    def read(self, node: Node, address: int, size: int) -> bytes:
        """Return what a node's memory holds.

        Raises:
            NotFoundError: It has no memory there.
            NotPortableError: It is of a file that is not in the store, or of the kernel's or the server's.
            StoreDamagedError: Something is missing, or not what was written.
        """
        return memory.read(self, _image_of(node), address, size).tobytes()

    def field(self, node: Node, name: str) -> Array:
        """Return a field of a node, as it was when it was taken; an array of its own.

        Raises:
            NotFoundError: There is no such field.
            NotPortableError: The node lasts as its recording alone.
            StoreDamagedError: Something is missing, or not what was written.
        """
        fields = {field.name: field for field in self.tree(node.tree).fields}
        if name not in fields:
            raise NotFoundError(f"there is no field {name!r}", hint=f"fields: {', '.join(fields) or 'none'}")
        return memory.field(self, _image_of(node), fields[name])

    def stream(self, node: Node) -> bytes:
        """Return what was done to a node since its tree's root, as a stream; see `snapserv_client.stream`.

        Raises:
            NotPortableError: That was not kept; says why.
            StoreDamagedError: A piece of it is missing, or not what was written.
        """
        recorded = node.recorded
        if recorded is None or recorded.missing:
            why = recorded.missing if recorded is not None else "it was saved without"
            raise NotPortableError(f"there is no recording of {node.name}: {why}", details={"missing": why})
        return memory.actions(self.blobs, recorded)

    def actions(self, node: Node) -> Actions:
        """Return what was done to a node since its tree's root; `Server.replay` takes it, in any server.

        Raises:
            NotPortableError: That was not kept; says why.
            StoreDamagedError: It is missing, or not what was written.
        """
        return actions_of(node.name, self.stream(node))

    def layer(self, sha256: bytes) -> Any:
        """Return a layer of branched folders as a file, to be read from its beginning: a tar archive.

        Raises:
            StoreDamagedError: It is missing, or not what was written.
        """
        return memory.layer(self.blobs, sha256)

    def head(self, key: str, kind: type[_Head]) -> _Head:
        """Return the tree, node or session of a key.

        Raises:
            NotFoundError: It is not there.
            StoreDamagedError: It is not what was written.
        """
        return _placed(key, framing.unpack_object(key, self.blobs.get(key), kind))

    def _heads(self, prefix: str, kind: type[_Head], damaged: Damaged) -> Iterable[_Head]:
        for key, data in self.blobs.get_all(entry.key for entry in self.blobs.entries(prefix)):
            if data is None:
                continue  # somebody has removed it since
            try:
                yield _placed(key, framing.unpack_object(key, data, kind))
            except (StoreDamagedError, VersionMismatchError) as error:
                if damaged is None:
                    raise
                damaged.append(error)

    def _content(self, key: str, kind: type[_Content]) -> _Content:
        kept = self._objects.get(key)
        if isinstance(kept, kind):
            return kept
        made = framing.unpack_object(key, memory.content(self.blobs, key), kind)
        self._objects.put(key, made)
        return made

    def _index(self, pack: Pack) -> packs.Index:
        index = self._indexes.get(pack.sha256)
        if index is None:
            try:
                index = packs.read_index(self.blobs, pack)
            except NotFoundError as cause:
                raise framing.missing(keys.of_content(keys.PACKS, pack.sha256)) from cause
            self._indexes.put(pack.sha256, index)
        return index

    def _scatter(self, of: Sequence[Pack], pages: Pages, out: Array) -> None:
        out[pages.row[pages.pack == ZERO]] = 0
        order = np.argsort(pages.pack, kind="stable")
        for number, first, last in packs.groups(pages.pack[order]):
            if number == ZERO:
                continue
            here, pack = order[first:last], of[number]
            index, slot, row = self._index(pack), pages.slot[here], pages.row[here]
            try:
                packs.read_pages(self.blobs, pack, index, slot, row, out, self._frames)
            except NotFoundError as cause:
                raise framing.missing(keys.of_content(keys.PACKS, pack.sha256)) from cause


def open_store(place: str | os.PathLike[str] | None = None, *, timeout_s: float = TIMEOUT_S) -> Store:
    """Open a store to read it.

    Args:
        place: A folder, or a URL such as ``s3://bucket/prefix``; by default that of the environment's
            SNAPSERV_STORE, or else this user's own.
        timeout_s: How long to wait for an object store that does not answer.

    Raises:
        NotFoundError: There is none.
        UntrustedError: The folder is somebody else's, a link, or others may write to it.
        StoreUnavailableError: It cannot be reached.
        StoreDamagedError: What makes it a store has changed.
        VersionMismatchError: It is of a newer format.
    """
    return Store(open_blobs(place, timeout_s=timeout_s))


def _image_of(node: Node) -> bytes:
    if not node.image:
        raise NotPortableError(
            f"{node.name} lasts as its recording alone: there is nothing of its memory",
            hint="load it with --replay, and read it there",
        )
    return node.image


def _placed(key: str, head: _Head) -> _Head:
    """Return a head, if it lies where it belongs."""
    wanted = keys.of_node(head.tree, head.uid) if isinstance(head, Node) else None
    wanted = wanted or (keys.of_tree(head.uid) if isinstance(head, Tree) else keys.of_session(head.uid))
    if wanted != key:
        raise framing.damaged(key, f"it belongs at {wanted}")
    return head


def _rows(into: Buffer | Array) -> Array:
    flat = np.frombuffer(into, np.uint8)
    if flat.nbytes % PAGE or not flat.flags.writeable:
        raise BadRequestError("a writable buffer of whole pages is needed")
    return flat.reshape(-1, PAGE)
