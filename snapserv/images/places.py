"""Where the files are that a process stands on when it is brought back: the machine's, or out of the store."""

from __future__ import annotations

import os
from typing import Protocol

import xxhash

_NAME = "snapserv-file-"


class Places(Protocol):
    """Gives paths of files, for scripts to open."""

    def base(self, sha256: bytes) -> str:
        """Return the path of a file that holds a base image, or the content of a file without a name."""

    def file(self, path: str, content: bytes) -> str:
        """Return where the file of a path is: there, or where its ``content`` was taken out of the store.

        Args:
            path: Where it was.
            content: The SHA-256 of the `Base` that holds its content; empty where that is not in the store.
        """


def name_of(path: str, content: bytes) -> str:
    """Return what a memfd is called that holds what a file held: by it, that is known where it is mapped."""
    return f"{_NAME}{xxhash.xxh3_64_hexdigest(os.fsencode(path))}-{content.hex()}"


def shown_as(path: str, content: bytes) -> str:
    """Return what /proc calls that memfd."""
    return f"/memfd:{name_of(path, content)} (deleted)"
