"""Which layers of branched folders each cell stands on, seen from the server; see `snapserv.folders.view`.

Plain books: a layer is removed when no cell stands on it. Removing is done in a thread, since it can take long.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import structlog

from ..folders import layers
from ..folders.store import ORIGINAL, bases
from ..folders.view import Standing
from ..machine.locked_folders import LOCK, is_abandoned

log = structlog.get_logger(__name__)

LAYERS, TEMPORARY = WHAT = ("snapserv-layers", "snapserv-tmp")
NOTHING = Standing([], [], [])


class Stores:
    """Where the trees of a server keep their layers and their temporary files: folders of their own for each."""

    def __init__(self) -> None:
        self._worker: ThreadPoolExecutor | None = None
        self._parents = [f"{base}/{what}-{os.geteuid()}" for what in WHAT for base in bases()]
        self._guards: dict[str, int] = {}

    def name(self, what: str = LAYERS) -> list[str]:
        """Return where a new tree may have its layers, or its temporary files; there is nothing yet."""
        unique = f"{os.getpid()}-{secrets.token_hex(6)}"
        return [f"{parent}/{unique}" for parent in self._parents if os.path.basename(parent).startswith(what)]

    def guard(self, path: str) -> None:
        """Have what removes old files, as systemd-tmpfiles does, leave alone all that lies where ``path`` does."""
        parent = os.path.dirname(path)
        if parent not in self._guards:
            with contextlib.suppress(OSError):
                self._guards[parent] = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                fcntl.flock(self._guards[parent], fcntl.LOCK_SH | fcntl.LOCK_NB)

    def remove(self, paths: Iterable[str]) -> None:
        """Have folders removed, soon."""
        there = [path for path in paths if os.path.lexists(path)]
        if there:
            self._soon(there)

    def sweep(self) -> None:
        """Remove, soon, what servers that were killed have left: nobody holds their locks any more."""
        for parent in self._parents:
            with contextlib.suppress(OSError):
                names = os.listdir(parent) if os.lstat(parent).st_uid == os.geteuid() else []
                self._soon([f"{parent}/{name}" for name in names if is_abandoned(f"{parent}/{name}")])

    def close(self) -> None:
        """Wait until all is removed."""
        if self._worker is not None:
            self._worker.shutdown()
        for guard in self._guards.values():
            os.close(guard)
        for parent in self._parents:
            with contextlib.suppress(OSError):  # another server has folders there
                os.rmdir(parent)

    def _soon(self, paths: list[str]) -> None:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "snapserv-remove")
        for path in paths:
            self._worker.submit(_remove, path)


class Stacks:
    """The layers that the cells of one tree stand on, or those of a tree's that have some of their own.

    An owner is a cell, seen from the server. What it stands on is released when its process has ended: a dead
    branch comes back from its snapshot, and a dead snapshot not at all. ``described`` is what was said of them.
    """

    def __init__(self, stores: Stores, described: Mapping[str, Any]) -> None:
        self.described = described
        self._stores = stores
        self._store: str = described["store"]
        stores.guard(self._store)
        self._held: dict[object, Standing] = {}
        self._owners: Counter[str] = Counter()
        self._last = 0
        log.info("folders_branch", how=described["how"], why=described["reason"])

    def start(self, master: object, standing: Mapping[str, Any]) -> None:
        """Take note of what the master stands on: its branches have it beneath theirs."""
        self._hold(master, Standing([], _standing(standing).branch, []))

    def standing(self, owner: object) -> dict[str, Any] | None:
        """Return what an owner stands on, as plain values; None where it holds nothing."""
        held = self._held.get(owner)
        return None if held is None else msgspec.to_builtins(held)

    def hold_again(self, owner: object, standing: Mapping[str, Any]) -> None:
        """Take note of what an owner stands on that has layers beneath it already."""
        self._hold(owner, _standing(standing))

    def tidy(self) -> None:
        """Remove the layers that nobody stands on: of what an earlier server had begun and not finished."""
        with contextlib.suppress(FileNotFoundError):
            found = [name for name in os.listdir(self._store) if name not in (ORIGINAL, LOCK)]
            self._stores.remove(f"{self._store}/{name}" for name in found if not self._owners[name])

    def avoid_names(self) -> None:
        """Give no layer a name that one on the disk has."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._store):
                with contextlib.suppress(ValueError):
                    self._last = max(self._last, int(name, 16))

    def preparing(self, branch: object) -> dict[str, str]:
        """Return what to tell a branch that is about to be snapshotted: names for layers."""
        named = {"layer": self._fresh(), "flat": self._fresh()}
        held = self._held.get(branch, NOTHING)
        # Until it is known which of them the branch has taken, it holds them all.
        self._hold(branch, Standing(held.branch, held.snapshot, [*held.keeps, *named.values()]))
        return named

    def froze(self, branch: object, snapshot: object, answer: Mapping[str, Any]) -> None:
        """Take note of what a branch and its new snapshot stand on."""
        standing = _standing(answer)
        self._hold(snapshot, Standing([], standing.snapshot, standing.keeps))
        self._hold(branch, Standing(standing.branch, [], standing.keeps))

    def beginning(self, snapshot: object, branch: object) -> dict[str, Any]:
        """Return what to tell a branch that is about to be made of a snapshot."""
        held = self._held.get(snapshot, NOTHING)
        named = {"layer": self._fresh(), "flat": self._fresh()}
        self._hold(branch, Standing(list(named.values()), held.snapshot, held.keeps))
        return {**named, "lower": held.snapshot}

    def began(self, snapshot: object, branch: object, answer: Mapping[str, Any]) -> None:
        """Take note of what a new branch stands on, and of a shorter stack for its snapshot."""
        standing = _standing(answer)
        if snapshot in self._held:
            keeps = sorted({*standing.keeps, *self._held[snapshot].keeps})
            self._hold(snapshot, Standing([], standing.snapshot, keeps))
        self._hold(branch, Standing(standing.branch, [], standing.keeps))

    def release(self, owner: object) -> None:
        """Remove the layers that only ``owner`` stood on, and with the last owner the store."""
        if owner in self._held:
            self._let_go(self._held.pop(owner))
            if not self._held:
                self._stores.remove([self._store, *self.described.get("bottom", [])])

    def _hold(self, owner: object, standing: Standing) -> None:
        before = self._held.get(owner, NOTHING)
        self._held[owner] = standing
        self._owners.update(_names(standing))
        self._let_go(before)

    def _let_go(self, standing: Standing) -> None:
        names = _names(standing)
        self._owners.subtract(names)
        gone = [name for name in names if not self._owners[name]]
        for name in gone:
            del self._owners[name]
        self._stores.remove(f"{self._store}/{name}" for name in gone)

    def _fresh(self) -> str:
        """Return a name that no layer has had: short, since many have to fit into a mount option."""
        self._last += 1
        return f"{self._last:x}"


def _standing(answer: Mapping[str, Any]) -> Standing:
    return Standing(answer["branch"], answer["snapshot"], answer["keeps"])


def _names(standing: Standing) -> set[str]:
    return {*standing.branch, *standing.snapshot, *standing.keeps}


def _remove(path: str) -> None:
    try:
        layers.remove(path)
    except OSError as cause:
        log.warning("layers_not_removed", path=path, file=cause.filename, why=cause.strerror)
