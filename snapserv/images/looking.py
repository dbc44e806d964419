"""What a frozen process is, seen from outside: its memory, its descriptors, and what cannot be brought back.

Nothing of it is stopped, woken or changed. What cannot be brought back is listed before a byte is written.
Sources: proc_pid_maps(5), proc_pid_smaps(5), proc_pid_status(5), proc_pid_fdinfo(5), proc_pid_stat(5).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from snapserv_client.store.format import Area, Descriptor, DescriptorKind, File, Folders

from ..errors import NodeDiedError, NotPortableError
from ..folders.noted import Noted
from .mappings import Obstacle, mappings_of

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_BLOCKED_IN_RECVMSG = b"47 "
_KCMP = 312
SOON_S = 5.0
_LIBC = ctypes.CDLL(None)
_MM = (26, 27, 45, 46, 47, 28, 48, 49, 50, 51)
"""Fields of stat, in the order of struct prctl_mm_map, which has the break after the fifth."""


T = TypeVar("T")


@dataclass
class Seen:
    """A frozen process, as it is now.

    Attributes:
        areas: In order of address; ``of`` is an index into ``paths``, or into ``bases``.
        paths: Files that areas are of, as /proc calls them.
        bases: Files that areas stand on and that nobody else can open: device and inode.
        passing: Those of them in views of branched folders: another file may be called so when the view is gone.
        descriptors: In order of number.
        mm: As struct prctl_mm_map has them, without the break.
        auxiliary: The auxiliary vector.
        folder: The working folder.
        name: What it is called.
        branched: The folders that branch with it.
        obstacles: What cannot be brought back.
    """

    areas: list[Area] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    bases: list[tuple[str, int]] = field(default_factory=list)
    passing: set[tuple[str, int]] = field(default_factory=set)
    descriptors: list[Descriptor] = field(default_factory=list)
    mm: list[int] = field(default_factory=list)
    auxiliary: bytes = b""
    folder: str = "/"
    name: str = ""
    branched: Folders | None = None
    obstacles: list[Obstacle] = field(default_factory=list)

    def refuse(self) -> None:
        """Raise NotPortableError where there is an obstacle; it lists them all."""
        if self.obstacles:
            raise NotPortableError(
                "the process cannot be saved: it holds " + "; ".join(each.what for each in self.obstacles),
                hint="have it let go of these before; or save --replay, which keeps what was done to it instead",
                details={"held": [each._asdict() for each in self.obstacles]},
            )


def look(
    pid: int,
    record: dict[str, Any],
    ledger: str,
    noted: Noted | None,
    from_store: Mapping[str, File] = MappingProxyType({}),
) -> Seen:
    """Return what a frozen process is.

    Args:
        pid: The process.
        record: What it says of itself; see `record.read_record`.
        ledger: What the server's ledger is called in /proc/PID/fd.
        noted: What it says of its branched folders, if it has some.
        from_store: Files whose content it may have out of a store, by what /proc calls that.

    Raises:
        NodeDiedError: It has ended.
    """
    seen = Seen()
    if noted is not None:
        how: Literal["overlay", "copies"] = "overlay" if noted.how == "overlay" else "copies"
        inodes = {file.path: file.number for file in noted.files if file.path is not None and file.number}
        seen.branched = Folders(how, noted.user_namespace, noted.paths, inodes)
    try:
        _look_at_state(pid, record, seen)
        _look_at_memory(pid, ledger, from_store, seen)
        _look_at_descriptors(pid, record, ledger, noted, from_store, seen)
        numbers = _read(pid, "stat").rpartition(b")")[2].split()
        seen.mm = [int(numbers[number - 3]) for number in _MM]
        seen.auxiliary = _read(pid, "auxv")
        at_work = None if noted is None else noted.at_work
        seen.folder = at_work or os.readlink(f"/proc/{pid}/cwd")
        seen.name = _read(pid, "comm").decode(errors="replace").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError) as cause:
        raise NodeDiedError("the node ended while it was looked at") from cause
    if seen.folder.endswith(" (deleted)"):
        seen.obstacles.append(Obstacle("deleted_folder", f"a working folder that is gone, {seen.folder}"))
    return seen


def _read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _look_at_state(pid: int, record: dict[str, Any], seen: Seen) -> None:
    def add(why: str, what: str) -> None:
        seen.obstacles.append(Obstacle(why, what))

    status = dict(line.split(b":\t", 1) for line in _read(pid, "status").splitlines() if b":\t" in line)
    if (threads := int(status[b"Threads"])) != 1:
        add("threads_running", f"{threads} threads")
    if int(status[b"SigPnd"], 16) or int(status[b"ShdPnd"], 16):
        add("signals_pending", "signals that wait to be delivered")
    if int(status.get(b"Seccomp", b"0")):
        add("seccomp", "a filter of its system calls")
    if b"shstk" in status.get(b"x86_Thread_features", b""):
        add("shadow_stack", "a shadow stack")
    if record["interval_timers"] or _read(pid, "timers"):
        add("timers", "timers that run")
    if children := _read(pid, f"task/{pid}/children").decode().strip():
        add("children", f"processes of its own ({children})")
    if not _is_blocked(pid):
        add("not_frozen", "the processor")
    expected = set() if seen.branched is None else {"mnt", "user"} if seen.branched.user_namespace else {"mnt"}
    for space in set(_NAMESPACES) - expected:
        if os.readlink(f"/proc/{pid}/ns/{space}") != os.readlink(f"/proc/self/ns/{space}"):
            add("namespace", f"a {space} namespace of its own")


def _is_blocked(pid: int) -> bool:
    """Return whether it waits for a command, which it may be about to do: it has just answered one."""
    until = time.monotonic() + SOON_S
    while not _read(pid, "syscall").startswith(_BLOCKED_IN_RECVMSG):
        if time.monotonic() > until:
            return False
        time.sleep(0.0002)
    return True


# ---------------------------------------------------------------------------------------------------- memory


def _look_at_memory(pid: int, ledger: str, from_store: Mapping[str, File], seen: Seen) -> None:
    here = None if seen.branched is None else _devices_here()
    ledger = ledger.partition(" ")[0]
    paths, bases = _Numbered(seen.paths), _Numbered(seen.bases)
    for mapping in mappings_of(_read(pid, "smaps")):
        seen.obstacles += mapping.obstacles
        area = Area(
            mapping.start,
            mapping.end,
            mapping.protection,
            mapping.kind,
            offset=mapping.offset,
            advice=[*mapping.advice],
            flags=mapping.flags,
            name=mapping.label,
        )
        seen.areas.append(area)
        if mapping.kind != "file":
            continue
        in_view = here is not None and mapping.has_path and mapping.device not in here
        if mapping.name.startswith(ledger):
            area.kind = "ledger"
        elif mapping.shared and area.protection & mmap.PROT_WRITE:
            what = f"{mapping.name}, mapped shared, at {area.start:#x}"
            seen.obstacles.append(Obstacle("shared_memory", what))
        elif (in_view or not mapping.has_path or mapping.deleted) and mapping.name not in from_store:
            base = (mapping.device, mapping.inode)
            area.kind, area.of = "base", bases.of(base)
            if in_view:
                seen.passing.add(base)
        else:
            area.of = paths.of(mapping.name)
            if mapping.shared:
                area.flags |= mmap.MAP_SHARED


class _Numbered(Generic[T]):
    """A list that grows by what is asked for and not in it yet."""

    def __init__(self, listed: list[T]) -> None:
        self._listed = listed
        self._numbers = {each: number for number, each in enumerate(listed)}

    def of(self, wanted: T) -> int:
        """Return its place in the list."""
        number = self._numbers.setdefault(wanted, len(self._listed))
        if number == len(self._listed):
            self._listed.append(wanted)
        return number


def _devices_here() -> set[str]:
    """Return the devices that are mounted here, as maps write them: others are views of branched folders."""
    with open("/proc/self/mountinfo") as mountinfo:
        numbers = [map(int, line.split()[2].split(":")) for line in mountinfo]
    return {f"{major:02x}:{minor:02x}" for major, minor in numbers}


# ----------------------------------------------------------------------------------------------- descriptors


def _look_at_descriptors(
    pid: int,
    record: dict[str, Any],
    ledger: str,
    noted: Noted | None,
    from_store: Mapping[str, File],
    seen: Seen,
) -> None:
    files = [] if noted is None else noted.files
    inside = {number: file.path for file in files for number in file.descriptors if file.path is not None}
    for number in sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd")):
        place = f"/proc/{pid}/fd/{number}"
        path, status = os.readlink(place), os.stat(place)
        about = dict(
            line.split(b":\t", 1) for line in _read(pid, f"fdinfo/{number}").splitlines() if b":\t" in line
        )
        descriptor = Descriptor(
            number, "file", path, flags=int(about[b"flags"], 8), offset=int(about[b"pos"]), same_as=-1
        )
        if number in inside:
            descriptor.path = inside[number]
        kind = _kind_of(descriptor, status, record, ledger, locked=b"lock" in about, is_named=number in inside)
        if isinstance(kind, Obstacle):
            seen.obstacles.append(kind)
            continue
        descriptor.kind = kind
        if kind == "nameless" and path in from_store:
            descriptor.kind, descriptor.path = "file", from_store[path].path
            descriptor.content = from_store[path].content
        if descriptor.kind in ("file", "folder", "nameless"):
            descriptor.same_as = next(_sharers(pid, descriptor, seen.descriptors), -1)
        seen.descriptors.append(descriptor)


def _kind_of(
    descriptor: Descriptor,
    status: os.stat_result,
    record: dict[str, Any],
    ledger: str,
    *,
    locked: bool,
    is_named: bool,
) -> DescriptorKind | Obstacle:
    number, path = descriptor.number, descriptor.path
    if number == record["control"]:
        return "control"
    if path == ledger:
        return "ledger"
    if number <= 2:
        return "standard"
    if locked:
        return Obstacle("file_lock", f"a lock on {path} (descriptor {number})")
    if path.startswith("anon_inode:"):
        return Obstacle("open_kernel_object", f"descriptor {number}, {path}")
    if stat.S_ISSOCK(status.st_mode):
        return Obstacle("open_socket", f"a socket (descriptor {number})")
    if stat.S_ISFIFO(status.st_mode):
        return Obstacle("open_pipe", f"a pipe (descriptor {number})")
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        if is_named:  # in a branched folder; what lies beneath this descriptor may be gone
            return "folder" if stat.S_ISDIR(status.st_mode) else "file"
        if not status.st_nlink and stat.S_ISREG(status.st_mode):
            return "nameless"
        if path.endswith(" (deleted)"):
            return Obstacle("deleted_file", f"a file that its name does not lead to, {path} (descriptor {number})")
        return "folder" if stat.S_ISDIR(status.st_mode) else "file"
    if stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == 1:
        return "device"
    return Obstacle("open_device", f"{path} (descriptor {number})")


def _sharers(pid: int, descriptor: Descriptor, others: list[Descriptor]) -> Iterator[int]:
    """Yield the numbers of those that have their position in common with it."""
    for other in others:
        alike = other.path == descriptor.path and other.kind in ("file", "folder", "nameless")
        if alike and _is_one_description(pid, other.number, descriptor.number):
            yield other.number


def _is_one_description(pid: int, one: int, other: int) -> bool:
    """Return whether two descriptors are of one open file description: kcmp(2)."""
    return bool(_LIBC.syscall(_KCMP, pid, pid, 0, one, other) == 0)
