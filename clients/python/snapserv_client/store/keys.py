"""Where in a store each object lies: its key, which is its path in a folder. See docs/store.md."""

from __future__ import annotations

import re

from ..errors import BadRequestError

MARKER = "snapserv-store"
PACKS, IMAGES, BASES, LAYERS, ACTIONS = "packs/", "images/", "bases/", "layers/", "actions/"
TREES, NODES, SESSIONS = "trees/", "nodes/", "sessions/"
LOCKS, TEMPORARY = "locks/", "temporary/"
CONTENT = (PACKS, IMAGES, BASES, LAYERS, ACTIONS)
"""What is named by the SHA-256 of its bytes, and never changes."""
HEADS = (TREES, NODES, SESSIONS)
"""What is written anew."""

_UID = re.compile(r"[0-9a-f]{32}")
_CONTENT_KEY = re.compile(r"([a-z]+/)([0-9a-f]{2})/([0-9a-f]{64})")


def of_content(kind: str, sha256: bytes) -> str:
    """Return the key of an object that is named by its content."""
    name = sha256.hex()
    return f"{kind}{name[:2]}/{name}"


def sha256_of(key: str) -> bytes | None:
    """Return what the bytes of an object hash to, where its key says so."""
    found = _CONTENT_KEY.fullmatch(key)
    if not found or found[1] not in CONTENT or found[3][:2] != found[2]:
        return None
    return bytes.fromhex(found[3])


def of_tree(uid: str) -> str:
    """Return the key of a tree."""
    return TREES + _checked(uid)


def of_node(tree: str, uid: str) -> str:
    """Return the key of a node."""
    return f"{NODES}{_checked(tree)}/{_checked(uid)}"


def nodes_of(tree: str) -> str:
    """Return what the keys of a tree's nodes begin with."""
    return f"{NODES}{_checked(tree)}/"


def of_session(uid: str) -> str:
    """Return the key of a session."""
    return SESSIONS + _checked(uid)


def is_uid(text: str) -> bool:
    """Return whether a text is a ``uid``: 32 hexadecimal digits, in lower case."""
    return _UID.fullmatch(text) is not None


def _checked(uid: str) -> str:
    if not is_uid(uid):
        raise BadRequestError(f"{uid!r} is no uid", hint="32 hexadecimal digits, in lower case")
    return uid
