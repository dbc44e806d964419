"""Where stores are: this user's own folder, another one, or an object store by its URL."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .blobs import TIMEOUT_S, Blobs
from .folder import FolderBlobs

STORE_VARIABLE = "SNAPSERV_STORE"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://")


def default_path() -> Path:
    """Return where this user's store is: under XDG_DATA_HOME, or in ~/.local/share where that is not set."""
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "snapserv" / "store"


def chosen_place(place: str | os.PathLike[str] | None = None) -> str:
    """Return what was named, or else what the environment's SNAPSERV_STORE says, or `default_path`."""
    return os.fspath(place if place is not None else os.environ.get(STORE_VARIABLE) or default_path())


def open_blobs(
    place: str | os.PathLike[str] | None = None, *, create: bool = False, timeout_s: float = TIMEOUT_S
) -> Blobs:
    """Return what lies in a folder, or at a URL of an object store.

    Args:
        place: A path, or a URL such as ``s3://bucket/prefix``, ``gs://…`` or ``az://…``; by default what the
            environment's SNAPSERV_STORE says, or `default_path`.
        create: Whether to make the folder if it is not there.
        timeout_s: How long to wait for an object store that does not answer.

    Raises:
        NotFoundError: The folder is not there.
        UntrustedError: The folder is somebody else's, a link, or others may write to it.
        UnsupportedError: What is needed for it is not installed.
        BadRequestError: Nothing is known of such a URL.
    """
    chosen = chosen_place(place)
    if _URL.match(chosen) and not chosen.startswith("file://"):
        from .objects import ObjectBlobs

        return ObjectBlobs(chosen, timeout_s=timeout_s)
    return FolderBlobs(Path(chosen.removeprefix("file://")).expanduser(), create=create)
