"""Taking the image of a frozen process, from outside: what it is, and the pages that the store does not have."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from snapserv_client.store.columns import Array
from snapserv_client.store.format import PAGE, ZERO, Area, Base, File, Image
from snapserv_client.store.packs import DIGEST
from snapserv_client.store.reader import Store

from ..errors import NodeDiedError, NotPortableError
from ..ext import memory
from ..folders import noted
from ..folders.noted import Noted
from ..store.writing import Saving
from .content import CHUNK_BYTES, NewPages, save_content
from .embedding import Embedder
from .looking import Seen, look
from .machine import Files, this_machine
from .mappings import Obstacle
from .neighbours import Neighbours
from .places import shown_as
from .table import ZEROS, PageTable, digests_of, equal, joined

IMAGES_KEPT = 16
_END = (1 << 47) - PAGE
"""The first address that no process on x86-64 has."""


class Process(NamedTuple):
    """A frozen process that can be read.

    Attributes:
        pid: Its number.
        memory: /proc/PID/mem, open.
        record: What it says of itself; see `snapserv.images.record`.
        ledger: What its server's ledger is called in /proc/PID/fd.
    """

    pid: int
    memory: int
    record: Mapping[str, Any]
    ledger: str


@dataclass
class Taken:
    """An image that was taken, and what it took.

    Attributes:
        sha256: The image's name.
        image: The image.
        pages: How many pages it holds.
        new_pages: How many of them were new to the store.
        written_bytes: How many bytes were written for it.
        seconds: How long it took.
    """

    sha256: bytes
    image: Image
    pages: int
    new_pages: int
    written_bytes: int
    seconds: float


class _KnownBase(NamedTuple):
    sha256: bytes
    table: PageTable
    covered: Array
    """Of each page whether its content is known; bool."""


class _KnownImage(NamedTuple):
    table: PageTable
    files: list[File]


class Taker:
    """Takes images of the frozen processes of one server, and remembers what makes the next ones cheaper.

    Args:
        store: What was written, to be read.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files = Files()
        self._embedder = Embedder(self._files)
        self._bases: dict[tuple[str, int], _KnownBase] = {}
        self._images: OrderedDict[bytes, _KnownImage] = OrderedDict()

    def take(
        self,
        process: Process,
        saving: Saving,
        *,
        relative: bytes | None = None,
        relative_pid: int = 0,
        others: Sequence[Process] = (),
        baseline: str = "",
        embed: bool = False,
    ) -> Taken:
        """Write the image of a process to the store.

        Args:
            process: It stays frozen for as long as this takes.
            saving: Where to write.
            relative: The SHA-256 of the image of a process whose pages it has for the most part.
            relative_pid: That process, if it still is what the image says; 0 where it is not there.
            others: Further frozen processes of its tree, in which base images can be seen as well.
            baseline: The level of processors that its libraries have been held to since it began.
            embed: Whether to write the files that it stands on as well.

        Raises:
            NotPortableError: It holds what no image can bring back; nothing was written.
            NodeDiedError: It has ended.
            StoreUnavailableError: It could not be written.
        """
        began = time.monotonic()
        near = self._known(relative)
        known = [file for file in near.files if file.content]
        from_store = {shown_as(file.path, file.content): file for file in known}
        seen = look(process.pid, dict(process.record), process.ledger, _noted(process), from_store)
        bases = self._find_bases(seen)
        seen.refuse()
        try:
            files = [from_store.get(path) or self._files.describe(path) for path in seen.paths]
        except OSError as cause:
            raise NotPortableError(
                f"a file that it stands on is gone: {cause.filename}",
                details={"held": [Obstacle("deleted_file", str(cause.filename))._asdict()]},
            ) from cause
        with NewPages(saving) as pages:
            for base, extents in bases.items():
                if base not in self._bases or base in seen.passing:
                    self._bases[base] = self._save_base(base, extents, [*others, process], pages, saving)
            for descriptor in seen.descriptors:
                if descriptor.kind == "nameless" and descriptor.same_as < 0:
                    descriptor.content = _save_nameless(process.pid, descriptor.number, pages, saving)
            with Neighbours(process.pid, relative_pid) as neighbours:
                table = self._save_pages(process, seen, near.table, neighbours, pages)
        opened = {(each.path, each.content) for each in seen.descriptors if each.kind == "file"}
        files += [file for file in known if (file.path, file.content) in opened and file not in files]
        image = Image(
            machine=this_machine(baseline),
            packs=table.packs,
            areas=seen.areas,
            runs=table.runs(),
            files=files,
            bases=[self._bases[base].sha256 for base in seen.bases],
            descriptors=seen.descriptors,
            kernel={
                **process.record,
                "mm": seen.mm,
                "auxiliary": seen.auxiliary,
                "mapped_below": _mapped_below(seen.areas, files),
            },
            vdso=_vdso(process, seen),
            folder=seen.folder,
            name=seen.name,
            branched=seen.branched,
        )
        for base in seen.passing:
            del self._bases[base]
        written = pages.written_bytes
        if embed:
            self._embedder.know(known)
            image, more = self._embedder.embed(image, saving)
            written += more
        sha256 = saving.put_image(image)
        self._remember(sha256, _KnownImage(table, image.files))
        return Taken(sha256, image, len(table.address), pages.count, written, time.monotonic() - began)

    def embed(self, sha256: bytes, saving: Saving) -> tuple[bytes, int]:
        """Write the files that an image stands on as well; return the new image, and how many bytes it took.

        Raises:
            NotPortableError: A file is not what it was when the image was taken.
            StoreUnavailableError: It could not be written.
        """
        image, written = self._embedder.embed(self._store.image(sha256), saving)
        return saving.put_image(image), written

    def forget(self) -> None:
        """Count on nothing that is in the store any more: what is needed of it is written again."""
        self._embedder.forget()
        self._bases.clear()
        self._images.clear()

    # --------------------------------------------------------------------------------------------------- pages

    def _save_pages(
        self, process: Process, seen: Seen, relative: PageTable, neighbours: Neighbours, pages: NewPages
    ) -> PageTable:
        packs, parts = list(relative.packs), []
        anonymous = [area for area in seen.areas if area.kind in ("anonymous", "file", "base")]
        starts = np.array([area.start for area in anonymous], np.uint64)
        is_plain = np.array([area.kind == "anonymous" for area in anonymous])
        for addresses in self._own_pages(process, seen):
            pack = np.full(len(addresses), ZERO, np.uint32)
            slot = np.zeros(len(addresses), np.int64)
            digest = np.empty(len(addresses), DIGEST)
            place = relative.find(addresses)
            known = neighbours.share(addresses) & (place >= 0)
            digest[known] = relative.digest[place[known]]
            read = np.flatnonzero(~known)
            content = _read(process, addresses[read])
            digest[read] = digests_of(content)
            likely = read[place[read] >= 0]
            known[likely] = equal(relative.digest[place[likely]], digest[likely])
            pack[known], slot[known] = relative.pack[place[known]], relative.slot[place[known]]
            zero = digest == ZEROS
            pack[zero], slot[zero] = ZERO, 0
            new = ~(known | zero)
            if new.any():
                numbers, slot[new] = pages.add(content[new[read]], digest[new])
                pack[new] = numbers + len(relative.packs)
            # Anonymous memory is zero where nothing is said of it.
            kept = ~(zero & is_plain[np.searchsorted(starts, addresses, side="right") - 1])
            parts.append((addresses[kept], pack[kept], slot[kept], digest[kept]))
        packs.extend(pages.close())
        return joined(parts, packs)

    def _own_pages(self, process: Process, seen: Seen) -> Iterator[Array]:
        """Yield the addresses of pages that are not as a file, a base image or zeros have them, some at a time."""
        own = memory.scan_private(process.pid, PAGE, _END).reshape(-1, 2)
        known = [area for area in seen.areas if area.kind in ("anonymous", "file", "base")]
        more = [self._unknown(area, seen) for area in known if area.kind == "base"]
        addresses = _addresses(own)
        if any(len(each) for each in more):
            addresses = np.union1d(addresses, _addresses(np.concatenate(more)))
        ends = np.array([area.end for area in known], np.uint64)
        starts = np.array([area.start for area in known], np.uint64)
        area = np.minimum(np.searchsorted(ends, addresses, side="right"), len(known) - 1)
        inside = addresses[(starts[area] <= addresses) & (addresses < ends[area])]
        for at in range(0, len(inside), CHUNK_BYTES // PAGE):
            yield inside[at : at + CHUNK_BYTES // PAGE]

    def _unknown(self, area: Area, seen: Seen) -> Array:
        """Return the regions of an area of which the base image's content was never seen; uint64, shape (n, 2)."""
        covered = self._bases[seen.bases[area.of]].covered
        unseen = ~covered[area.offset // PAGE : (area.offset + area.end - area.start) // PAGE]
        edges = np.flatnonzero(np.diff(np.concatenate(([False], unseen, [False])).astype(np.int8)))
        return (edges.reshape(-1, 2) * PAGE + area.start).astype(np.uint64)

    def _known(self, sha256: bytes | None) -> _KnownImage:
        if sha256 is None:
            return _KnownImage(PageTable.empty(), [])
        if sha256 not in self._images:
            image = self._store.image(sha256)
            self._remember(sha256, _KnownImage(PageTable.of(image, self._store), image.files))
        self._images.move_to_end(sha256)
        return self._images[sha256]

    def _remember(self, sha256: bytes, known: _KnownImage) -> None:
        self._images[sha256] = known
        while len(self._images) > IMAGES_KEPT:
            self._images.popitem(last=False)

    # -------------------------------------------------------------------------------------------- base images

    def _find_bases(self, seen: Seen) -> dict[tuple[str, int], list[tuple[int, int, int]]]:
        """Return the base images that areas stand on, and where: start, end and offset of each area."""
        found: dict[tuple[str, int], list[tuple[int, int, int]]] = {base: [] for base in seen.bases}
        for area in seen.areas:
            if area.kind == "base":
                found[seen.bases[area.of]].append((area.start, area.end, area.offset))
        return found

    def _save_base(
        self,
        base: tuple[str, int],
        extents: list[tuple[int, int, int]],
        processes: Sequence[Process],
        pages: NewPages,
        saving: Saving,
    ) -> _KnownBase:
        """Write a base image, as far as any of the processes shows it."""
        size = max(offset + end - start for start, end, offset in extents)
        covered, parts = np.zeros(size // PAGE, np.bool_), []
        for process in processes:
            for start, end, offset in extents:
                if not _stands_on(process.pid, start, base, offset):
                    continue
                shown = np.ones((end - start) // PAGE, np.bool_)
                for first, last in memory.scan_private(process.pid, start, end).reshape(-1, 2).tolist():
                    shown[(first - start) // PAGE : (last - start) // PAGE] = False
                there = covered[offset // PAGE : (offset + end - start) // PAGE]
                wanted = np.flatnonzero(shown & ~there)
                there[wanted] = True
                for at in range(0, len(wanted), CHUNK_BYTES // PAGE):
                    addresses = (wanted[at : at + CHUNK_BYTES // PAGE] * PAGE + start).astype(np.uint64)
                    content = _read(process, addresses)
                    digest = digests_of(content)
                    new = digest != ZEROS
                    numbers, slot = pages.add(content[new], digest[new])
                    parts.append((addresses[new] - np.uint64(start - offset), numbers, slot, digest[new]))
        table = joined(parts, pages.close())
        order = np.argsort(table.address, kind="stable")
        table = PageTable(
            table.packs, table.address[order], table.pack[order], table.slot[order], table.digest[order]
        )
        return _KnownBase(saving.put_base(Base(size, table.packs, table.runs())), table, covered)


def _noted(process: Process) -> Noted | None:
    """Return what a process says of its branched folders, if it has some."""
    size = process.record["note_size"]
    if not size:
        return None
    note = os.pread(process.memory, size, process.record["note"])
    if len(note) < size:
        raise NodeDiedError("the node ended while it was looked at")
    return noted.read(note)


def _addresses(regions: Array) -> Array:
    """Return the addresses of the pages in regions of (start, end)."""
    pages = ((regions[:, 1] - regions[:, 0]) // np.uint64(PAGE)).astype(np.int64)
    behind = np.repeat(np.cumsum(pages) - pages, pages)
    step = np.arange(int(pages.sum()), dtype=np.int64) - behind
    addresses: Array = np.repeat(regions[:, 0], pages) + step.astype(np.uint64) * np.uint64(PAGE)
    return addresses


def _read(process: Process, addresses: Array) -> Array:
    """Return pages of a process; uint8, shape (n, 4096)."""
    content = np.empty((len(addresses), PAGE), np.uint8)
    view = content.data.cast("B")
    breaks = np.flatnonzero(np.diff(addresses) != PAGE) + 1
    for first, last in zip([0, *breaks.tolist()], [*breaks.tolist(), len(addresses)], strict=True):
        at, end, address = first * PAGE, last * PAGE, int(addresses[first]) if last > first else 0
        while at < end:
            got = os.preadv(process.memory, [view[at:end]], address)
            if got <= 0:
                raise NodeDiedError("the node ended while it was saved")
            at, address = at + got, address + got
    return content


def _stands_on(pid: int, address: int, base: tuple[str, int], offset: int) -> bool:
    """Return whether a process has that part of a base image mapped at an address."""
    try:
        with open(f"/proc/{pid}/maps") as maps:
            for line in maps:
                extent, _, where, device, inode = line.split(maxsplit=5)[:5]
                start, end = (int(each, 16) for each in extent.split("-"))
                if start <= address < end:
                    return (device, int(inode)) == base and int(where, 16) + address - start == offset
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


def _save_nameless(pid: int, descriptor: int, pages: NewPages, saving: Saving) -> bytes:
    file = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return save_content(file, pages, saving)
    finally:
        os.close(file)


def _mapped_below(areas: Sequence[Area], files: Sequence[File]) -> int:
    """Return below which address the kernel has mapped what came after: the end of the dynamic linker."""
    linkers = [number for number, file in enumerate(files) if "/ld-" in file.path or "/ld.so" in file.path]
    return max((area.end for area in areas if area.kind == "file" and area.of in linkers), default=0)


def _vdso(process: Process, seen: Seen) -> bytes:
    return b"".join(
        os.pread(process.memory, area.end - area.start, area.start) for area in seen.areas if area.kind == "vdso"
    )
