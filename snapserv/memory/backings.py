"""What an arena can stand on, probed once a process, the best first."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadRequestError, UnsupportedError

NAMES = ("huge_tmpfs", "memfd", "anonymous_thp", "anonymous")


@dataclass(frozen=True)
class Backing:
    """One way to hold simulation memory.

    Attributes:
        name: One of `NAMES`.
        available: Whether this kernel and this user can.
        reason: What it gives, or why it cannot be had.
        improve: How to get it, or a better one; empty where nothing is missing.
    """

    name: str
    available: bool
    reason: str
    improve: str = ""

    @property
    def has_base(self) -> bool:
        """Whether a sealed arena stands on files, so that private pages can be told from the base image's."""
        return self.name in ("huge_tmpfs", "memfd")


@functools.cache
def probe() -> tuple[Backing, ...]:
    """Return every backing, in the order of preference, tried out on this machine."""
    return (_huge_tmpfs(), _memfd(), _anonymous_thp(), Backing("anonymous", True, _ANONYMOUS, _BETTER))


def choose(name: str | None = None) -> Backing:
    """Return the backing called ``name``, or the best that there is.

    Raises:
        BadRequestError: There is none of that name.
        UnsupportedError: It cannot be had here; says why.
    """
    for backing in probe():
        if backing.available and name in (None, backing.name):
            return backing
        if backing.name == name:
            raise UnsupportedError(
                f"the arena backing {name} cannot be had here: {backing.reason}", hint=backing.improve
            )
    raise BadRequestError(f"no arena backing {name!r}", hint=f"backings: {', '.join(NAMES)}")


_BETTER = (
    "let this user make user namespaces (sysctl user.max_user_namespaces above 0; "
    "on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0), or run as root"
)
_ANONYMOUS = "4 KiB pages: a fork copies page tables in proportion to the arena, 16 ms a GiB"


def _huge_tmpfs() -> Backing:
    from ..ext import memory  # with numpy, which whoever only names backings does without

    try:
        os.close(memory.open_huge_tmpfs(memory.HUGE_PAGE))
    except OSError as cause:
        refused = f"{cause.filename}: {cause.strerror}"
        if not _has_huge_pages():
            return Backing("huge_tmpfs", False, refused, "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE")
        return Backing("huge_tmpfs", False, refused, _BETTER)
    how = "as root" if os.geteuid() == 0 else "through a user namespace"
    return Backing("huge_tmpfs", True, f"a private mapping of a huge-page tmpfs file, {how}")


def _memfd() -> Backing:
    try:
        os.close(os.memfd_create("snapserv-probe", os.MFD_CLOEXEC))
    except OSError as cause:
        return Backing("memfd", False, cause.strerror or "refused", "allow memfd_create(2)")
    setting = _selected("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    if setting in ("always", "within_size", "advise"):
        return Backing("memfd", True, "a private mapping of a memfd of huge pages")
    return Backing(
        "memfd",
        True,
        "a private mapping of a memfd of 4 KiB pages: forks are as quick, first reads are slower",
        "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
    )


def _anonymous_thp() -> Backing:
    setting = _selected("/sys/kernel/mm/transparent_hugepage/enabled")
    if setting in ("always", "madvise"):
        return Backing("anonymous_thp", True, "2 MiB pages: a fork takes 0.6 to 1.4 ms a GiB", _BETTER)
    return Backing(
        "anonymous_thp",
        False,
        f"transparent huge pages are {setting or 'not in this kernel'}",
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    )


def _has_huge_pages() -> bool:
    return Path("/sys/kernel/mm/transparent_hugepage").exists()


def _selected(path: str) -> str:
    """Return the choice in brackets of a sysfs file such as ``always [madvise] never``."""
    try:
        text = Path(path).read_text()
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0]
