"""The store: snapshots that outlive the server, the memory and the machine."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .limits import MAX_PATH_LENGTH, Name, NonNegative, PageSize
from .values import NodeInfo
from .verb import FORK_ERRORS, NODE_ERRORS, Arguments, Verb

__all__ = [
    "LoadArgs",
    "LoadResult",
    "SaveArgs",
    "SaveResult",
    "SavedNode",
    "StoredArgs",
    "StoredNode",
    "StoredResult",
]


class SaveArgs(Arguments):
    """Save the snapshot; of a live branch one is taken first, called ``name``.

    With ``all``, all snapshots of its tree. With ``replay``, what was done to it is
    saved where an image is refused. With ``embed``, the files that they and their root stand on are saved as well.
    """

    name: Name | None = None
    all: bool = False
    replay: bool = False
    embed: bool = False


class SavedNode(msgspec.Struct):
    """A snapshot that lasts, by its name here and its ``uid`` in the store.

    ``bytes`` is what was written for it; ``new`` whether it was now; ``replay`` that it lasts as its recording
    alone, and is to be loaded with ``replay``; ``embedded`` whether the files that it stands on are in the store.
    Where it was refused, ``error`` is the code and ``message`` the reason, and there is no ``uid``.
    """

    name: str
    uid: str = ""
    bytes: int = 0
    new: bool = False
    embedded: bool = False
    error: str = ""
    message: str = ""
    replay: bool = False


class SaveResult(msgspec.Struct):
    """What lasts now, the node that was named first; ``node`` is that one."""

    node: NodeInfo
    saved: list[SavedNode]
    store: str


class LoadArgs(Arguments):
    """Which node of the server's store: its ``uid``, its name or a tag, or ``tree/name``.

    Its ancestors come with it, and with ``tree`` all nodes of its tree. ``name`` is what the tree is called here,
    if it is not here yet. With ``replay``, what was done to nodes that no image brings here is done again; where it
    does not lead to the state that was saved, nothing is loaded. ``progress`` asks to be told how far
    that has come.
    """

    stored: Annotated[str, msgspec.Meta(max_length=MAX_PATH_LENGTH)]
    name: Name | None = None
    tree: bool = False
    replay: bool = False
    progress: bool = False


class LoadResult(msgspec.Struct):
    """The node, and all that came with it; what was here already too."""

    node: NodeInfo
    nodes: list[NodeInfo]


class StoredArgs(Arguments):
    """Which page of what the server's store holds."""

    offset: NonNegative = 0
    limit: PageSize = 1000


class StoredNode(msgspec.Struct):
    """A node in the store.

    ``size`` is what was written for it; ``here`` its name in this server, where it is there too; ``replay`` says
    that it lasts as its recording alone; ``message`` is what was said of it by whoever took it.
    """

    uid: str
    name: str
    tree: str
    step: int
    created: float
    saved: float
    parent: str | None = None
    tags: list[str] = []
    pinned: bool = False
    size: int = 0
    here: str | None = None
    replay: bool = False
    message: str = ""


class StoredResult(msgspec.Struct):
    """A page of nodes, in order of when they were taken; ``next`` is the offset of the page after it."""

    store: str
    nodes: list[StoredNode]
    total: int
    next: int | None = None


STORE_ERRORS = ("store_unavailable", "store_damaged", "unsupported")

VERBS = (
    Verb(
        "save",
        "node",
        "have a snapshot last: it is in the store when this is answered",
        SaveArgs,
        SaveResult,
        (*NODE_ERRORS, *FORK_ERRORS, *STORE_ERRORS, "not_portable", "name_taken"),
        once=True,
        reads=False,
    ),
    Verb(
        "load",
        "server",
        "take a node, and what it stands on, out of the store",
        LoadArgs,
        LoadResult,
        (
            *STORE_ERRORS,
            *("machine_differs", "not_found", "name_taken", "untrusted", "version_mismatch"),
            *("not_portable", "recording_mismatch", "timeout", "over_budget", "simulation_error"),
        ),
        once=True,
        reads=False,
    ),
    Verb(
        "stored",
        "server",
        "list what the store holds",
        StoredArgs,
        StoredResult,
        STORE_ERRORS,
        once=False,
        reads=True,
    ),
)
