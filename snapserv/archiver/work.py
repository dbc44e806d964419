"""What an archiver does: it saves frozen processes, says how to bring them back, and keeps heads up to date."""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from snapserv_client.arrays import dtype_from_wire
from snapserv_client.store import keys, memory
from snapserv_client.store.columns import Array
from snapserv_client.store.format import File, Image, Node, Session, Tree
from snapserv_client.wire import MAX_MESSAGE_BYTES

from ..errors import BadRequestError, MachineDiffersError, StoreDamagedError
from ..images import reviving
from ..images.machine import Files, refuse_other
from ..images.probing import find_top
from ..images.record import read_record
from ..images.taking import Process, Taker
from ..machine.sizes import NODE_BYTES, fitting
from ..memory.regions import resolve_region
from ..outside.fields import FieldPlace, read_through
from ..outside.hashing import hash_plainly
from ..store.writing import Saving, StoreWriter
from . import layers
from .bases import BaseFiles, PlacesHere

TOGETHER_BYTES = 1 << 20
"""Runs that lie no further apart are read together."""
Answer = tuple[dict[str, Any], int | None]
"""What came of a request, and a descriptor to send along, which is closed then."""


class Archive:
    """A store in the hands of one server.

    Args:
        place: The store's folder or URL.
        bytes_per_s: How fast it is written at most; without a bound for None.
    """

    def __init__(self, place: str, bytes_per_s: float | None) -> None:
        self._writer = StoreWriter(place, bytes_per_s=bytes_per_s)
        self._store = self._writer.store
        self._taker = Taker(self._store)
        self._bases = BaseFiles(self._store)
        self._files = Files()
        self._handlers: dict[str, Callable[[Mapping[str, Any], list[int]], Answer]] = {
            "save": self._save,
            "record": self._record,
            "embed": self._embed,
            "head": self._head,
            "remove": self._remove,
            "session": self._session,
            "script": self._script,
            "check": self._check,
            "stream": self._stream,
            "hash": self._hash,
            "read": self._read,
            "find": self._find,
            "sessions": self._sessions,
            "list": self._list,
        }

    def do(self, request: Mapping[str, Any], descriptors: list[int]) -> Answer:
        """Do what is asked.

        Raises:
            SnapservError: What came in between.
        """
        handler = self._handlers.get(request["op"])
        if handler is None:
            raise BadRequestError(f"an archiver does not {request['op']!r}")
        return handler(request, descriptors)

    def _save(self, request: Mapping[str, Any], descriptors: list[int]) -> Answer:
        """Write the image of a process and what was done to it, and then the head that names them."""
        processes = [
            Process(
                each["pid"],
                memory,
                read_record(each["record"]) if each["record"] is not None else {},
                request["ledger"],
            )
            for each, memory in zip(request["processes"], descriptors, strict=True)
        ]
        tree = msgspec.convert(request["tree"], Tree) if request["tree"] is not None else None
        head, folders = dict(request["head"]), request["folders"]
        with self._writer.saving() as saving:
            take = functools.partial(
                self._taker.take,
                processes[0],
                saving,
                others=processes[1:],
                baseline=request["baseline"],
                embed=request["embed"],
            )
            try:
                taken = take(relative=request["relative"], relative_pid=request["relative_pid"])
            except StoreDamagedError:  # what it would share has been removed, or is damaged: it shares nothing
                self._taker.forget()
                taken = take(relative=None)
            written = taken.written_bytes + self._put_actions(saving, head, request["actions"])
            if folders is not None:
                head["layers"], more = layers.save(folders, saving)
                written += more
            if tree is not None:
                saving.put_tree(tree)
            head |= {"image": taken.sha256, "saved": time.time(), "size": written}
            saving.put_node(msgspec.convert(head, Node))
        self._session(request, [])
        return {
            "image": taken.sha256,
            "size": written,
            "pages": taken.pages,
            "new_pages": taken.new_pages,
            "seconds": taken.seconds,
            "saved": head["saved"],
            "layers": head.get("layers", []),
        }, None

    def _record(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Write what was done to a node, of which there is to be no image, and then the head that names it."""
        tree = msgspec.convert(request["tree"], Tree) if request["tree"] is not None else None
        began = time.monotonic()
        head = {**request["head"], "image": b"", "saved": time.time()}
        with self._writer.saving() as saving:
            head["size"] = self._put_actions(saving, head, request["actions"])
            if tree is not None:
                saving.put_tree(tree)
            saving.put_node(msgspec.convert(head, Node))
        self._session(request, [])
        answer = {"image": b"", "size": head["size"], "saved": head["saved"], "seconds": time.monotonic() - began}
        return {**answer, "layers": []}, None

    def _put_actions(self, saving: Saving, head: dict[str, Any], stream: bytes) -> int:
        """Write what was done to a node, and have its head say where; return how many bytes that took."""
        pieces, rest, written = saving.put_actions(stream)
        said = {"pieces": [msgspec.structs.asdict(each) for each in pieces], "actions": rest}
        head["recorded"] = {**head["recorded"], **said}
        return written

    def _embed(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Write the files that the image of a node stands on, and have its head name the image with them."""
        head = self._renewed(request["head"])
        with self._writer.saving() as saving:
            try:
                image, written = self._taker.embed(head["image"], saving)
            except StoreDamagedError:  # what it counted on has been removed
                self._taker.forget()
                image, written = self._taker.embed(head["image"], saving)
            head |= {"image": image, "size": head["size"] + written}
            saving.put_node(msgspec.convert(head, Node))
        return {"image": image, "size": head["size"]}, None

    def _head(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Write anew what may change of a head; the rest of it is as it was."""
        self._writer.put_node(msgspec.convert(self._renewed(request["head"]), Node))
        return {}, None

    def _remove(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        self._writer.remove_node(request["tree"], request["uid"])
        return {}, None

    def _session(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Write down what the server has live, where there is something to say of it."""
        if request["session"] is None:
            return {}, None
        here = {"host": socket.gethostname(), "boot": _boot(), "written": time.time()}
        self._writer.put_session(msgspec.convert({**request["session"], **here}, Session))
        return {}, None

    def _script(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Return a script that brings a process back: from nothing, or from one that is another image."""
        image, changed = self._checked(request["image"])
        laid = layers.lay_out(request["folders"], image, self._store)
        places, known = PlacesHere(self._bases, changed), {"locks": request["locks"], "layers": laid}
        if request["was"] is None:
            ready = reviving.revive(image, self._store, places, top=find_top(), **known)
        else:
            was = self._store.image(request["was"])
            ready = reviving.become(image, was, self._store, places, **known)
        numbered = None if laid is None else laid.numbered
        renumbered = [] if image.branched is None or numbered is not None else sorted(image.branched.inodes)
        return {
            "above": ready.above,
            "told": ready.told,
            "pages": ready.pages,
            "exact": ready.exact,
            "numbered": numbered,
            "renumbered": renumbered,
            "from_store": [file.path for file in changed],
        }, ready.descriptor

    def _read(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Return a region of a field of an image, in C order."""
        place = FieldPlace(
            request["name"], request["address"], dtype_from_wire(request["dtype"]), tuple(request["shape"])
        )
        region = resolve_region(request["region"], place.shape, what=place.name)
        copy = functools.partial(self._copy, request["image"])
        value = read_through(copy, place, region, most_bytes=MAX_MESSAGE_BYTES)
        return {"content": value.tobytes(), "shape": list(value.shape)}, None

    def _copy(self, sha256: bytes, addresses: Array, run: int, into: Array) -> None:
        """Copy runs of bytes of an image, neighbours together: pages lie compressed with others."""
        at = 0
        for group in np.split(addresses, np.flatnonzero(np.diff(addresses.astype(np.int64)) > TOGETHER_BYTES) + 1):
            low = int(group[0])
            content = memory.read(self._store, sha256, low, int(group[-1]) + run - low)
            for address in group.tolist():
                into[at : at + run] = content[address - low : address - low + run]
                at += run

    def _find(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Return a tree with its nodes: the one that a node is of, or that of a ``uid``."""
        node = None if request["node"] is None else self._store.node(request["node"])
        tree = self._store.tree(request["tree"] if node is None else node.tree)
        nodes = self._store.nodes(tree.uid) if request["all"] or node is None else self._store.lineage(node)
        return {
            "tree": _plain(tree),
            "nodes": [_plain(each) for each in nodes],
            "node": None if node is None else node.uid,
        }, None

    def _sessions(self, _: Mapping[str, Any], __: list[int]) -> Answer:
        """Return what servers have written of themselves, the latest first."""
        found = [_plain(each) for each in self._store.sessions()]
        return {"sessions": found, "host": socket.gethostname(), "boot": _boot()}, None

    def _list(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Return a page of all nodes, briefly."""
        names = {tree.uid: tree.name for tree in self._store.trees()}
        every = self._store.nodes()
        page = every[request["offset"] : request["offset"] + request["limit"]]
        page = page[: fitting(NODE_BYTES + len(node.message.encode()) for node in page)]
        kept = ("uid", "name", "step", "created", "saved", "parent", "tags", "pinned", "size", "message")
        return {
            "nodes": [
                {
                    **{name: getattr(node, name) for name in kept},
                    "tree": names.get(node.tree, node.tree),
                    "replay": not node.image,
                }
                for node in page
            ],
            "total": len(every),
        }, None

    def _check(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """See that an image could be brought back here."""
        image = self._checked(request["image"])[0]
        inside = image.branched.hold if image.branched is not None else lambda path: False
        opened = [each for each in image.descriptors if each.kind in ("file", "folder", "device")]
        paths = [each.path for each in opened if not each.content and not inside(each.path)]
        if request["files"] and (gone := [path for path in paths if not os.path.exists(path)]):
            raise MachineDiffersError(
                f"files that the image has open are gone: {', '.join(gone)}",
                details={"differs": {"files": dict.fromkeys(gone, "missing")}},
            )
        return {}, None

    def _stream(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Return what was done to a node, as a stream."""
        return {"actions": self._store.stream(self._node(request))}, None

    def _hash(self, request: Mapping[str, Any], _: list[int]) -> Answer:
        """Return the hash of each field of a node, out of its image, or as it is said where there is none."""
        node = self._node(request)
        if not node.image:
            return {"hashes": node.recorded.end if node.recorded is not None else {}}, None
        fields = [field.name for field in self._store.tree(node.tree).fields]
        return {
            "hashes": {name: f"{hash_plainly(self._store.field(node, name).tobytes()):032x}" for name in fields}
        }, None

    def _node(self, request: Mapping[str, Any]) -> Node:
        return self._store.head(keys.of_node(request["tree"], request["uid"]), Node)

    def _renewed(self, head: Mapping[str, Any]) -> dict[str, Any]:
        """Return the head of a node as the store has it, but for what is said anew."""
        return {**_plain(self._node(head)), **head}

    def _checked(self, sha256: bytes) -> tuple[Image, list[File]]:
        """Return an image that can be brought back here, and the files that must come out of the store for it."""
        image = self._store.image(sha256)
        refuse_other(image.machine)
        return image, self._files.find_changed(image.files)


def _plain(value: Tree | Node | Session) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(value, builtin_types=(bytes,))
    return found


def _boot() -> str:
    """Return the number of this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id") as boot:
        return boot.read().strip()


def be_nice(nice: int) -> None:
    """Have this process yield to others: its processor, and its disk (ioprio_set(2), idle class)."""
    import ctypes

    os.nice(nice)
    ctypes.CDLL(None).syscall(251, 1, 0, 3 << 13)
