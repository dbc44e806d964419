"""What lies in a store: every kind of object, as msgpack carries it. See docs/store.md for the layout of keys.

An image is what a frozen process is: where its areas of memory lie, which pages of which packs they hold, which
files it stands on, and what the kernel holds for it. Whoever has an image and its packs can bring the process back,
on a machine like the one it was taken on; and anybody, anywhere, can read the fields out of it.

Columns are NumPy arrays as bytes, little-endian, one element for each row of a table.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

FORMAT = 1
"""The version of all that is said here. What is newer is refused; what is added does not change it."""
PAGE = 4096
FRAME_PAGES = 64
"""How many pages are compressed together: so many must be read to have one."""
ZERO = 0xFFFFFFFF
"""As a run's pack: its pages are zeros."""


class _Object(msgspec.Struct, omit_defaults=True):
    """An object of a store: a map by field name; unknown fields are ignored, so that some can be added."""


class Marker(_Object):
    """What makes a folder, or a prefix of an object store, a store; it is written first.

    Attributes:
        uid: 32 hexadecimal digits.
        created: When it was made, in seconds since 1970.
        by: The version of snapserv that made it.
    """

    uid: str
    created: float
    by: str


class Pack(_Object):
    """A pack that is referred to: pages in compressed frames, and an index of them.

    Attributes:
        sha256: Of all of its bytes, which is its name.
        size: In bytes.
        index: Where its index begins.
        slots: How many pages it holds.
    """

    sha256: bytes
    size: int
    index: int
    slots: int


class Runs(_Object):
    """Consecutive pages that lie in consecutive slots of a pack, in order of address.

    Attributes:
        address: Of the first page, uint64; in a `Base`, the offset.
        pages: How many, uint32.
        pack: Which of the packs that the object names, uint32, or `ZERO`.
        slot: Of the first page, uint32; 0 where the pack is `ZERO`.
    """

    address: bytes = b""
    pages: bytes = b""
    pack: bytes = b""
    slot: bytes = b""


class Base(_Object):
    """A base image, on which memory of many nodes stands; or the content of a file. What has no run is zero.

    Attributes:
        size: In bytes.
        packs: All packs that its runs name.
        runs: Its pages, by offset.
    """

    size: int
    packs: list[Pack]
    runs: Runs


AreaKind = Literal["anonymous", "file", "base", "ledger", "lock", "vdso", "vvar"]


class Area(_Object):
    """A stretch of address space.

    Attributes:
        start: Its first address.
        end: The first address behind it.
        protection: PROT_READ, PROT_WRITE and PROT_EXEC, or-ed.
        kind: ``anonymous``; of a ``file`` or a ``base``, mapped privately; of the server's ``ledger``, shared; of
            a ``lock`` of its tree's folders; or the kernel's.
        of: Which of the image's files or bases.
        offset: Where in it the area begins.
        advice: MADV_* numbers that hold for it.
        flags: Further MAP_* flags: MAP_GROWSDOWN, MAP_NORESERVE.
        name: What it was called (PR_SET_VMA_ANON_NAME), if anything; of a ``lock``, whose: ``tmp``, ``layers``.
    """

    start: int
    end: int
    protection: int
    kind: AreaKind
    of: int = 0
    offset: int = 0
    advice: list[int] = []
    flags: int = 0
    name: str = ""


class File(_Object):
    """A file that the image stands on: it must be the same where that is brought back, or its content in the store.

    Attributes:
        path: Where it lies.
        size: In bytes.
        modified_ns: When it was changed last. Where only this differs, the content is compared.
        xxh3: XXH3-128 of its content.
        content: The SHA-256 of a `Base` that holds its content, where it was embedded.
    """

    path: str
    size: int
    modified_ns: int
    xxh3: bytes
    content: bytes = b""


DescriptorKind = Literal["control", "ledger", "standard", "file", "folder", "device", "nameless"]


class Descriptor(_Object):
    """An open descriptor.

    Attributes:
        number: Its number.
        kind: The cell's ``control`` socket, the server's ``ledger``, one of the ``standard`` three, a ``file`` or
            ``folder`` by its path, a ``device`` such as /dev/null, or a ``nameless`` file, which nobody else could
            open, and whose content is in the store.
        path: What to open; of one that is nameless, what it was called.
        flags: O_* flags.
        offset: Where it stands.
        same_as: The number of a descriptor of the same open file description, or -1.
        content: The SHA-256 of a `Base` that holds the content: of one that is nameless, or of a file that was
            embedded and is among the image's files.
    """

    number: int
    kind: DescriptorKind
    path: str = ""
    flags: int = 0
    offset: int = 0
    same_as: int = -1
    content: bytes = b""


class Machine(_Object):
    """What the process relies on: it is brought back where all of it is there.

    Attributes:
        architecture: As `platform.machine` says.
        cpu: The processor's flags, which libraries have looked at; of one that was held to a level, those of that.
        kernel: Release and version.
        libc: The C library's version.
        python: The interpreter's version.
        snapserv: The version that took it, whose code is in it.
        cells: The version of what cells and their server say to each other.
        baseline: The level of processors that its libraries were held to, as x86-64-v3; empty for none.
    """

    architecture: str
    cpu: list[str]
    kernel: str
    libc: str
    python: str
    snapserv: str
    cells: int
    baseline: str = ""


class Folders(_Object):
    """Branched folders that a process sees; what is in them is in the node's layers.

    Attributes:
        how: ``overlay``: as overlayfs shows the layers, one above the other; or ``copies``: as the only layer is.
        user_namespace: Whether they are mounted in a user namespace of its own.
        paths: Of the folders; in a layer they are called by their numbers here.
        inodes: Files that are open for writing, by path, and their inode numbers, by which programs know them.
    """

    how: Literal["overlay", "copies"]
    user_namespace: bool
    paths: list[str]
    inodes: dict[str, int] = {}

    def hold(self, path: str) -> bool:
        """Return whether a path leads into one of them."""
        return any(path.startswith(f"{each}/") for each in self.paths)


class Image(_Object):
    """A frozen process.

    Attributes:
        machine: What it relies on.
        packs: All packs that its runs name. Bases name their own.
        areas: In order of address.
        runs: The pages that are not as the file, the base or zeros.
        files: That areas are of; and, where they were embedded, those that it has open to read only.
        bases: SHA-256 of the `Base` objects that areas are of.
        descriptors: In order of number.
        kernel: What the kernel holds for it, by name; see ``snapserv.images.record``.
        vdso: The bytes of the kernel's own code in it.
        folder: Its working folder.
        name: What it is called (PR_SET_NAME).
        branched: The folders that branch with it, if there are some.
    """

    machine: Machine
    packs: list[Pack]
    areas: list[Area]
    runs: Runs
    files: list[File]
    bases: list[bytes]
    descriptors: list[Descriptor]
    kernel: dict[str, Any]
    vdso: bytes = b""
    folder: str = "/"
    name: str = ""
    branched: Folders | None = None


class Layer(_Object):
    """A layer of branched folders: a tar archive, compressed with zstd.

    In it the folders are numbers. The lowest layer is what the user's folders held; what lies above is as overlayfs
    has it: a character device 0/0 is a name that is gone.

    Attributes:
        sha256: Of the compressed bytes, which is its name.
        size: Of the compressed bytes.
    """

    sha256: bytes
    size: int


class Piece(_Object):
    """A part of a stream of actions, compressed with zstd.

    Attributes:
        sha256: Of the compressed bytes, which is its name.
        size: In bytes, of what it unpacks to.
    """

    sha256: bytes
    size: int


class Recorded(_Object):
    """What was done to a node since its tree's root: done again there, it leads to the node.

    Attributes:
        pieces: The beginning of the stream of actions, in order; descendants share them.
        actions: The rest of it.
        count: How many actions there are; each time that one was repeated counts.
        said: How many of them put out anything.
        told: A hash of all that was put out, by the Python of the tree's cells.
        end: The hash of each field, 32 hexadecimal digits each, where there is no image to take the fields from.
        missing: Why there is no stream, where there is none.
    """

    pieces: list[Piece] = []
    actions: bytes = b""
    count: int = 0
    said: int = 0
    told: int = 0
    end: dict[str, str] = {}
    missing: str = ""


class FieldPlace(_Object):
    """Where a field lies in every node of a tree.

    Attributes:
        name: What it is called.
        address: Of its first element.
        dtype: As `numpy.dtype.str` or, where it is structured, `numpy.dtype.descr` says.
        shape: In elements.
        dims: Names of its axes, if it has some.
        units: Of its values.
        doc: What it is.
    """

    name: str
    address: int
    dtype: Any
    shape: list[int]
    dims: list[str] = []
    units: str = ""
    doc: str = ""


class Tree(_Object):
    """A tree: what its nodes have in common. Its key is its ``uid``.

    Attributes:
        uid: 32 hexadecimal digits, made when its first node is saved.
        name: What it was called.
        simulation: What it runs, as ``serve`` takes it.
        root: The ``uid`` of its root.
        params: The simulation's parameters.
        fields: Where its fields lie.
        described: What its master said of itself, and was asked to set up, for the server that brings it back.
    """

    uid: str
    name: str
    simulation: str
    root: str
    params: dict[str, Any]
    fields: list[FieldPlace]
    described: dict[str, Any]


class Node(_Object):
    """A snapshot that lasts, written last and maybe anew. Its key has its tree's and its own ``uid``.

    Attributes:
        uid: 32 hexadecimal digits, made when it is saved first.
        tree: The ``uid`` of its tree.
        parent: The ``uid`` of its nearest ancestor that lasts; none for a root.
        image: The SHA-256 of its `Image`; empty where it lasts as its recording alone.
        name: What it is called.
        step: How many steps it is from its root.
        created: When it was taken, in seconds since 1970.
        saved: When it was written first.
        tags: Further names.
        pinned: Whether it is protected.
        named: Whether somebody chose its name.
        automatic: Whether nobody asked for it.
        faulted: What its simulation raised, if it did.
        message: What was said of it by whoever took it.
        outputs: What the last step before it returned, if it is known.
        size: How many bytes were written for it.
        layers: Of its branched folders, the topmost first.
        facts: Further plain values that the server keeps.
        recorded: What was done to it, if that is known.
    """

    uid: str
    tree: str
    parent: str | None
    image: bytes
    name: str
    step: int
    created: float
    saved: float
    tags: list[str] = []
    pinned: bool = False
    named: bool = False
    automatic: bool = False
    faulted: str | None = None
    message: str = ""
    outputs: Any = None
    size: int = 0
    layers: list[Layer] = []
    facts: dict[str, Any] = {}
    recorded: Recorded | None = None


class Live(_Object):
    """A live branch, as its server knew it last: it goes on from its newest snapshot that lasts.

    Attributes:
        name: What it is called.
        tree: The ``uid`` of its tree.
        snapshot: The ``uid`` of the nearest node that lasts.
        step: How far it had come.
        tags: Further names.
        facts: Further plain values that the server keeps.
    """

    name: str
    tree: str
    snapshot: str
    step: int
    tags: list[str] = []
    facts: dict[str, Any] = {}


class Session(_Object):
    """A server that writes to the store: what it has live, for the one that goes on where it stopped.

    Attributes:
        uid: 32 hexadecimal digits.
        host: The machine.
        boot: The machine's boot id: on another one, none of its processes lives.
        pid: The server's process.
        started: When that began, in clock ticks since the machine did (proc_pid_stat(5)).
        began: When it began, in seconds since 1970.
        written: When this was written.
        ended: Whether it ended as it should.
        trees: The ``uid`` of each tree that it serves, its first one first.
        live: Its live branches.
        names: What each of ``trees`` is called there.
        endpoint: Where it listens.
        member: Of which cluster it is, and which of its hosts, as ``UID/NUMBER``; empty for none.
    """

    uid: str
    host: str
    boot: str
    pid: int
    began: float
    written: float
    started: int = 0
    ended: bool = False
    trees: list[str] = []
    live: list[Live] = []
    names: list[str] = []
    endpoint: str = ""
    member: str = ""
