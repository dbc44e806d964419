"""How much memory may still be taken: asked before it is, since the kernel would kill somebody later."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import OverBudgetError

SPARED_BYTES = 64 << 20
"""Left to the rest of the machine when somebody asks for memory."""
MORE_MEMORY = "free memory, raise the memory limit of the container, or make the field smaller"


def admit(what: str, wanted: int) -> None:
    """Refuse what the machine or a control group surely has no room for.

    Raises:
        OverBudgetError: Says how much there is.
    """
    room = available_bytes()
    if wanted > room - SPARED_BYTES:
        raise OverBudgetError(
            f"{what} needs {wanted:,} bytes, and {max(0, room - SPARED_BYTES):,} are available",
            hint=MORE_MEMORY,
            # An author's slip can ask for more than the integers of the wire can say.
            details={"wanted": min(wanted, (1 << 63) - 1), "available": max(0, room - SPARED_BYTES)},
        )


def exhausted(what: str, cause: OSError) -> OverBudgetError:
    """Return the typed error for what the kernel refused because there is none left; ``details`` has the errno."""
    number = cause.errno or 0
    hints = {
        errno.EMFILE: "raise the limit on open files (ulimit -n), or drop nodes, which take one or two",
        errno.ENFILE: "raise fs.file-max, or drop nodes, which take one or two",
        errno.EAGAIN: "raise the limit on processes (ulimit -u, pids.max, kernel.pid_max) or drop snapshots",
    }
    hint = hints.get(number, "raise the limit, or drop nodes")
    return OverBudgetError(f"{what}: {os.strerror(number)}", hint=hint, details={"errno": number})


def cannot_clone(cause: OSError) -> OverBudgetError:
    """Return the typed error for a clone that the kernel refused."""
    return exhausted("the kernel made no process", cause)


def total_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory that there is: of the machine, or of a control group that may use less.

    Sources: MemTotal of proc_meminfo(5); memory.max and memory.limit_in_bytes of cgroups(7).
    """
    total = 1 << 62
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    for folder in _control_groups(proc, groups):
        for limit in ("memory.max", "memory.limit_in_bytes"):
            try:
                allowed = (folder / limit).read_text().strip()
            except OSError:
                continue
            if allowed != "max":
                total = min(total, int(allowed))
    return total


def available_bytes(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory that can be had without swapping: of the machine, or of a control group that has less.

    Sources: MemAvailable of proc_meminfo(5); cgroups(7), of version 2 memory.max and memory.current, of version 1
    memory.limit_in_bytes and memory.usage_in_bytes, of this process's group and all above it. Pages of files
    count as used there, though the kernel drops the inactive ones before it refuses anything.
    """
    room = 1 << 62
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            room = int(line.split()[1]) * 1024
    for folder in _control_groups(proc, groups):
        for limit, usage, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            try:
                allowed, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
                statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            except OSError:
                continue
            if allowed != "max":
                room = min(room, int(allowed) - used + int(statistics.get(cached, 0)))
    return room


def control_groups(
    controller: str, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")
) -> Iterator[Path]:
    """Yield the folders of the groups that bound what this process has of something, the innermost first.

    Args:
        controller: Of what: ``memory``, ``pids``.
        proc: Where the process's groups are told.
        groups: Where they lie.
    """
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        root = groups if number == "0" else groups / controller
        # In a container without a namespace of its own the path is the host's, and the root is the container's.
        folder = root / path.lstrip("/")
        while folder != root and folder.is_relative_to(root):
            yield folder
            folder = folder.parent
        yield root


def _control_groups(proc: Path, groups: Path) -> Iterator[Path]:
    return control_groups("memory", proc, groups)
