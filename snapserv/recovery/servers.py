"""The servers of this user on this machine: those that listen, and what those have left that were killed.

Whatever listens is found in the kernel's list of Unix sockets (proc_net(5)), wherever it is: beside each address a
server has a socket for its events, or, over tcp, for cells of an earlier one. What was left is found in the folders
in which sockets are made unless somebody says otherwise.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from snapserv_client.endpoint import socket_folder

from .adoption import count_waiting

EVENTS, ADOPTION = ".events", ".adopt"
LISTENS = 0x10000
"""Of a socket's flags: it accepts connections (__SO_ACCEPTCON)."""
_OF_TCP = re.compile(r"tcp-(.*)-(\d+)\.new")
_IS_IPV6 = re.compile(r"[0-9a-fA-F-]*-[0-9a-fA-F-]*-[0-9a-fA-F-]*")
_ANY = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "[::]": "[::1]"}


@dataclass(frozen=True)
class Place:
    """Where a server listens, or did until it was killed.

    Attributes:
        endpoint: Its address.
        pid: Its process; 0 where there is none, or it cannot be looked at.
        waiting: How many processes of a killed server wait there for the next one.
    """

    endpoint: str
    pid: int = 0
    waiting: int = 0

    @property
    def listens(self) -> bool:
        """Whether there is a server."""
        return self.pid != 0

    @property
    def name(self) -> str | None:
        """What it is called, if it is found by a name."""
        folder, _, file = self.endpoint.rpartition("/")
        return file.removesuffix(".sock") if folder == f"ipc://{socket_folder()}" else None


def places() -> list[Place]:
    """Return where servers of this user listen, and then what was left by some that were killed."""
    listening = list(_listening())
    there = {place.endpoint for place in listening}
    return listening + [place for place in _left() if place.endpoint not in there]


def _listening() -> Iterator[Place]:
    inodes = dict(_sockets())
    owners = _owners(set(inodes))
    for inode, path in sorted(inodes.items(), key=lambda each: each[1]):
        if inode not in owners:
            continue
        if path.endswith(EVENTS):
            yield Place(f"ipc://{path.removesuffix(EVENTS)}", owners[inode])
        elif (found := _OF_TCP.fullmatch(os.path.basename(path))) and Path(path).parent == socket_folder():
            yield Place(_tcp(found[1], found[2]), owners[inode])


def _tcp(host: str, port: str) -> str:
    host = f"[{host.replace('-', ':')}]" if _IS_IPV6.fullmatch(host) else host
    return f"tcp://{_ANY.get(host, host)}:{port}"


def _sockets() -> Iterator[tuple[str, str]]:
    """Yield the inode and the path of each Unix socket that listens and may be a server's."""
    with open("/proc/net/unix", errors="surrogateescape") as table:
        next(table)
        for line in table:
            _, _, _, flags, _, _, inode, *path = line.rstrip("\n").split(maxsplit=7)
            if path and int(flags, 16) & LISTENS and path[0].endswith((EVENTS, ".new")):
                yield inode, path[0]


def _owners(inodes: set[str]) -> dict[str, int]:
    """Return which process of this user has each of these sockets open."""
    found: dict[str, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            if os.stat(f"/proc/{name}").st_uid != os.geteuid():
                continue
            for descriptor in os.scandir(f"/proc/{name}/fd"):
                with contextlib.suppress(OSError):
                    inode = os.readlink(descriptor.path).removeprefix("socket:[").removesuffix("]")
                    if inode in inodes:
                        found.setdefault(inode, int(name))
    return found


def _left() -> Iterator[Place]:
    """Yield what is there of addresses; what is listened on is among it."""
    private = Path(tempfile.gettempdir()).glob("snapserv-*/*.sock")
    for path in sorted({*socket_folder().glob("*.sock"), *private}):
        with contextlib.suppress(OSError):
            if path.is_socket() and path.stat().st_uid == os.geteuid():
                yield Place(f"ipc://{path}", waiting=count_waiting(Path(f"{path}{ADOPTION}")))
