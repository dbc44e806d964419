"""Folders that a family of processes keeps locked, so that one that was left is told from one that is in use.

The lock is that of a file which all of them have mapped: a mapping is inherited by clones, and takes no descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

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
