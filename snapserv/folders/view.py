"""Folders that belong to the node: each cell sees its own copy-on-write view of them, at the same path.

A view is an overlay in the cell's own mount namespace: a layer that the cell writes, over a stack of layers that
nobody writes any more, over the user's folder, which is never changed. When a branch is snapshotted, the layer that
it wrote becomes one that the snapshot and the branch share, and the branch goes on with a new one. A snapshot needs
no view, since it never runs: it is a list of layers. In a user namespace the snapshot gets a copy of the branch's
layer instead, and where overlayfs is refused, each node has a copy of the folder.

Layers lie in the tree's store (`snapserv.folders.store`). Cells make them and say which they stand on; the server
(`snapserv.nodes.stacks`) removes those that nobody stands on.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ..errors import NotFoundError, OverBudgetError, SimulationError, UnsupportedError
from ..ext import mounts
from . import layers, noted
from .noted import Noted, OpenNoted
from .open_files import OpenFile, Spares, find, find_shared_mappings, number_of
from .store import MOST_LAYERS, Store

How = Literal["overlay", "copies"]

FIRST = "0"
HOW_VARIABLE = "SNAPSERV_FOLDERS"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
ALLOW = (
    "run as root with CAP_SYS_ADMIN, or let this user make user namespaces "
    "(sysctl user.max_user_namespaces above 0; on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0)"
)
BETTER = (
    "Linux 5.11 or later, and TMPDIR on ext4, xfs, btrfs or tmpfs; no overlayfs can stand on another as its top"
)


class Standing(msgspec.Struct):
    """What a cell and the snapshot that it came from, or is about to leave, stand on.

    Attributes:
        branch: Layers of the cell, the topmost first.
        snapshot: Layers of the snapshot.
        keeps: Further layers that must not be removed: files in them give open ones their inode numbers.
        moved: Of a snapshot that came out of a store, what its branches are told of where that is; see `begin`.
    """

    branch: list[str]
    snapshot: list[str]
    keeps: list[str]
    moved: dict[str, Any] | None = None


class Folders:
    """The branched folders of this process. Made by `mount` in the master, inherited by its branches."""

    def __init__(self, paths: Sequence[str], store: Store, how: How, reason: str) -> None:
        self.how = how
        self.reason = reason
        self._paths = list(paths)
        self._originals = [_identity(path) for path in paths]
        self._store = store
        self._standing = Standing([], [], [])
        self._files: list[OpenFile] = []
        self._folder_at_work: str | None = None
        self._prepared: _Prepared | None = None

    @classmethod
    def mount(cls, named: Sequence[str], stores: Sequence[str], *, how: str | None = None) -> Folders:
        """Give this process views of the folders ``named``, so that the user's own are never changed.

        Args:
            named: Paths of folders.
            stores: Paths at which a store may be made; the first that overlayfs accepts is used.
            how: ``overlay`` or ``copies``; the better that there is by default.

        Raises:
            NotFoundError: One is no folder.
            SimulationError: One lies in another.
            UnsupportedError: The kernel refuses mounts to this user, or the folder has others inside.
            OverBudgetError: The disk is full.
        """
        paths = _checked(named)
        places = [store for store in stores if number_of(store, paths) is None]
        with _typed(f"a view of {', '.join(paths)}"):
            files, at_work = find(paths, stores[0]), _working_inside(paths)
            user_namespace = _unshare()
            refused: list[str] = []
            for attempt in ("overlay", "copies") if how is None else (how,):
                for place in places:
                    store = Store(place, len(paths), user_namespace=user_namespace)
                    reason = f"overlayfs{' in a user namespace' if user_namespace else ''}, layers in {store.base}"
                    if attempt == "copies":
                        reason = f"a copy of each for every node: {'; '.join(refused) or 'asked for'}"
                    self = cls(paths, store, "copies" if attempt == "copies" else "overlay", reason)
                    try:
                        store.found()
                        self._start(files, at_work)
                    except OSError as cause:
                        self.abolish()
                        if attempt == "copies" and cause.errno in NO_ROOM and place == places[-1]:
                            raise
                        refused.append(f"{store.base}: {cause.filename or ''}: {cause.strerror}")
                    else:
                        return self
            raise UnsupportedError(f"no views can be had: {'; '.join(refused) or 'no place'}", hint=BETTER)

    def describe(self) -> dict[str, Any]:
        """Return where the store is, how views are made and why, and what the master stands on."""
        return {
            "store": self._store.path,
            "how": self.how,
            "reason": self.reason,
            "paths": self._paths,
            "user_namespace": self._store.user_namespace,
            "standing": msgspec.to_builtins(self._standing),
        }

    # ------------------------------------------------------------------------------------------- in each process

    @property
    def standing(self) -> Standing:
        """What this cell stands on, as the server books it."""
        return Standing(self._standing.branch, [], self._standing.keeps)

    def note(self) -> None:
        """Take down which files are open, for the branches to open again: the last thing before a clone.

        Raises:
            SimulationError: A file is mapped shared, and so cannot be parted; names it.
        """
        self._files = find(self._paths, self._store.path)
        self._folder_at_work = _working_inside(self._paths)
        noted.put(self._noted())
        shared = find_shared_mappings(self._paths, self._files)
        if shared:
            raise SimulationError(
                f"{', '.join(shared)} is mapped into memory and written, so its nodes could not be parted",
                hint="unmap it before the step returns; for SQLite, leave WAL: PRAGMA journal_mode=DELETE, "
                "PRAGMA mmap_size=0",
                details={"files": shared},
            )

    def prepare(self, layer: str, flat: str) -> Standing:
        """Get all ready that a snapshot needs and that could fail, and change nothing yet.

        Args:
            layer: Name for the layer that this branch goes on with.
            flat: Name for a layer into which to merge those before, if there are too many.

        Returns:
            What the branch will stand on after `commit`, and the snapshot.

        Raises:
            SimulationError: A file is mapped shared.
            OverBudgetError: The disk or the table of open files is full.
        """
        self.abandon()
        self.note()
        spares = Spares()
        self._prepared = prepared = _Prepared(spares, [layer, flat])
        with self._undoing(), _typed("a snapshot of the branch's folders"):
            own, *lower = self._standing.branch
            if self.how == "overlay" and not self._store.user_namespace:
                prepared.after = self._build(layer, [own, *lower], flat, prepared)
                self._standing.keeps = prepared.after.keeps  # the snapshot's branches inherit it
            else:
                # The branch keeps what it has, since nothing else would have the same inode numbers: in a user
                # namespace, overlayfs does not take down whose number a copy has, since finding a file by its
                # handle needs CAP_DAC_READ_SEARCH outside. The snapshot gets a copy: of the layer, or of all.
                self._store.copy(self._paths if self.how == "copies" else self._store.places(own), layer)
                spares.reopen(self._files, [], self._store.make_nameless)
                prepared.after = Standing([own, *lower], [layer, *lower], [])
        return prepared.after

    @property
    def is_prepared(self) -> bool:
        """Whether all is ready for a snapshot."""
        return self._prepared is not None

    @property
    def spares(self) -> range:
        """Descriptors that are ready for this process, and are nothing to the snapshot."""
        return self._prepared.spares.range if self._prepared else range(0)

    def commit(self) -> None:
        """Go on with what `prepare` made, once there is a snapshot."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            self._move(prepared)

    def abandon(self) -> None:
        """Give up what `prepare` made, because there is no snapshot."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.spares.close()
            for name in prepared.names:
                layers.remove(f"{self._store.path}/{name}")

    def begin(
        self, layer: str, flat: str, lower: Sequence[str], moved: Mapping[str, Any] | None = None
    ) -> Standing:
        """Give a new branch its view: the first thing in its process.

        Args:
            layer: Name for the layer that this branch writes.
            flat: Name for a layer into which to merge the snapshot's, if there are too many.
            lower: The layers of the snapshot.
            moved: Where this process comes out of an image, what is another one here: ``store``, where the layers
                are; ``originals``, device and inode of what lies beneath the views; and ``numbered``, the layer
                that has inode numbers, if any.

        Returns:
            What the branch stands on, and the snapshot, which the merged layer may serve as well.

        Raises:
            OverBudgetError: The disk is full, or there are too many namespaces.
            SimulationError: An open file cannot be opened again.
        """
        # What was prepared when this process was copied is the original's, and its descriptors are closed here.
        prepared = _Prepared(Spares(), [layer, flat])
        self._prepared = None
        if moved is not None:
            self._store.path, self._store.numbered = moved["store"], moved["numbered"]
            self._originals = [(device, inode) for device, inode in moved["originals"]]
        with _typed("a view of the branch's folders"):
            mounts.unshare_again()
            if self.how == "copies":
                self._store.copy(self._store.places(lower[0]), layer)
                self._show(layer, prepared)
                prepared.after = Standing([layer], list(lower), [])
            else:
                prepared.after = self._build(layer, lower, flat, prepared)
            self._move(prepared)
        return self._standing

    def abolish(self) -> None:
        """Take all of it away again, by the process that made it."""
        for path, original in zip(self._paths, self._originals, strict=True):
            with contextlib.suppress(OSError):
                while _identity(path) != original:
                    mounts.detach(path)
        self._store.remove()

    # --------------------------------------------------------------------------------------------- how it is done

    def _start(self, files: list[OpenFile], at_work: str | None) -> None:
        """Make and show the first layer."""
        prepared = _Prepared(Spares(), [FIRST])
        self._files, self._folder_at_work = files, at_work
        try:
            if self.how == "copies":
                self._store.copy(self._paths, FIRST)
                self._show(FIRST, prepared)
                prepared.after = Standing([FIRST], [], [])
            else:
                self._store.show_originals(self._paths)
                prepared.after = self._build(FIRST, [], "", prepared)
            self._move(prepared)
        except BaseException:
            prepared.spares.close()
            raise

    def _noted(self) -> Noted:
        paths = self._paths
        return Noted(
            how=self.how,
            user_namespace=self._store.user_namespace,
            paths=paths,
            files=[
                OpenNoted(
                    file.descriptors,
                    None if file.path is None else f"{paths[file.folder]}/{file.path}",
                    file.number if file.writable and file.path is not None else 0,
                )
                for file in self._files
            ],
            at_work=self._folder_at_work,
        )

    def _build(self, layer: str, lower: Sequence[str], flat: str, prepared: _Prepared) -> Standing:
        """Make a layer over others, and everything open as it is there; where they are too many, merge them."""
        stack, store, files = list(lower), self._store, self._files
        keeps = store.origins(files, [*lower, *self._standing.keeps])
        if store.numbered is not None:
            keeps = sorted({*keeps, store.numbered})
        with store.entered():
            store.make(layer, stack, files)
            if len(stack) > MOST_LAYERS:
                store.flatten(layer, stack, flat, files)
                stack = [flat]
            prepared.roots = [prepared.spares.add(root) for root in store.overlays(layer, stack)]
        prepared.spares.reopen(files, prepared.roots, store.make_nameless)
        return Standing([layer, *stack], stack, keeps)

    def _show(self, layer: str, prepared: _Prepared) -> None:
        """Have copies ready to be seen at the folders' paths."""
        prepared.roots = [prepared.spares.add(mounts.show(place)) for place in self._store.places(layer)]
        prepared.spares.reopen(self._files, prepared.roots, self._store.make_nameless)

    def _move(self, prepared: _Prepared) -> None:
        """See the folders anew, and every open file as it is there."""
        for path, original, root in zip(self._paths, self._originals, prepared.roots, strict=False):
            while _identity(path) != original:
                mounts.detach(path)
            mounts.attach(root, path)
        prepared.spares.take_places()
        if prepared.roots and self._folder_at_work is not None:
            os.chdir(self._folder_at_work)
        self._standing = prepared.after

    @contextlib.contextmanager
    def _undoing(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.abandon()
            raise


class _Prepared:
    """A view that is ready: its mounts, attached nowhere yet, and open files."""

    def __init__(self, spares: Spares, names: list[str]) -> None:
        self.spares = spares
        self.names = names
        self.roots: list[int] = []
        self.after = Standing([], [], [])


def _checked(named: Sequence[str]) -> list[str]:
    paths: list[str] = []
    for name in named:
        path = os.path.realpath(name)
        if not os.path.isdir(path):
            raise NotFoundError(f"no folder {name!r} to branch", hint="make it before the server starts")
        if path not in paths:
            paths.append(path)
    for path in paths:
        others = [other for other in paths if other != path]
        if number_of(path, others) is not None:
            raise SimulationError(
                f"the folder {path} is branched, and one that it lies in", hint="name the outer one"
            )
    with open("/proc/self/mountinfo") as mountinfo:
        for line in mountinfo:
            place = line.split()[4].encode().decode("unicode_escape")
            if number_of(place, paths) is not None and place not in paths:
                raise UnsupportedError(
                    f"{place} is a mount inside of the folder {paths[number_of(place, paths) or 0]}",
                    hint="name folders that have no other mounted in them",
                )
    return paths


def _unshare() -> bool:
    """Leave the server's mount namespace; return whether that took a user namespace as well."""
    try:
        mounts.unshare(user=False)
    except OSError:
        try:
            mounts.unshare(user=True)
        except OSError as cause:
            raise UnsupportedError(
                f"this kernel gives this user no mount namespace: {cause.filename}: {cause.strerror}", hint=ALLOW
            ) from cause
        return True
    return False


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _working_inside(paths: Sequence[str]) -> str | None:
    """Return the working folder, if it lies in one of ``paths``."""
    try:
        folder = os.getcwd()
    except FileNotFoundError:
        return None
    return folder if number_of(folder, paths) is not None else None


@contextlib.contextmanager
def _typed(what: str) -> Iterator[None]:
    """Turn what the kernel refuses into a typed error that says what it was for."""
    try:
        yield
    except OSError as cause:
        place = f"{cause.filename}: " if cause.filename else ""
        message = f"{what} cannot be made: {place}{cause.strerror}"
        details: Mapping[str, Any] = {"errno": cause.errno}
        if cause.errno in NO_ROOM:
            hint = "free space where the layers lie (TMPDIR), raise ulimit -n, or drop nodes"
            raise OverBudgetError(message, hint=hint, details=details) from cause
        raise SimulationError(message, details=details) from cause
