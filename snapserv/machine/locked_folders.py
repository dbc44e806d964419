"""Folders that a family of processes keeps locked, so that one that was left is told from one that is in use.

The lock is that of a file which all of them have mapped: a mapping is inherited by clones, and takes no descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Sequence

from ..errors import OverBudgetError
from ..ext import fork

LOCK = "lock"
YOUNG_S = 60.0
"""A folder without a lock that is younger than this is still being made."""


def found(path: str) -> int:
    """Make a folder, and the one above it, that is locked until this process and all its clones have ended.

    Args:
        path: Where nothing is yet, in a folder of this user's alone.

    Returns:
        What `give_up` takes.

    Raises:
        OSError: It cannot be made, or the folder above is another user's.
    """
    base = os.path.dirname(path)
    while True:
        os.makedirs(base, 0o700, exist_ok=True)
        if os.lstat(base).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user", base)
        try:
            os.mkdir(path, 0o700)
            break
        except FileNotFoundError:
            continue  # a server that has just ended took the folder away
    # Locked first: what has its name is never without.
    made = f"{path}/{LOCK}.new"
    descriptor = os.open(made, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        held = fork.hold_open(descriptor)
    finally:
        os.close(descriptor)
    os.rename(made, f"{path}/{LOCK}")
    return held


def give_up(held: int) -> None:
    """Lock a folder no longer, as far as this process is concerned."""
    fork.let_go(held)


def is_abandoned(path: str) -> bool:
    """Return whether no process is left that has a folder locked."""
    try:
        descriptor = os.open(f"{path}/{LOCK}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            return time.time() - os.lstat(path).st_mtime > YOUNG_S
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def make_shared(paths: Sequence[str]) -> tuple[str, int]:
    """Make a folder that stays for as long as anybody shares its lock; return it, and a descriptor that does.

    Args:
        paths: Where nothing is yet, in folders of this user's alone, the preferred first.

    Raises:
        OverBudgetError: It cannot be made at any of them.
    """
    refused = ""
    for path in paths:
        try:
            base = os.path.dirname(path)
            os.makedirs(base, 0o700, exist_ok=True)
            if os.lstat(base).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it belongs to another user", base)
            os.mkdir(path, 0o700)  # young, and so in nobody's way, until it has its lock
            made = f"{path}/{LOCK}.new"
            descriptor = os.open(made, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            os.rename(made, f"{path}/{LOCK}")
        except OSError as cause:
            refused = f"{cause.filename}: {cause.strerror}"
            continue
        return path, descriptor
    raise OverBudgetError(f"a folder for temporary files cannot be made: {refused}", hint="free space in TMPDIR")


def share(path: str) -> int | None:
    """Share the lock of a folder, if it is there; return the descriptor that does.

    Where a family of processes has it for itself, this stands back: the folder stays for as long as they live.
    """
    try:
        descriptor = os.open(f"{path}/{LOCK}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return descriptor
