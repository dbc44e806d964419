"""The branched folders of a process that is brought back: how a script has it see them."""

from __future__ import annotations

import os
from typing import NamedTuple

from snapserv_client.store.format import Folders, Image

from ..folders.store import overlay_options
from .script import Call, Script, Slot, text

_HERE = -100
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MNT_DETACH = 2
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_OPEN_TREE_CLONE = 1
_FROM_EMPTY_PATH = 4


class Layers(NamedTuple):
    """Where the layers of an image's folders lie here.

    Attributes:
        store: The folder that they are in.
        stack: Their names, the topmost first, but for what the user's folders held.
        upper: The name of an empty one, for what the process opens to write.
    """

    store: str
    stack: list[str]
    upper: str


def is_branched(path: str, folders: Folders) -> bool:
    """Return whether a path leads into a branched folder."""
    return any(path.startswith(f"{folder}/") for folder in folders.paths)


def show(script: Script, image: Image, layers: Layers | None, was: Image | None) -> None:
    """Have a process see the folders of an image, in a mount namespace of its own.

    Args:
        script: What the process runs, before it opens anything.
        image: Of what it is to be.
        layers: Where its folders are; None where it has none.
        was: What it is, if it is a clone of a relative.
    """
    folders, before = image.branched, None if was is None else was.branched
    if folders is None or layers is None:
        return
    _leave(script, folders, anew=before is None)
    for path in [] if before is None else before.paths:
        script.call(Call.umount2, script.data(text(path)), _MNT_DETACH, why=f"what was seen at {path}")
    script.call(Call.chdir, script.data(text(layers.store)), why="the layers of its folders")
    for number, path in enumerate(folders.paths):
        root = (
            _overlay(script, folders, layers, number) if folders.how == "overlay" else _copy(script, layers, number)
        )
        target, why = script.data(text(path)), f"the folder {path}"
        script.call(Call.move_mount, root, script.data(b"\0"), _HERE, target, _FROM_EMPTY_PATH, why=why)
        script.call(Call.close, root, why=why)


def _leave(script: Script, folders: Folders, *, anew: bool) -> None:
    """Have the process leave the namespace that it is in: the server's, or its relative's, where it may mount."""
    spaces = _CLONE_NEWNS | (_CLONE_NEWUSER if folders.user_namespace and anew else 0)
    script.call(Call.unshare, spaces, why="a mount namespace")
    if not anew:
        return
    if folders.user_namespace:
        uid, gid = os.geteuid(), os.getegid()
        for name, said in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            file, why = script.slot(), f"/proc/self/{name}"
            script.call(Call.open, script.data(text(why)), os.O_WRONLY | os.O_CLOEXEC, why=why, into=file)
            script.call(Call.write, file, script.data(said.encode()), len(said), why=why, equals=len(said))
            script.call(Call.close, file, why=why)
    script.call(Call.mount, 0, script.data(text("/")), 0, _MS_REC | _MS_PRIVATE, why="a private mount namespace")


def _overlay(script: Script, folders: Folders, layers: Layers, number: int) -> Slot:
    """Have an overlay mounted where no path leads to; return where its root is."""
    context, root, why = script.slot(), script.slot(), f"an overlay for {folders.paths[number]}"
    script.call(Call.fsopen, script.data(text("overlay")), _CLOEXEC, why=why, into=context)
    options = overlay_options(layers.upper, layers.stack, number, user_namespace=folders.user_namespace)
    for name, value in options.items():
        command, said = (_SET_STRING, script.data(text(value))) if value else (_SET_FLAG, 0)
        script.call(Call.fsconfig, context, command, script.data(text(name)), said, 0, why=f"{why}: {name}={value}")
    script.call(Call.fsconfig, context, _CREATE, 0, 0, 0, why=why)
    script.call(Call.fsmount, context, _CLOEXEC, 0, why=why, into=root)
    script.call(Call.close, context, why=why)
    return root


def _copy(script: Script, layers: Layers, number: int) -> Slot:
    """Have the copy of a folder mounted where no path leads to; return where its root is."""
    root = script.slot()
    place = script.data(text(f"{layers.stack[0]}/{number}"))
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    script.call(Call.open_tree, _HERE, place, flags, why=f"the copy of folder {number}", into=root)
    return root
