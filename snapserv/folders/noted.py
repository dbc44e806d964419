"""What a cell says of its branched folders to whoever takes an image of it: it is read out of its memory."""

from __future__ import annotations

import msgspec

from ..ext import fork


class OpenNoted(msgspec.Struct):
    """What is open in branched folders.

    Attributes:
        descriptors: Those that are one open file.
        path: Where it is; None where it has no name any more.
        number: Its inode number where it is open for writing, else 0.
    """

    descriptors: tuple[int, ...]
    path: str | None
    number: int


class Noted(msgspec.Struct):
    """Branched folders, as they are seen by a process that is about to be frozen.

    Attributes:
        how: ``overlay`` or ``copies``.
        user_namespace: Whether it is in a user namespace of its own.
        paths: Of the folders.
        files: What is open in them.
        at_work: The working folder, if it lies in one of them.
    """

    how: str
    user_namespace: bool
    paths: list[str]
    files: list[OpenNoted]
    at_work: str | None


def put(noted: Noted) -> None:
    """Have all processes that are frozen from here say so."""
    fork.put_note(msgspec.msgpack.encode(noted))


def read(note: bytes) -> Noted:
    """Return what a process says.

    Raises:
        msgspec.DecodeError: It is none of ours.
    """
    return msgspec.msgpack.decode(note, type=Noted)
