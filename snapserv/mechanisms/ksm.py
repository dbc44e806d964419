"""``ksm``: copies that the kernel merges again, page by page, when it gets to them.

Region and snapshots are marked MADV_MERGEABLE, and the kernel's thread ksmd looks for pages with equal contents
(Documentation/admin-guide/mm/ksm.rst). So a snapshot costs a copy at first, and saves memory later, at the price of
ksmd's processor time and of a fault for the first write to each merged page.

ksmd serves the whole machine: its settings are changed while there is a region, and put back to what they were.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from snapserv.errors import RequestTimeoutError
from snapserv.ext import memory

from .base import Mechanism, Region
from .copy import Block, CopyRegion

KSM = Path("/sys/kernel/mm/ksm")
WANTED = {"pages_to_scan": "20000", "sleep_millisecs": "1", "run": "1"}
"""How ksmd is driven: as fast as one processor allows."""
QUIET_SCANS = 10
"""A page that ksmd has found unequal a few times is left out of up to eight scans (smart_scan, Linux 6.7)."""
STATE = Path("/run/snapserv-ksm.json")
"""Who drives ksmd, and its settings before the first of them; root's alone, as the settings are."""


class Ksm(Mechanism):
    """Copies that ksmd merges."""

    name = "ksm"
    summary = "memcpy, and the kernel's ksmd merges equal pages afterwards"
    copies_of_copies = True
    shares_pages = False
    needs = "root, and a kernel with CONFIG_KSM"

    @classmethod
    def why_not(cls) -> str:
        """Say what is missing."""
        if not (KSM / "run").exists():
            return "the kernel has no KSM"
        if not os.access(KSM / "run", os.W_OK) or not os.access(STATE.parent, os.W_OK):
            return "only root may set ksmd to work"
        return ""

    @classmethod
    def make(cls, size: int) -> Region:
        """Return a region that ksmd looks at."""
        return KsmRegion(MergeableBlock(size, cls.admit(size)))


@dataclass(frozen=True)
class Merged:
    """What ksmd has done for this process.

    Attributes:
        seconds: Until it found no more.
        ksmd_cpu_s: Processor time that it took.
        pages: Pages of this process that are merged now.
        saved_bytes: Memory that this saves at most: exactly, where nobody else has pages merged.
    """

    seconds: float
    ksmd_cpu_s: float
    pages: int
    saved_bytes: int


class MergeableBlock(Block):
    """Private anonymous memory that ksmd looks at."""

    def __init__(self, size: int, mapped: int) -> None:
        _drive()
        try:
            super().__init__(size, mapped)
            self._map.madvise(mmap.MADV_MERGEABLE)
        except BaseException:
            _leave()
            raise

    def release(self) -> None:
        """Give the memory back, and ksmd's settings with the last of it."""
        super().release()
        _leave()


class KsmRegion(CopyRegion):
    """A live region."""

    def wait_merged(self, timeout_s: float = 60.0) -> Merged:
        """Wait until ksmd has gone through all memory `QUIET_SCANS` times and merged no more pages of this process.

        Raises:
            RequestTimeoutError: It was not done in time.
        """
        began, cpu = time.monotonic(), _ksmd_cpu_s()
        pages, scans = -1, _number("full_scans")
        while True:
            if time.monotonic() - began > timeout_s:
                raise RequestTimeoutError(f"ksmd was not done within {timeout_s:g} s", hint="wait longer")
            time.sleep(0.02)
            now = _own()["ksm_merging_pages"]
            if now != pages:
                pages, scans = now, _number("full_scans")
            elif _number("full_scans") >= scans + QUIET_SCANS:
                break
        own = _own()
        # The process's profit counts the one page that remains, too; the machine's count does not, and sees others.
        saved = min(own["ksm_process_profit"], _number("pages_sharing") * memory.PAGE)
        return Merged(time.monotonic() - began, _ksmd_cpu_s() - cpu, own["ksm_merging_pages"], saved)


# -------------------------------------------------------------------------------------------- ksmd's settings

_mine = 0


def _drive() -> None:
    """Set ksmd to work for this process; the first of all processes keeps the settings that there were."""
    global _mine
    if _mine == 0:
        with _state() as state:
            if not state.get("users"):
                state["saved"] = {name: (KSM / name).read_text().strip() for name in WANTED}
            state["users"] = [*state.get("users", []), _me(os.getpid())]
            for name, value in WANTED.items():
                (KSM / name).write_text(value)
    _mine += 1


def _leave() -> None:
    """Be no user of ksmd any more; the last one puts the settings back."""
    global _mine
    _mine -= 1
    if _mine == 0:
        with _state() as state:
            state["users"] = [user for user in state["users"] if user != _me(os.getpid())]


@contextmanager
def _state() -> Iterator[dict[str, Any]]:
    """Yield the state that all processes share, locked; without users, the saved settings are put back.

    Processes that have ended without leaving are no users: whoever comes next puts back what they changed.
    """
    with _locked() as file:
        state: dict[str, Any] = json.loads(file.read() or "{}")
        state["users"] = [user for user in state.get("users", []) if _me(user[0]) == user]
        _put_back_unless_used(state)
        try:
            yield state
        finally:
            _put_back_unless_used(state)
            file.seek(0)
            file.truncate()
            if state["users"]:
                json.dump(state, file)
            else:
                STATE.unlink()


@contextmanager
def _locked() -> Iterator[TextIO]:
    """Yield the state's file, which is this process's until the end."""
    while True:
        descriptor = os.open(STATE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:  # otherwise it was removed while we waited
                yield file
                return


def _put_back_unless_used(state: dict[str, Any]) -> None:
    if not state["users"]:
        for name, value in state.pop("saved", {}).items():
            (KSM / name).write_text(value)


def _me(pid: int) -> list[int]:
    """Return a process's id and when it started, which together are no other process's."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return [pid, 0]
    return [pid, int(stat.rsplit(")", 1)[1].split()[19])]


def _number(name: str) -> int:
    return int((KSM / name).read_text())


def _own() -> dict[str, int]:
    """Return this process's numbers (proc_pid_ksm_stat, Linux 6.1); before, the machine's, which see others too."""
    path = Path("/proc/self/ksm_stat")
    if path.exists():
        words = (line.replace(":", " ").split() for line in path.read_text().splitlines())
        found = {name: int(value) for name, value, *_ in words if value.lstrip("-").isdigit()}
        if {"ksm_merging_pages", "ksm_process_profit"} <= found.keys():
            return found
    sharing = _number("pages_sharing")
    return {"ksm_merging_pages": sharing, "ksm_process_profit": sharing * memory.PAGE}


def _ksmd_cpu_s() -> float:
    """Return the processor time of the kernel's thread ksmd."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (folder / "comm").exists():
            try:
                if (folder / "comm").read_text() == "ksmd\n":
                    fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            except FileNotFoundError:
                continue
    return 0.0
