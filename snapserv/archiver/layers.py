"""The layers of branched folders: written to the store, and laid out again where a server has its own."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Mapping
from typing import Any

from snapserv_client.store import framing, keys
from snapserv_client.store.format import Image
from snapserv_client.store.reader import Store

from ..errors import MachineDiffersError, NodeDiedError, OverBudgetError
from ..folders import archiving, store
from ..folders.layers import remove
from ..folders.store import ORIGINAL
from ..images.folders import Layers
from ..store.writing import Saving

SPOOLED_BYTES = 8 << 20
"""What of an archive is in memory before it goes to a file."""


def save(folders: Mapping[str, Any], saving: Saving) -> list[dict[str, Any]]:
    """Write the layers of a node that the store does not have; return them all, the topmost first.

    Args:
        folders: ``store``, where they are; ``stack``: their names, the topmost first; ``known``: what the store has of
            them, by name; ``paths``: the user's folders, which lie beneath all of them in an ``overlay``.
        saving: Where to write.

    Raises:
        NodeDiedError: They are gone, and so is the node.
        StoreUnavailableError: The store cannot be written.
    """
    known, found = folders["known"], []
    for name in (*folders["stack"], *([ORIGINAL] if folders["overlay"] else [])):
        if name in known and not saving.absent([_key(known[name]["sha256"])]):
            found.append(known[name])
            continue
        at = folders["store"]
        places = (
            folders["paths"] if name == ORIGINAL else [f"{at}/{name}/{n}" for n in range(len(folders["paths"]))]
        )
        with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as spool:
            try:
                archiving.pack(places, spool)
            except FileNotFoundError as cause:
                raise NodeDiedError(f"a layer of the node's folders is gone: {cause.filename}") from cause
            spool.seek(0)
            layer = saving.put_layer(spool)
        found.append({"sha256": layer.sha256, "size": layer.size})
    return found


def lay_out(folders: Mapping[str, Any] | None, image: Image, stored: Store) -> Layers | None:
    """Have the layers of an image be where its server says; return what its script is to know of them.

    Args:
        folders: ``store``; ``layers``: name and SHA-256 of each, the topmost first; ``upper``: the name of another,
            for what the process opens to write. None where the image has no branched folders.
        image: Of the process.
        stored: Where they lie in archives.

    Raises:
        StoreDamagedError: A layer is missing, or none.
        OverBudgetError: The disk is full.
        MachineDiffersError: They hold files of another user.
    """
    if folders is None or image.branched is None:
        return None
    at, names = folders["store"], [name for name, _ in folders["layers"]]
    try:
        for name, sha256 in folders["layers"]:
            if not os.path.isdir(f"{at}/{name}"):
                _unpack(stored, sha256, f"{at}/{name}")
        stack = [name for name in names if name != ORIGINAL]
        if image.branched.how == "overlay":
            own = store.Store(at, len(image.branched.paths), user_namespace=image.branched.user_namespace)
            with own.entered():
                own.make(folders["upper"], stack, [])
        for path in image.branched.paths:
            os.makedirs(path, 0o700, exist_ok=True)
    except PermissionError as cause:
        raise MachineDiffersError(
            f"the node's folders cannot be laid out by this user: {cause.filename}: {cause.strerror}",
            hint="load it as the user who saved it, or as root",
            details={"differs": {"user": str(cause)}},
        ) from cause
    except OSError as cause:
        raise OverBudgetError(
            f"the node's folders cannot be laid out: {cause}", hint="free space in TMPDIR"
        ) from cause
    return Layers(at, stack, folders["upper"])


def _unpack(stored: Store, sha256: bytes, path: str) -> None:
    unfinished = f"{path}.new"
    remove(unfinished)
    os.mkdir(unfinished, 0o700)
    try:
        with stored.layer(sha256) as archive:
            archiving.unpack(archive, unfinished)
    except tarfile.TarError as cause:
        remove(unfinished)
        raise framing.damaged(_key(sha256), f"it is no archive of a layer: {cause}") from cause
    os.rename(unfinished, path)


def _key(sha256: bytes) -> str:
    return keys.of_content(keys.LAYERS, sha256)
