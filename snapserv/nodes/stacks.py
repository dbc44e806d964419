"""Which layers of branched folders each cell stands on, seen from the server; see `snapserv.folders.view`.

Plain books: a layer is removed when no cell stands on it. Removing is done in a thread, since it can take long.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import structlog

from ..folders import layers
from ..folders.store import ORIGINAL, bases
from ..folders.view import Standing
from ..machine.locked_folders import ASIDE, LOCK, set_aside

log = structlog.get_logger(__name__)

LAYERS, TEMPORARY = WHAT = ("snapserv-layers", "snapserv-tmp")
NOTHING = Standing([], [], [])
LET_GO_S = 1.0


def temporary_root(path: str) -> str | None:
    """Return where the temporary files of a tree's nodes are, for a path that leads there; None for any other."""
    for parent, root, inside in zip(*([path.split("/")[n:] for n in range(3)]), strict=False):
        if parent.startswith(f"{TEMPORARY}-") and root and inside:
            return path[: path.index(f"{parent}/{root}/") + len(f"{parent}/{root}")]
    return None


class Stores:
    """Where the trees of a server keep their layers and their temporary files: folders of their own for each."""

    def __init__(self) -> None:
        self._worker: ThreadPoolExecutor | None = None
        self._parents = [f"{base}/{what}-{os.geteuid()}" for what in WHAT for base in bases()]
        self._guards: dict[str, int] = {}
        self._used: Counter[str] = Counter()
        self._left: set[str] = set()

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
        """Have folders removed, soon; those at which others are shown when they are no longer.

        What has a lock stays where another server has come to share it.
        """
        there = [path for path in paths if os.path.lexists(path)]
        self._left.update(path for path in there if self._used[path])
        there = [path for path in there if path not in self._left]
        if there:
            self._soon(there)

    def use(self, paths: Iterable[str], *, no_longer: bool = False) -> None:
        """Have folders stay at which processes show others: to remove one would end that."""
        for path in paths:
            self._used[path] += -1 if no_longer else 1
            if not self._used[path]:
                del self._used[path]
                if path in self._left:
                    self._left.remove(path)
                    self.remove([path])

    def sweep(self) -> None:
        """Remove, soon, what servers that were killed have left: nobody holds their locks any more."""
        for parent in self._parents:
            with contextlib.suppress(OSError):
                names = os.listdir(parent) if os.lstat(parent).st_uid == os.geteuid() else []
                for name in names:
                    if (aside := set_aside(f"{parent}/{name}")) is not None:
                        self._soon([aside])

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
            is_locked = os.path.dirname(path) in self._parents and ASIDE not in path
            self._worker.submit(_remove_unlocked if is_locked else _remove, path)


class Stacks:
    """The layers that the cells of one tree stand on, or those of a tree's that have some of their own.

    An owner is a cell, seen from the server. What it stands on is released when its process has ended: a dead
    branch comes back from its snapshot, and a dead snapshot not at all. ``described`` is what was said of them, and
    ``lasting`` which of them a store has, by name. ``held`` are descriptors to close when nobody stands on any.
    """

    def __init__(self, stores: Stores, described: Mapping[str, Any], held: Sequence[int] = ()) -> None:
        self.described = described
        self._locks = list(held)
        self._stores = stores
        self._store: str = described["store"]
        stores.guard(self._store)
        self._held: dict[object, Standing] = {}
        self._owners: Counter[str] = Counter()
        self._last = 0
        self.lasting: dict[str, dict[str, Any]] = {}
        self._is_loaded = bool(described.get("loaded"))
        if self._is_loaded:
            stores.use([*described["paths"], *described["bottom"]])
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
        return {**named, "lower": held.snapshot, "moved": held.moved}

    def began(self, snapshot: object, branch: object, answer: Mapping[str, Any]) -> None:
        """Take note of what a new branch stands on, and of a shorter stack for its snapshot."""
        standing = _standing(answer)
        if snapshot in self._held:
            keeps = sorted({*standing.keeps, *self._held[snapshot].keeps})
            held = self._held[snapshot]
            self._hold(snapshot, Standing(held.branch, standing.snapshot, keeps, held.moved))
        self._hold(branch, Standing(standing.branch, [], standing.keeps))

    # ------------------------------------------------------------------------------------------- with a store

    @contextlib.contextmanager
    def kept(self, owner: object) -> Iterator[dict[str, Any]]:
        """Have what an owner stands on stay for a while; give what an archiver is told that is to save it."""
        token, held = object(), self._held.get(owner, NOTHING)
        self._hold(token, Standing([], held.snapshot, []))
        try:
            yield {
                "store": self._store,
                "stack": held.snapshot,
                "known": {name: self.lasting[name] for name in (*held.snapshot, ORIGINAL) if name in self.lasting},
                "paths": self.described["paths"],
                "overlay": self.described["how"] == "overlay",
            }
        finally:
            self.release(token)

    def saved(self, told: Mapping[str, Any], found: list[dict[str, Any]]) -> None:
        """Take note of what the store has, in answer to what `kept` gave."""
        for name, layer in zip((*told["stack"], ORIGINAL), found, strict=False):
            if name == ORIGINAL or self._owners[name]:
                self.lasting[name] = layer

    def bringing(self, owner: object, found: list[dict[str, Any]]) -> dict[str, Any]:
        """Give an owner that comes out of a store its layers; return what an archiver is told that lays them out.

        Args:
            owner: Whose they are.
            found: What the store has of them, the topmost first.
        """
        overlay = self.described["how"] == "overlay"
        stack: list[str] = []
        for layer in found[:-1] if overlay else found:
            there = (name for name, other in self.lasting.items() if other["sha256"] == layer["sha256"])
            # Each once: equal ones in one stack, as empty ones are, cannot be the same for overlayfs.
            stack.append(next((name for name in there if name not in (*stack, ORIGINAL)), None) or self._fresh())
        names = [*stack, ORIGINAL] if overlay else stack
        self.lasting |= zip(names, found, strict=True)
        own = {"upper": self._fresh(), "numbered": self._fresh()}
        self._hold(owner, Standing(list(own.values()), stack, []))
        layers = [[name, layer["sha256"]] for name, layer in zip(names, found, strict=True)]
        return {"store": self._store, "layers": layers, **own}

    def brought(self, cell: object, coming: object, *, numbered: str | None) -> None:
        """Take note of the cell that has come, for which `bringing` has held its layers.

        Args:
            cell: Its own.
            coming: The owner that was told of there.
            numbered: The layer in which files have their inode numbers, if there is one.
        """
        held = self._held[coming]
        stack = [numbered, *held.snapshot] if numbered is not None else held.snapshot
        found = [os.stat(path) for path in self.described["paths"]]
        originals = [[each.st_dev, each.st_ino] for each in found]
        moved = {"store": self._store, "originals": originals, "numbered": numbered}
        self._hold(cell, Standing(held.branch, stack, [], moved))

    @property
    def locks(self) -> dict[str, str]:
        """The files that all cells have mapped, so that it is known that they live: by what they lock."""
        roots = (temporary_root(path) for path in self.described["paths"])
        root = next((each for each in roots if each is not None), None)
        layers = {"layers": f"{self._store}/{LOCK}"}
        return layers if root is None else layers | {"tmp": f"{root}/{LOCK}"}

    # ---------------------------------------------------------------------------------------------------------

    def release(self, owner: object) -> None:
        """Remove the layers that only ``owner`` stood on, and with the last owner the store."""
        if owner in self._held:
            self._let_go(self._held.pop(owner))
            if not self._held:
                self._end()

    @property
    def is_over(self) -> bool:
        """Whether nobody stands on any of them, and so they are removed."""
        return not self._held

    def _end(self) -> None:
        bottom = self.described.get("bottom", [])
        for lock in self._locks:
            os.close(lock)
        self._stores.remove([self._store, *bottom])
        if self._is_loaded:
            self._stores.use([*self.described["paths"], *bottom], no_longer=True)

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
            self.lasting.pop(name, None)
        self._stores.remove(f"{self._store}/{name}" for name in gone)

    def _fresh(self) -> str:
        """Return a name that no layer has had: short, since many have to fit into a mount option."""
        self._last += 1
        return f"{self._last:x}"


def _standing(answer: Mapping[str, Any]) -> Standing:
    return Standing(answer["branch"], answer["snapshot"], answer["keeps"], answer.get("moved"))


def _names(standing: Standing) -> set[str]:
    return {*standing.branch, *standing.snapshot, *standing.keeps}


def _remove(path: str) -> None:
    try:
        layers.remove(path)
    except OSError as cause:
        log.warning("layers_not_removed", path=path, file=cause.filename, why=cause.strerror)


def _remove_unlocked(path: str) -> None:
    """Remove a folder when nobody has it locked: those who have just ended may still be about to let go."""
    until = time.monotonic() + LET_GO_S
    try:
        while (aside := set_aside(path)) is None:
            if time.monotonic() > until or not os.path.lexists(path):
                return
            time.sleep(LET_GO_S / 100)
    except OSError as cause:
        log.warning("layers_not_removed", path=path, file=cause.filename, why=cause.strerror)
        return
    _remove(aside)
