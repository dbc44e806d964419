"""What a process has mapped, as smaps says it (proc_pid_smaps(5)), and what of that cannot be brought back.

Snapshots of one branch have nearly the same lines, and a process has hundreds: what was understood once is kept.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from snapserv_client.store.format import AreaKind

MAP_GROWSDOWN, MAP_NORESERVE = 0x100, 0x4000
_ADVICE = {"hg": 14, "nh": 15, "dc": 10, "dd": 16, "mg": 12, "wf": 18}
"""Flags of smaps that advice of madvise(2) has set, and which."""
_BY_FLAG = {
    "ht": ("hugetlb", "memory of hugetlbfs"),
    "um": ("userfaultfd", "memory that is watched by a userfaultfd"),
    "uw": ("userfaultfd", "memory that is watched by a userfaultfd"),
    "ui": ("userfaultfd", "memory that is watched by a userfaultfd"),
    "ss": ("shadow_stack", "a shadow stack"),
    "dp": ("droppable", "memory that the kernel may drop (MAP_DROPPABLE)"),
    "lo": ("locked", "memory that is locked (mlock)"),
}
_LOCK = re.compile(r"/snapserv-(tmp|layers)-\d+/[^/]+/lock$")
"""What cells have mapped to have the folder around it locked; see `snapserv.machine.locked_folders`."""
_LINES_KEPT = 1 << 14


class Obstacle(NamedTuple):
    """One thing that a process holds and no image can bring back.

    Attributes:
        why: A stable word for it.
        what: What it is, and where.
    """

    why: str
    what: str


class Mapping(NamedTuple):
    """One mapping.

    Attributes:
        start: Its first address.
        end: The first address behind it.
        protection: PROT_READ, PROT_WRITE and PROT_EXEC, or-ed.
        kind: ``file`` where it is of one, of what kind ever.
        label: What an image calls it: the name of anonymous memory, or whose lock it is.
        name: What the kernel calls it.
        offset: Where in the file it begins.
        device: The file's, as maps write it.
        inode: The file's.
        shared: Whether it is mapped shared.
        advice: MADV_* numbers that hold for it.
        flags: Further MAP_* flags.
        obstacles: What cannot be brought back.
    """

    start: int
    end: int
    protection: int
    kind: AreaKind
    label: str
    name: str
    offset: int
    device: str
    inode: int
    shared: bool
    advice: tuple[int, ...]
    flags: int
    obstacles: tuple[Obstacle, ...]

    @property
    def has_path(self) -> bool:
        """Whether it is of a file that had a path when it was opened."""
        return self.name.startswith("/") and not self.name.startswith("/memfd:")

    @property
    def deleted(self) -> bool:
        """Whether nobody can open it by its path any more."""
        return self.name.endswith(" (deleted)")


def mappings_of(smaps: bytes) -> Iterator[Mapping]:
    """Yield the mappings of a process, in order of address, but for the kernel's own that every process has."""
    lines = smaps.splitlines()
    # Every mapping has the same lines: its extent first, and what it is like at the same places after that.
    stride = next((number for number, line in enumerate(lines[1:], 1) if _is_extent(line)), len(lines))
    at = {line.partition(b":")[0]: number for number, line in enumerate(lines[:stride])}
    flags = lines[at[b"VmFlags"] :: stride]
    keys = lines[at[b"ProtectionKey"] :: stride] if b"ProtectionKey" in at else [b"ProtectionKey: 0"] * len(flags)
    for told in zip(lines[::stride], flags, keys, strict=True):
        mapping = _understood(*told)
        if mapping is not None:
            yield mapping


def _is_extent(line: bytes) -> bool:
    """Return whether a line of smaps begins a mapping, rather than saying what it is like: `ab-cd rw-p ...`."""
    start, dash, _ = line.partition(b"-")
    return bool(dash) and b":" not in start


@functools.lru_cache(maxsize=_LINES_KEPT)
def _understood(extent: bytes, flagged: bytes, key: bytes) -> Mapping | None:
    """Return what the lines of one mapping say; None where it lies in the kernel's half."""
    addresses, permissions, offset, device, inode, *named = extent.split(None, 5)
    start, end = (int(each, 16) for each in addresses.split(b"-"))
    if start >> 63:
        return None
    name = named[0].decode(errors="surrogateescape") if named else ""
    protection = (b"r" in permissions) | (b"w" in permissions) << 1 | (b"x" in permissions) << 2
    shared, words = b"s" in permissions, flagged.decode().split()[1:]
    found: list[Obstacle] = []
    kind, label = _kind_of(name, start, protection, shared, int(inode), found)
    if kind not in ("vdso", "vvar"):
        found += (
            Obstacle(why, f"{what} at {start:#x}") for why, what in (_BY_FLAG[w] for w in words if w in _BY_FLAG)
        )
        if "io" in words or "pf" in words:
            found.append(Obstacle("device_memory", f"memory of a device, {name or hex(start)}"))
        if "sl" in words:
            found.append(Obstacle("sealed", f"memory that is sealed (mseal) at {start:#x}"))
    if not key.endswith(b" 0"):
        found.append(Obstacle("protection_key", f"memory with a protection key at {start:#x}"))
    return Mapping(
        start,
        end,
        protection,
        kind,
        label,
        name,
        int(offset, 16),
        device.decode(),
        int(inode),
        shared,
        tuple(_ADVICE[each] for each in words if each in _ADVICE),
        (MAP_GROWSDOWN if "gd" in words else 0) | (MAP_NORESERVE if "nr" in words else 0),
        tuple(found),
    )


def _kind_of(
    name: str, start: int, protection: int, shared: bool, inode: int, found: list[Obstacle]
) -> tuple[AreaKind, str]:
    """Return what a mapping is of, and what an image calls it; ``found`` gets what cannot be brought back."""
    if name.startswith("[") and not name.startswith(("[anon:", "[heap]", "[stack")):
        if not name.startswith(("[vdso]", "[vvar")):
            found.append(Obstacle("device_memory", f"memory of the kernel's, {name}"))
        return "vdso" if name == "[vdso]" else "vvar", ""
    if inode == 0:
        if shared:
            found.append(Obstacle("shared_memory", f"shared memory at {start:#x}"))
        return "anonymous", name[len("[anon:") : -1] if name.startswith("[anon:") else ""
    if (lock := _LOCK.search(name)) and not protection:
        return "lock", lock[1]
    if name.startswith("/dev/") and not name.startswith(("/dev/shm/", "/dev/zero")):
        found.append(Obstacle("device_memory", f"memory of a device, {name}"))
        return "anonymous", ""
    return "file", ""
