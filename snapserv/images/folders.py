"""The branched folders of a process that is brought back: how a script has it see them."""

from __future__ import annotations

import os
from typing import NamedTuple

from snapserv_client.store.format import Descriptor, Folders, Image

from ..folders.store import IMAGE, NUMBERS, overlay_options
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
        upper: The name of another one, for what the process opens to write.
        numbered: The topmost of them where it has the image of a file system in which files have the inode numbers
            that they had; see `snapserv.folders.numbers`.
    """

    store: str
    stack: list[str]
    upper: str
    numbered: str | None


def is_branched(descriptor: Descriptor, image: Image) -> bool:
    """Return whether what is open is in a branched folder, and so can be opened where that is seen."""
    if image.branched is None or descriptor.kind not in ("file", "folder"):
        return False
    return any(f"{descriptor.path}/".startswith(f"{folder}/") for folder in image.branched.paths)


def show(script: Script, image: Image, layers: Layers | None, was: Image | None) -> None:
    """Have a process see the folders of an image, in a mount namespace of its own.

    Args:
        script: What the process runs, before it opens anything in them.
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
    if layers.numbered is not None:
        why, place = "inode numbers that were elsewhere", f"{layers.numbered}/{NUMBERS}"
        _attach(script, _make(script, "erofs", {"source": f"{place}{IMAGE}"}, why), place, why)
    for number, path in enumerate(folders.paths):
        if folders.how == "overlay":
            root = _overlay(script, folders, layers, number)
        else:
            root = _copy(script, layers, number)
        _attach(script, root, path, f"the folder {path}")


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
    options = overlay_options(
        layers.upper, layers.stack, number, user_namespace=folders.user_namespace, numbered=layers.numbered
    )
    return _make(script, "overlay", options, f"an overlay for {folders.paths[number]}")


def _make(script: Script, kind: str, options: dict[str, str], why: str) -> Slot:
    """Have a file system mounted where no path leads to; return where its root is."""
    context, root = script.slot(), script.slot()
    script.call(Call.fsopen, script.data(text(kind)), _CLOEXEC, why=why, into=context)
    for name, value in options.items():
        command, said = (_SET_STRING, script.data(text(value))) if value else (_SET_FLAG, 0)
        script.call(Call.fsconfig, context, command, script.data(text(name)), said, 0, why=f"{why}: {name}={value}")
    script.call(Call.fsconfig, context, _CREATE, 0, 0, 0, why=why)
    script.call(Call.fsmount, context, _CLOEXEC, 0, why=why, into=root)
    script.call(Call.close, context, why=why)
    return root


def _attach(script: Script, root: Slot, path: str, why: str) -> None:
    place, nothing = script.data(text(path)), script.data(b"\0")
    script.call(Call.move_mount, root, nothing, _HERE, place, _FROM_EMPTY_PATH, why=why)
    script.call(Call.close, root, why=why)


def _copy(script: Script, layers: Layers, number: int) -> Slot:
    """Have the copy of a folder mounted where no path leads to; return where its root is."""
    root = script.slot()
    place = script.data(text(f"{layers.stack[0]}/{number}"))
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    script.call(Call.open_tree, _HERE, place, flags, why=f"the copy of folder {number}", into=root)
    return root
