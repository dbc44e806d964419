"""What this process holds outside of private memory, which a clone would share or lose: made private, or refused.

Everybody who clones asks here: the master when setup has returned, a branch after its first tick and before each
snapshot, and the doctor. docs/what-branches.md lists what a process can hold, and what becomes of it.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from snapserv_client.protocol import Notice

from ..errors import BadRequestError, NotBranchableError, ThreadsRunningError
from ..ext import fork
from . import loops
from .link import LEDGER_DESCRIPTOR
from .temporary import Temporary
from .threads import THREADS

ADVICE = {
    "shared_memory": "map it privately, let no other process have it, or put the state into fields",
    "pipes": "begin the conversation in on_branch, or keep the engine in this process",
    "sockets": "connect in on_branch, or keep the engine in this process",
    "terminals": "open it in on_branch",
    "events": "make it in on_branch, or close it before setup and step return",
    "locks": "give the lock back before setup and step return",
    "lost_memory": "take the advice MADV_DONTFORK or MADV_WIPEONFORK back from it",
    "timers": "set it in on_branch: a fork inherits none",
    "devices": "open it in on_branch",
    "temporary_files": 'name the folder, branch_dirs = ("$TMPDIR",), or ask for it anew each time',
}
"""Every kind of what cannot be copied, by its name for ``allow``, and what to do about it."""

MEMORY_DEVICES = 1
"""The major number of /dev/null, /dev/zero, /dev/urandom and the like, which hold nothing."""
TERMINALS = (4, 5, *range(136, 144))
HARMLESS = ("anon_inode:[pidfd]", "pidfd:")

Descriptor = tuple[int, int, int, int]
"""Of an open descriptor: its mode, device, inode, and which device it is."""


class Held(NamedTuple):
    """One thing that a clone would share or lose.

    Attributes:
        kind: One of `ADVICE`.
        what: What it is.
        where: The descriptor or the addresses.
        whose: Who has it as well, as far as it is told.
    """

    kind: str
    what: str
    where: str
    whose: str = ""

    def __str__(self) -> str:
        return f"{self.what} ({', '.join(part for part in (self.where, self.whose) if part)})"


class _Area(NamedTuple):
    start: int
    end: int
    offset: int
    inode: int
    major: int
    minor: int
    executable: bool
    name: str


def notice_of(path: str, held: Mapping[str, str]) -> Notice:
    """Return what the client of a branch is told that no clone could be made of; ``held`` says why."""
    if held["kind"] == THREADS:
        return Notice(
            ThreadsRunningError.code,
            f"{path} runs {held['text']} since a tick, and a fork would lose all but one",
            f"the next snapshot will be refused: {held['advice']}",
            {"held": [dict(held)]},
        )
    return Notice(
        "not_branchable",
        f"{path} holds what a clone would share or lose: {held['text']}",
        f"the next snapshot will be refused: {held['advice']}, or allow it as {held['kind']!r}",
        {"held": [dict(held)]},
    )


def refusal(held: Sequence[Held], *, hint: str = "") -> NotBranchableError:
    """Return the error that says what cannot be cloned; ``hint`` is better advice than that for its kind."""
    kind = held[0].kind
    return NotBranchableError(
        f"a clone would share or lose {'; '.join(map(str, held))}",
        hint=f"{hint or ADVICE[kind]}; allow = ({kind!r},) on the simulation, or serve --allow {kind}, "
        "if that is meant",
        details={"held": [{**each._asdict(), "advice": ADVICE[each.kind]} for each in held]},
    )


class Holdings:
    """What this process holds, judged once and then only where it has changed.

    Args:
        allowed: Kinds that the author or the server means to share or lose.
        branched: Folders of which each node has a view of its own.
        ledger: The descriptor of the server's ledger; None where this process is no cell.
        temporary: Where its temporary files are; None where it has no folder of its own for them.

    ``made_private`` names what was shared memory, and is now this process's alone; ``allowed`` what was let pass.

    Raises:
        BadRequestError: ``allowed`` names no kind.
    """

    def __init__(
        self,
        allowed: Sequence[str] = (),
        branched: Sequence[str] = (),
        *,
        ledger: int | None = LEDGER_DESCRIPTOR,
        temporary: Temporary | None = None,
    ) -> None:
        for kind in allowed:
            if kind not in ADVICE:
                raise BadRequestError(f"allow names {kind!r}", hint=f"kinds: {', '.join(ADVICE)}")
        self.made_private: list[str] = []
        self.allowed: list[Held] = []
        self._kinds = frozenset(allowed)
        self._temporary = temporary
        own = [] if temporary is None else [temporary.root]
        self._branched = [f"{os.path.realpath(folder)}/" for folder in (*branched, *own)]
        self._ledger = ledger
        self._known: dict[int, Descriptor] = {}
        self._glance: int | None = None

    def refuse(self, ours: Collection[int], building: int = 0, *, whole: bool = False) -> None:
        """Make private what can be, and check that the rest can be cloned.

        Raises:
            NotBranchableError: Something cannot; ``details["held"]`` lists each with its kind, what it is, where,
                whose, and what to do.
        """
        held = self.look(ours, building, whole=whole)
        if held:
            raise refusal(held)

    def look(self, ours: Collection[int], building: int = 0, *, whole: bool = False) -> list[Held]:
        """Make private what can be, and return what cannot be cloned and is not allowed.

        Args:
            ours: Descriptors that are no part of the simulation's, besides the ledger: ends of links.
            building: Where the arena's next base image is being filled, which is shared with its file meanwhile.
            whole: Look at what takes milliseconds as well: memory that a fork leaves out, timers, and locks.
        """
        glance = fork.glance(tuple(ours), -1 if self._ledger is None else self._ledger, building)
        if glance is not None and glance == self._glance and not whole:
            return []
        found = [*self._strays(), *self._shared_memory(building), *self._descriptors(ours, whole)]
        if whole:
            found += [*_lost_memory(), *_timers()]
        for each in found:
            if each.kind in self._kinds and each not in self.allowed:
                self.allowed.append(each)
        held = [each for each in found if each.kind not in self._kinds]
        # What is held is found again each time; so is what was shared, unless it is private now.
        self._glance = None if held or glance is None else glance
        return held

    def _strays(self) -> list[Held]:
        """Return what ticks have written to where setup's temporary files are, by a path that was kept."""
        names = self._temporary.strays() if self._temporary is not None else []
        place = f"in the folder that TMPDIR was in setup: {', '.join(names)}"
        return [Held("temporary_files", "temporary files", place)] if names else []

    # ------------------------------------------------------------------------------------------------ memory

    def _shared_memory(self, building: int) -> Iterator[Held]:
        areas = [area for area in _shared_areas(self._ledger) if not (area.start <= building < area.end)]
        for area in areas:
            held = self._judge(area, areas) or self._left_shared(area)
            if held is not None:
                yield held
                continue
            device = os.makedev(area.major, area.minor)
            fork.make_private(area.start, area.end, area.executable, device, area.inode)
            self.made_private.append(area.name or "anonymous shared memory")

    def _left_shared(self, area: _Area) -> Held | None:
        """Return it where it could be made private, and is meant to stay shared."""
        if "shared_memory" not in self._kinds:
            return None
        return Held("shared_memory", area.name or "anonymous shared memory", f"{area.start:#x}-{area.end:#x}")

    def _judge(self, area: _Area, areas: Sequence[_Area]) -> Held | None:
        """Return why an area cannot be made private; None where it can."""
        where = f"{area.start:#x}-{area.end:#x}"
        name = area.name or "anonymous shared memory"
        if name.startswith("/SYSV"):
            return Held("shared_memory", f"the SysV segment {name}", where)
        if name.startswith("anon_inode:"):
            return Held("events", name.removeprefix("anon_inode:"), where)
        if name.startswith("/dev/") and not name.startswith(("/dev/shm/", "/dev/zero")):
            return Held("devices", name, where)
        if any(_overlaps(area, other) for other in areas if other is not area):
            return Held("shared_memory", f"{name}, which is mapped twice", where)
        is_file = name.startswith("/") and not name.endswith(" (deleted)")
        if is_file and not name.startswith(("/dev/shm/", "/memfd:", *self._branched)):
            return Held("shared_memory", f"the file {name}, mapped to be written", where)
        others = _others_with(area)
        if others:
            return Held("shared_memory", name, where, f"also mapped by {', '.join(others)}")
        return None

    # ------------------------------------------------------------------------------------------- descriptors

    def _descriptors(self, ours: Collection[int], whole: bool) -> Iterator[Held]:
        now = {number: tuple(rest) for number, *rest in fork.descriptors()}
        for number in ours:
            now.pop(number, None)
        if self._ledger is not None:
            now.pop(self._ledger, None)
        if now == self._known and not whole:
            return
        own = loops.descriptors()
        known: dict[int, Any] = {}
        for number, facts in now.items():
            if number in own or (facts == self._known.get(number) and not (whole and stat.S_ISREG(facts[0]))):
                known[number] = facts
                continue
            held = _judge_descriptor(number, facts[0], facts[3], now)
            if held is None or held.kind in self._kinds:
                known[number] = facts
            if held is not None:
                yield held
        self._known = known


def _judge_descriptor(number: int, mode: int, device: int, others: Collection[int]) -> Held | None:
    """Return what a clone would share or lose of a descriptor; None where it is as good as the original."""
    try:
        link = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return None  # it was closed meanwhile
    where = f"descriptor {number}"
    if link.startswith(HARMLESS):
        return None
    if stat.S_ISDIR(mode):
        return None
    if stat.S_ISFIFO(mode):
        return None if number == _tracker() else Held("pipes", link, where, _other_end(number, link, others))
    if stat.S_ISSOCK(mode):
        peer = _peer(number)
        return None if peer is None else Held("sockets", link, where, peer)
    if stat.S_ISCHR(mode) and os.major(device) == MEMORY_DEVICES:
        return None
    if stat.S_ISCHR(mode) and os.major(device) in TERMINALS:
        return Held("terminals", link, where)
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return Held("devices", link, where)
    if link.startswith("anon_inode:"):
        return Held("events", link.removeprefix("anon_inode:"), where)
    with open(f"/proc/self/fdinfo/{number}") as facts:
        if "\nlock:" in facts.read():
            return Held("locks", f"a lock on {link}", where)
    return None


def _tracker() -> int | None:
    """Return the pipe to multiprocessing's resource tracker: it takes names down, and any process may tell it."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    return None if module is None else module._resource_tracker._fd


def _other_end(number: int, link: str, others: Collection[int]) -> str:
    for other in others:
        if other != number and _link(f"/proc/self/fd/{other}") == link:
            return f"its other end is descriptor {other}"
    for process in _processes():
        folder = f"/proc/{process}/fd"
        try:
            if any(_link(f"{folder}/{name}") == link for name in os.listdir(folder)):
                return f"its other end is {_name(process)}"
        except OSError:
            continue  # another user's, or gone
    return "nobody has its other end"


def _peer(number: int) -> str | None:
    """Return who is at the other end of a socket, as far as it tells; None for the kernel, which only announces."""
    import socket  # loaded already, by the link

    duplicate = os.dup(number)
    try:
        with socket.socket(fileno=duplicate) as asked:
            if asked.family == socket.AF_NETLINK:
                return None  # udev's, say: of hot-plugged devices
            if asked.family == socket.AF_UNIX:
                credentials = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                pid = int.from_bytes(credentials[:4], sys.byteorder, signed=True)
                return "" if pid <= 0 else f"of {_name(pid)}" if pid != os.getpid() else "made by this process"
            return f"to {asked.getpeername()}"
    except OSError:
        return ""  # it listens, or is no socket that tells


# ------------------------------------------------------------------------------------------- what takes longer


def _lost_memory() -> Iterator[Held]:
    """Yield what a fork leaves out or empties: VmFlags dc and wf of proc_pid_smaps(5).

    Memory that the kernel may drop anyway (dp) is not the simulation's: the C library keeps random bytes there.
    """
    area = ""
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            if line.startswith("VmFlags:"):
                flags = line.split()[1:]
                if ("dc" in flags or "wf" in flags) and "dp" not in flags and "io" not in flags:
                    what = "is left out" if "dc" in flags else "is emptied"
                    yield Held("lost_memory", f"memory that {what} by a fork", area)
            elif line[0] in "0123456789abcdef":
                area = line.split(None, 1)[0]


def _timers() -> Iterator[Held]:
    names = {
        signal.ITIMER_REAL: "ITIMER_REAL",
        signal.ITIMER_VIRTUAL: "ITIMER_VIRTUAL",
        signal.ITIMER_PROF: "ITIMER_PROF",
    }
    for timer, name in names.items():
        if signal.getitimer(timer)[0]:
            yield Held("timers", "a running timer", name)
    try:
        with open("/proc/self/timers") as timers:
            made = timers.read().count("ID:")
    except FileNotFoundError:
        return  # this kernel does not list them
    if made:
        yield Held("timers", f"{made} timers of timer_create(2)", "")


# ------------------------------------------------------------------------------------------------ reading /proc


def _shared_areas(ledger: int | None) -> list[_Area]:
    """Return the areas that are written and shared, but for what is snapserv's own."""
    maps = os.open("/proc/self/maps", os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = fork.shared_areas(maps)
    finally:
        os.close(maps)
    areas = [_Area(*area) for area in found] if found is not None else list(_listed())
    if not areas or ledger is None:
        return areas
    own = _identity(os.fstat(ledger))
    return [area for area in areas if (area.inode, area.major, area.minor) != own]


def _listed() -> Iterator[_Area]:
    """Yield them as kernels before Linux 6.11 tell: as text, which takes ten times as long."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            extent, permissions, offset, device, inode, *name = line.rstrip("\n").split(None, 5)
            if permissions[1] != "w" or permissions[3] != "s":
                continue
            (start, end), (major, minor) = extent.split("-"), device.split(":")
            yield _Area(
                int(start, 16),
                int(end, 16),
                int(offset, 16),
                int(inode),
                int(major, 16),
                int(minor, 16),
                permissions[2] == "x",
                name[0] if name else "",
            )


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, os.major(status.st_dev), os.minor(status.st_dev)


def _overlaps(area: _Area, other: _Area) -> bool:
    same = (area.inode, area.major, area.minor) == (other.inode, other.major, other.minor)
    size, others = area.end - area.start, other.end - other.start
    return same and area.offset < other.offset + others and other.offset < area.offset + size


def _others_with(area: _Area) -> list[str]:
    """Return the other processes that have the same memory mapped, as far as this user may look."""
    wanted = f" {area.major:02x}:{area.minor:02x} {area.inode} "
    found = []
    for process in _processes():
        try:
            with open(f"/proc/{process}/maps") as maps:
                if any(wanted in line for line in maps):
                    found.append(_name(process))
        except OSError:
            continue  # another user's, or gone
    return found


def _processes() -> Iterator[int]:
    """Yield all other processes but snapshots: there may be thousands, and none shares what was not allowed."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and _comm(int(name)) != "snap-frozen":
            yield int(name)


def _comm(process: int) -> str:
    try:
        with open(f"/proc/{process}/comm") as comm:
            return comm.read().strip()
    except OSError:
        return ""


def _name(process: int) -> str:
    return f"process {process} ({_comm(process) or 'gone'})"


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
