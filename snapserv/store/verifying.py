"""Whether everything in a store is what was written, and all that is named is there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from snapserv_client.store import framing, keys
from snapserv_client.store.blobs import Entry, stretches
from snapserv_client.store.columns import columns
from snapserv_client.store.format import ZERO, Base, Image, Marker, Node, Pack, Session, Tree
from snapserv_client.store.packs import read_footer, read_index
from snapserv_client.store.reader import Store

from snapserv.errors import NotFoundError, SnapservError, StoreDamagedError, VersionMismatchError

from .references import bases_of, named_by_node


@dataclass
class Damage:
    """An object that is missing, or not what was written.

    Attributes:
        key: Where it is, or should be.
        what: What is wrong with it.
        nodes: The keys of the nodes that need it.
    """

    key: str
    what: str
    nodes: list[str] = field(default_factory=list)


@dataclass
class Verified:
    """What was found.

    Attributes:
        objects: How many objects were read.
        size: How many bytes they have.
        nodes: How many nodes there are.
        damage: What is wrong, in order of keys; nothing, where all is well.
        strange: Keys that no store has; they are left alone.
    """

    objects: int = 0
    size: int = 0
    nodes: int = 0
    damage: list[Damage] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)


class _Verification:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.found = Verified()
        self.packs: dict[bytes, Pack] = {}
        self.wrong: dict[str, Damage] = {}
        self.nodes: list[Node] = []
        self.trees: set[str] = set()

    def look(self, entry: Entry) -> None:
        """Read an object and check it by itself."""
        kind = entry.key[: entry.key.find("/") + 1]
        if kind in (keys.LOCKS, keys.TEMPORARY):
            return
        try:
            if kind == keys.TREES:
                self.trees.add(self.store.head(entry.key, Tree).uid)
            elif kind == keys.NODES:
                self.nodes.append(self.store.head(entry.key, Node))
            elif kind == keys.SESSIONS:
                self.store.head(entry.key, Session)
            elif kind in keys.CONTENT and keys.sha256_of(entry.key):
                self._look_at_content(kind, entry)
            elif entry.key == keys.MARKER:
                framing.unpack_object(entry.key, self.store.blobs.get(entry.key), Marker)
            else:
                self.found.strange.append(entry.key)
                return
        except (StoreDamagedError, VersionMismatchError) as error:
            self.note(entry.key, error.message)
        except NotFoundError:
            return  # somebody removes it
        self.found.objects += 1
        self.found.size += entry.size

    def note(self, key: str, what: str, node: Node | None = None) -> None:
        """Note that something is wrong with an object, which a node may need."""
        damage = self.wrong.setdefault(key, Damage(key, what))
        if node and (at := keys.of_node(node.tree, node.uid)) not in damage.nodes:
            damage.nodes.append(at)

    def follow(self, node: Node) -> None:
        """Check all that a node names."""
        if node.tree not in self.trees:
            self.note(keys.of_tree(node.tree), "it is missing", node)
        for key in named_by_node(node):
            self._present(key, node)
        if not node.image:
            return
        key = keys.of_content(keys.IMAGES, node.image)
        image = self._read(key, node, Image)
        if isinstance(image, Image):
            self._follow_packs(key, image, node)
            there = {"base": len(image.bases), "file": len(image.files)}
            if any(area.kind in there and area.of >= there[area.kind] for area in image.areas):
                self.note(key, "its areas are of what it does not name", node)
            for sha256 in bases_of(image):
                key = keys.of_content(keys.BASES, sha256)
                base = self._read(key, node, Base)
                if isinstance(base, Base):
                    self._follow_packs(key, base, node)

    def _look_at_content(self, kind: str, entry: Entry) -> None:
        found = hashlib.sha256()
        for data in stretches(self.store.blobs, entry):
            found.update(data)
        sha256 = found.digest()
        if sha256 != keys.sha256_of(entry.key):
            raise framing.damaged(entry.key, "its bytes have changed")
        if kind == keys.IMAGES:
            self.store.image(sha256)
        elif kind == keys.BASES:
            self.store.base(sha256)
        elif kind == keys.PACKS:
            begins, slots = read_footer(self.store.blobs, entry.key, entry.size)
            self.packs[sha256] = Pack(sha256, entry.size, begins, slots)
            read_index(self.store.blobs, self.packs[sha256])

    def _present(self, key: str, node: Node) -> bool:
        """Return whether an object is there and well; note that the node needs it, where it is not."""
        if key not in self.wrong and self.store.blobs.head(key) is None:
            self.note(key, "it is missing", node)
        elif key in self.wrong:
            self.note(key, "", node)
        return key not in self.wrong

    def _read(self, key: str, node: Node, kind: type[Image] | type[Base]) -> Image | Base | None:
        if not self._present(key, node):
            return None
        sha256 = keys.sha256_of(key) or b""
        try:
            return self.store.image(sha256) if kind is Image else self.store.base(sha256)
        except SnapservError as error:
            self.note(key, error.message, node)
            return None

    def _follow_packs(self, key: str, image: Image | Base, node: Node) -> None:
        for pack in image.packs:
            at = keys.of_content(keys.PACKS, pack.sha256)
            if self._present(at, node) and self.packs.get(pack.sha256) not in (None, pack):
                self.note(key, f"it says of {at} what is not so", node)
        try:
            runs = columns(key, image.runs, len(image.packs))
        except StoreDamagedError as error:
            self.note(key, error.message, node)
            return
        for number, pack in enumerate(image.packs):
            here = (runs.pack == number) & (runs.pack != ZERO)
            if here.any() and int((runs.slot + runs.pages)[here].max()) > pack.slots:
                self.note(key, "its runs are of pages that its packs do not have", node)


def verify(store: Store) -> Verified:
    """Read everything that is in a store, and check it; nothing is changed.

    Raises:
        StoreUnavailableError: It cannot be read.
        UntrustedError: Something in its folder could be somebody else's.
    """
    verification = _Verification(store)
    for entry in store.blobs.entries(""):
        verification.look(entry)
    for node in verification.nodes:
        verification.follow(node)
    found = verification.found
    found.nodes = len(verification.nodes)
    found.damage = [verification.wrong[key] for key in sorted(verification.wrong)]
    return found
