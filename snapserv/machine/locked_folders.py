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
ASIDE = ".removed-"
TRIES, BETWEEN_S = 5, 0.002
"""How often a lock is asked for that somebody may have only to look, or a folder that is being made."""


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


def set_aside(path: str) -> str | None:
    """Rename a folder if no process is left that has it locked, and return what it is called then.

    Its name is free at once, for who makes it again, and what is in it can be removed at leisure. Who shares the
    lock meanwhile finds that it is not that of the folder which has the name.
    """
    try:
        descriptor = os.open(f"{path}/{LOCK}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        with contextlib.suppress(FileNotFoundError):
            return _renamed(path) if time.time() - os.lstat(path).st_mtime > YOUNG_S else None
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _renamed(path)
    except (BlockingIOError, FileNotFoundError):
        return None
    finally:
        os.close(descriptor)


def _renamed(path: str) -> str:
    aside = f"{path.partition(ASIDE)[0]}{ASIDE}{os.urandom(4).hex()}"
    os.rename(path, aside)
    return aside


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


def share_or_make(path: str) -> int:
    """Share the lock of the folder of this very name, made again if it is gone.

    Returns:
        A descriptor that shares the lock.

    Raises:
        OverBudgetError: It cannot be made.
    """
    for attempt in range(TRIES):
        if not os.path.lexists(path):
            with contextlib.suppress(OverBudgetError):
                return make_shared([path])[1]
        elif (held := _shared(path)) is not None:
            return held
        time.sleep(BETWEEN_S * (attempt + 1))
    if (held := share(path)) is not None:
        return held
    return make_shared([path])[1]


def _shared(path: str) -> int | None:
    """Share the lock of the folder that has this name, and nothing less."""
    try:
        descriptor = os.open(f"{path}/{LOCK}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(f"{path}/{LOCK}", follow_symlinks=False)):
            return descriptor
    except OSError:  # it is somebody's alone, or it was renamed meanwhile
        pass
    os.close(descriptor)
    return None
