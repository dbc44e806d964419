"""Whom the server knows: a folder of public keys, which is read again when it has changed.

``authorized_clients/NAME.key`` may do everything. ``authorized_clients/read-only/NAME.key`` may only read: what
counts is where a file lies, and nothing that its client wrote into it.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import structlog
from snapserv_client.keys import read_public

from ..errors import KeysError

log = structlog.get_logger(__name__)

FOLDER = "authorized_clients"
READ_ONLY = "read-only"
SUFFIX = ".key"
LOOK_EVERY_S = 0.25


@dataclass(frozen=True)
class Authorized:
    """A client that the server knows: the name of its key file, and whether it may only read."""

    name: str
    read_only: bool


class AuthorizedClients:
    """The clients of a folder of keys, by public key.

    Args:
        keys: The server's folder of keys.

    Raises:
        KeysError: The folder is missing, or others could put keys into it.
    """

    def __init__(self, keys: Path) -> None:
        self._folders = {keys / FOLDER: False, keys / FOLDER / READ_ONLY: True}
        self._seen: object = None
        self._looked = 0.0
        self._known: dict[str, Authorized] = {}
        self._read(self._look())

    def find(self, public: str, *, now: bool = False) -> Authorized | None:
        """Return the client with this key, or None for a stranger.

        The folder is looked at four times a second at most, or ``now``: requests ask this, each of them.
        """
        at = time.monotonic()
        if now or at - self._looked >= LOOK_EVERY_S:
            self._looked = at
            self._refresh()
        return self._known.get(public)

    def _refresh(self) -> None:
        try:
            found = self._look()
            if found != self._seen:
                self._read(found)
                log.info("keys_read", clients=len(self._known))
        except KeysError as error:
            if self._known:
                log.warning("keys_lost", error=str(error))
            self._known, self._seen = {}, None  # nobody, rather than those of before

    def _look(self) -> dict[Path, tuple[int, int, int]]:
        """Return what tells one state of the folders from another: the inode, size and time of each file."""
        found = {}
        for folder in self._folders:
            try:
                _refuse_shared(folder)
                for entry in os.scandir(folder):
                    if entry.name.endswith(SUFFIX):
                        status = entry.stat()
                        found[Path(entry.path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
            except FileNotFoundError as cause:
                if folder.name == READ_ONLY or folder.is_dir():  # a file that was removed meanwhile is no key
                    continue
                raise KeysError(f"there is no folder {folder}", hint="make it: snapserv keygen server") from cause
            except OSError as cause:
                raise KeysError(f"{folder}: {cause.strerror}") from cause
        return found

    def _read(self, found: dict[Path, tuple[int, int, int]]) -> None:
        known: dict[str, Authorized] = {}
        for path in sorted(found, key=lambda path: self._folders[path.parent]):
            try:
                public = read_public(path).decode()
            except KeysError as error:
                log.warning("key_refused", path=str(path), error=error.message)
                continue
            # A key that lies in both folders may only read: read-only ones come last.
            known[public] = Authorized(path.name.removesuffix(SUFFIX), self._folders[path.parent])
        self._known, self._seen = known, found


def _refuse_shared(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KeysError(f"others may put keys into {folder}", hint=f"make it yours alone: chmod 700 {folder}")
