"""Removing what nobody names. See docs/store.md for why nothing goes that somebody is about to name."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from snapserv_client.store import keys
from snapserv_client.store.blobs import Entry
from snapserv_client.store.folder import FolderBlobs

from snapserv.errors import StoreDamagedError

from .locks import WAIT_S, Hold, held
from .marks import LEASE_S
from .references import References
from .writing import StoreWriter

GRACE_S = 24 * 3600.0
"""How old an object of an object store is at least before it goes."""
ORDER = (keys.TREES, keys.IMAGES, keys.BASES, keys.LAYERS, keys.ACTIONS, keys.PACKS)
"""What names others goes before what it names."""


@dataclass(frozen=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        removed: The keys of what is gone, in the order in which it went.
        size: How many bytes that was.
        young: How many bytes nobody names, but are too young to go.
    """

    removed: list[str]
    size: int
    young: int


def collect(
    writer: StoreWriter, *, grace_s: float | None = None, dry_run: bool = False, wait_s: float = WAIT_S
) -> Collected:
    """Remove what nobody names: trees without nodes, images, bases, layers, actions, packs, and leftovers.

    Most of what there is to know is read before the store is locked, so saves wait for little.

    Args:
        writer: The store.
        grace_s: How old an object is at least before it goes, by the clock of what it lies in; by default nothing
            in a folder, where the kernel's locks tell who writes, and a day in an object store.
        dry_run: Whether only to tell what would go.
        wait_s: How long to wait for saves that go on.

    Raises:
        StoreDamagedError: Something that a node needs is missing or damaged, so what it needs cannot be told.
        StoreUnavailableError: Others save for longer than ``wait_s``, or the store cannot be reached.
    """
    in_folder = isinstance(writer.blobs, FolderBlobs)
    grace = (0.0 if in_folder else GRACE_S) if grace_s is None else grace_s
    references = References(writer.store)
    found = _unnamed(writer, references, grace)
    if dry_run:
        return Collected([entry.key for entry in found[0]], _size(found[0]), _size(found[1]))
    with held(writer.blobs, "collect", wait_s) as hold:
        old, young = _unnamed(writer, references, grace)
        if in_folder:  # or they are files of whatever machine wrote them
            old += writer.blobs.entries(keys.TEMPORARY)
        _remove(writer, old, hold)
        if not in_folder:
            _remove_marks(writer)
    return Collected([entry.key for entry in old], _size(old), _size(young))


def _unnamed(writer: StoreWriter, references: References, grace: float) -> tuple[list[Entry], list[Entry]]:
    """Return what nobody names: what is old enough to go, in that order, and what is too young.

    What is too young stays with all that it needs, so that what is there is always whole.
    """
    store = writer.store
    entries = {kind: writer.blobs.entries(kind) for kind in ORDER}
    now = _now(writer) if grace else math.inf
    trees = {uid for session in store.sessions() for uid in session.trees}
    named: set[str] = set()
    for node in store.nodes():
        trees.add(node.tree)
        named |= references.of_node(node)
    named |= {keys.of_tree(uid) for uid in trees}
    young: list[Entry] = []

    def spare(kind: str, needs: Callable[[bytes], frozenset[str]] | None) -> None:
        for entry in entries[kind]:
            if entry.key not in named and now - entry.modified < grace:
                young.append(entry)
                sha256 = keys.sha256_of(entry.key)
                if needs and sha256:
                    try:
                        named.update(needs(sha256) - {entry.key})
                    except StoreDamagedError:
                        continue  # nobody names it, and nobody can use it

    spare(keys.IMAGES, references.of_image)
    spare(keys.BASES, references.of_base)
    for kind in (keys.TREES, keys.LAYERS, keys.ACTIONS, keys.PACKS):
        spare(kind, None)
    stay = named.union(entry.key for entry in young)
    return [entry for kind in ORDER for entry in entries[kind] if entry.key not in stay], young


def _remove(writer: StoreWriter, entries: list[Entry], hold: Hold) -> None:
    for entry in entries:
        hold.sure()
        writer.blobs.delete(entry.key)


def _remove_marks(writer: StoreWriter) -> None:
    """Remove the marks that those have left in an object store who are no more."""
    now = _now(writer)
    for entry in writer.blobs.entries(keys.LOCKS):
        if now - entry.modified > 2 * LEASE_S:
            writer.blobs.delete(entry.key)


def _now(writer: StoreWriter) -> float:
    """Return what the clock shows by which it is noted when objects were written."""
    key = f"{keys.LOCKS}clock-{secrets.token_hex(16)}"
    writer.blobs.put(key, b"")
    try:
        entry = writer.blobs.head(key)
        return entry.modified if entry else 0.0  # at which nothing is old
    finally:
        writer.blobs.delete(key)


def _size(entries: list[Entry]) -> int:
    return sum(entry.size for entry in entries)
