"""The layers of branched folders: written to the store, and laid out again where a server has its own."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from snapserv_client.store import framing, keys
from snapserv_client.store.format import Folders, Image
from snapserv_client.store.reader import Store

from ..errors import MachineDiffersError, NodeDiedError, OverBudgetError
from ..folders import archiving, numbers, store
from ..folders.layers import copy_with_parents, remove
from ..folders.open_files import OpenFile
from ..folders.store import IMAGE, NUMBERS, ORIGINAL
from ..images.folders import Layers
from ..store.writing import Saving


def save(folders: Mapping[str, Any], saving: Saving) -> tuple[list[dict[str, Any]], int]:
    """Write the layers of a node that the store does not have.

    Args:
        folders: ``store``, where they are; ``stack``: their names, the topmost first; ``known``: what the store has
            of them, by name; ``paths``: the user's folders, which lie beneath all of them in an ``overlay``.
        saving: Where to write.

    Returns:
        All of them, the topmost first, and how many bytes were written.

    Raises:
        NodeDiedError: They are gone, and so is the node.
        StoreUnavailableError: The store cannot be written.
    """
    known, found, written = folders["known"], [], 0
    for name in (*folders["stack"], *([ORIGINAL] if folders["overlay"] else [])):
        if name in known and not saving.absent([_key(known[name]["sha256"])]):
            found.append(known[name])
            continue
        paths = folders["paths"]
        places = paths if name == ORIGINAL else [f"{folders['store']}/{name}/{n}" for n in range(len(paths))]
        with tempfile.TemporaryFile() as spool:
            try:
                archiving.pack(places, spool)
            except FileNotFoundError as cause:
                raise NodeDiedError(f"a layer of the node's folders is gone: {cause.filename}") from cause
            spool.seek(0)
            layer = saving.put_layer(spool)
        found.append({"sha256": layer.sha256, "size": layer.size})
        written += layer.size
    return found, written


def lay_out(folders: Mapping[str, Any] | None, image: Image, stored: Store) -> Layers | None:
    """Have the layers of an image be where its server says; return what its script is to know of them.

    Args:
        folders: ``store``; ``layers``: name and SHA-256 of each, the topmost first; ``upper``: the name of another,
            for what the process opens to write; ``numbered``: that of one for inode numbers. None where the image
            has no branched folders.
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
        stack, numbered = [name for name in names if name != ORIGINAL], None
        if image.branched.how == "overlay":
            own = store.Store(at, len(image.branched.paths), user_namespace=image.branched.user_namespace)
            with own.entered():
                files = _numbered(image.branched, folders["numbered"], names, own)
                if files:
                    numbered = folders["numbered"]
                    stack.insert(0, numbered)
                own.make(folders["upper"], stack, files)
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
    return Layers(at, stack, folders["upper"], numbered)


def _numbered(branched: Folders, layer: str, stack: Sequence[str], own: store.Store) -> list[OpenFile]:
    """Make a layer in which files that are open for writing have the inode numbers that they had.

    Returns:
        These files; none where no numbers can be given, and there is no such layer.
    """
    if not branched.inodes or branched.user_namespace or max(branched.inodes.values()) >= numbers.MOST:
        return []
    if (kind := numbers.how()) is None:
        return []
    files = []
    for path, number in branched.inodes.items():
        folder = next(n for n, each in enumerate(branched.paths) if path.startswith(f"{each}/"))
        files.append(OpenFile((), folder, path[len(branched.paths[folder]) + 1 :], os.O_RDWR, number))
    own.make(layer, stack[:-1], [])
    for file in files:
        newest = next(name for name in stack if os.path.lexists(f"{name}/{file.folder}/{file.path}"))
        copy_with_parents(f"{newest}/{file.folder}", str(file.path), f"{layer}/{file.folder}")
        name = f"{layer}/{file.folder}/{file.path}"
        os.setxattr(name, numbers.ORIGIN, numbers.handle(file.number, kind))
    os.mkdir(f"{layer}/{NUMBERS}")
    numbers.write(f"{layer}/{NUMBERS}{IMAGE}", [file.number for file in files])
    return files


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
