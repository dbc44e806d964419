"""Where the files are that a process stands on when it is brought back: the machine's, or out of the store."""

from __future__ import annotations

from typing import Protocol

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


def name_of(content: bytes) -> str:
    """Return what a memfd is called that holds the content of a file: by it, it is known where it is mapped."""
    return _NAME + content.hex()


def shown_as(content: bytes) -> str:
    """Return what /proc calls that memfd."""
    return f"/memfd:{name_of(content)} (deleted)"
