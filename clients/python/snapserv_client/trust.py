"""Whose an ipc socket is: a client tells a server what it wants to know, and believes what it is told.

A folder in /tmp may be anybody's, made before its right owner ever was there, and so may a socket in it. So both
must belong to this user or to root, and nobody else may put another socket in the place of one; ZeroMQ, which
connects again by itself, then finds no other either.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import UntrustedError

TRUSTED_VARIABLE = "SNAPSERV_TRUSTED_UIDS"
"""Numbers of users, separated by commas, whose servers are trusted as well: for root, who may look after them."""


def trusted_users() -> set[int]:
    """Return the users whose sockets are connected to: this one, root, and those that the environment names."""
    named = os.environ.get(TRUSTED_VARIABLE, "")
    return {os.geteuid(), 0} | {int(user) for user in named.split(",") if user.strip().isdigit()}


def others_may_replace(folder: Path, trusted: set[int]) -> str:
    """Return why others may put files of their own in the place of those in a folder; empty where they may not.

    Raises:
        OSError: It is not there, or may not be looked at.
    """
    links = [each for each in (folder, folder.parent) if each.is_symlink()]
    for status, what in [(os.lstat(each), f"the link {each}") for each in links] + [(folder.stat(), str(folder))]:
        if status.st_uid not in trusted:
            return f"{what} belongs to user {status.st_uid}"
    if folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to {folder}"
    return ""


def refuse_strangers(endpoint: str) -> None:
    """Check that an ipc socket is one that this user may trust; one that is not there is not looked at.

    Raises:
        UntrustedError: It, or its folder, is somebody else's, or others may write to the folder.
    """
    if not endpoint.startswith("ipc://"):
        return
    path, trusted = Path(endpoint.removeprefix("ipc://")), trusted_users()
    try:
        why = others_may_replace(path.parent, trusted)
        status = os.lstat(path)
    except OSError:
        return  # whether there is a server is found out elsewhere
    if not why and status.st_uid not in trusted:
        why = f"{path} belongs to user {status.st_uid}"
    if not why and not stat.S_ISSOCK(status.st_mode):
        why = f"{path} is no socket"
    if why:
        raise UntrustedError(
            f"{endpoint} could be anybody's: {why}",
            hint="have the server listen in a folder of its user's own, of mode 0700; "
            f"{TRUSTED_VARIABLE} names other users whose servers to trust",
            details={"endpoint": endpoint},
        )
