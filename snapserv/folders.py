"""Folders that belong to the node: each cell sees its own copy-on-write view of them, at the same path.

A view is an overlay in the cell's own mount namespace: a layer that the cell writes, over a stack of layers that
nobody writes any more, over the user's folder, which is never changed. When a branch is snapshotted, the layer that
it wrote becomes one that the snapshot and the branch share, and the branch goes on with a new one. A snapshot needs
no view, since it never runs: it is a list of layers. In a user namespace the snapshot gets a copy of the branch's
layer instead, and where overlayfs is refused, each node has a copy of the folder.

Layers lie in the tree's store, ``LAYER/NUMBER`` for each folder; ``o/NUMBER`` shows the user's folder there. Cells
make layers and say which they stand on; the server (`snapserv.stacks`) removes those that nobody stands on.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from . import layers
from .errors import NotFoundError, OverBudgetError, SimulationError, UnsupportedError
from .ext import mounts
from .open_files import OpenFile, Spares, find, find_shared_mappings, number_of

How = Literal["overlay", "copies"]

MOST_LAYERS = 24
"""A stack longer than this is merged into one layer: its names must fit into the 255 bytes of a mount option."""
ORIGINAL = "o"
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
    """

    branch: list[str]
    snapshot: list[str]
    keeps: list[str]


class Folders:
    """The branched folders of this process. Made by `mount` in the master, inherited by its branches."""

    def __init__(self, paths: Sequence[str], store: str, *, user_namespace: bool) -> None:
        self.how: How = "overlay"
        self.reason = ""
        self._paths = list(paths)
        self._originals = [_identity(path) for path in paths]
        self._store = store
        self._attributes = "user.overlay." if user_namespace else "trusted.overlay."
        self._standing = Standing([], [], [])
        self._files: list[OpenFile] = []
        self._folder_at_work: str | None = None
        self._prepared: _Prepared | None = None
        self._lock = -1

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
            reasons = []
            for store in places if how != "copies" else []:
                self = cls(paths, store, user_namespace=user_namespace)
                try:
                    self._found()
                    self._start(files, at_work)
                except OSError as cause:
                    self.abolish()
                    reasons.append(f"{_base(store)}: {cause.filename or ''}: {cause.strerror}")
                else:
                    where = " in a user namespace" if user_namespace else ""
                    self.reason = f"overlayfs{where}, layers in {_base(store)}"
                    return self
            if how == "overlay" or not places:
                raise UnsupportedError(f"no overlay can be had: {'; '.join(reasons) or 'no place'}", hint=BETTER)
            for store in places:
                self = cls(paths, store, user_namespace=user_namespace)
                self.how = "copies"
                self.reason = f"a copy of each for every node: {'; '.join(reasons) or 'asked for'}"
                try:
                    self._found()
                except OSError as cause:
                    reasons.append(f"{store}: {cause.strerror}")
                    continue
                try:
                    self._start(files, at_work)
                except BaseException:
                    self.abolish()
                    raise
                return self
            raise UnsupportedError(f"there is no place for copies: {'; '.join(reasons)}", hint="set TMPDIR")

    def describe(self) -> dict[str, Any]:
        """Return where the store is, how views are made and why, and what the master stands on."""
        return {
            "store": self._store,
            "how": self.how,
            "reason": self.reason,
            "standing": msgspec.to_builtins(self._standing),
        }

    # ------------------------------------------------------------------------------------------- in each process

    def note(self) -> None:
        """Take down which files are open, for the branches to open again: the last thing before a clone.

        Raises:
            SimulationError: A file is mapped shared, and so cannot be parted; names it.
        """
        self._files = find(self._paths, self._store)
        self._folder_at_work = _working_inside(self._paths)
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
            if self._numbers_last:
                prepared.after = self._build(layer, [own, *lower], flat, prepared)
                self._standing.keeps = prepared.after.keeps  # the snapshot's branches inherit it
            else:
                # The branch keeps what it has, since nothing else would have the same inode numbers. The snapshot
                # gets a copy: of the layer, or of all.
                self._copy(self._paths if self.how == "copies" else self._places(own), layer)
                spares.reopen(self._files, [], self._make_nameless)
                prepared.after = Standing([own, *lower], [layer, *lower], [])
        return prepared.after

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
                layers.remove(f"{self._store}/{name}")

    def begin(self, layer: str, flat: str, lower: Sequence[str]) -> Standing:
        """Give a new branch its view: the first thing in its process.

        Args:
            layer: Name for the layer that this branch writes.
            flat: Name for a layer into which to merge the snapshot's, if there are too many.
            lower: The layers of the snapshot.

        Returns:
            What the branch stands on, and the snapshot, which the merged layer may serve as well.

        Raises:
            OverBudgetError: The disk is full, or there are too many namespaces.
            SimulationError: An open file cannot be opened again.
        """
        # What was prepared when this process was copied is the original's, and its descriptors are closed here.
        prepared = _Prepared(Spares(), [layer, flat])
        self._prepared = None
        with _typed("a view of the branch's folders"):
            mounts.unshare_again()
            if self.how == "copies":
                self._copy(self._places(lower[0]), layer)
                self._show(layer, prepared)
                prepared.after = Standing([layer], list(lower), [])
            else:
                prepared.after = self._build(layer, lower, flat, prepared)
            self._move(prepared)
        return self._standing

    # --------------------------------------------------------------------------------------------- how it is done

    def _found(self) -> None:
        """Make the store, and lock it for as long as any process of this tree lives."""
        base = os.path.dirname(self._store)
        while True:
            os.makedirs(base, 0o700, exist_ok=True)
            if os.lstat(base).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it belongs to another user", base)
            try:
                os.mkdir(self._store, 0o700)
                self._lock = os.open(self._store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # a server that has just ended took the folder away, or one that sweeps did
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if os.path.lexists(self._store):
                return  # never unlocked: the clones of this process hold the lock as well
            os.close(self._lock)

    def _start(self, files: list[OpenFile], at_work: str | None) -> None:
        """Make and show the first layer."""
        prepared = _Prepared(Spares(), [FIRST])
        self._files, self._folder_at_work = files, at_work
        try:
            if self.how == "copies":
                self._copy(self._paths, FIRST)
                self._show(FIRST, prepared)
                prepared.after = Standing([FIRST], [], [])
            else:
                for number, path in enumerate(self._paths):
                    shown = f"{self._store}/{ORIGINAL}/{number}"
                    os.makedirs(shown)
                    mounted = mounts.show(path, read_only=True)
                    try:
                        mounts.attach(mounted, shown)
                    finally:
                        os.close(mounted)
                prepared.after = self._build(FIRST, [], "", prepared)
            self._move(prepared)
        except BaseException:
            prepared.spares.close()
            raise

    def abolish(self) -> None:
        """Take a store away, with the views that stand on it."""
        for number, (path, original) in enumerate(zip(self._paths, self._originals, strict=True)):
            with contextlib.suppress(OSError):
                while _identity(path) != original:
                    mounts.detach(path)
            with contextlib.suppress(OSError):
                mounts.detach(f"{self._store}/{ORIGINAL}/{number}")
                # Only then: it must not be the user's folder that is removed.
        layers.remove(self._store)
        if self._lock >= 0:
            os.close(self._lock)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self._store))

    def _build(self, layer: str, lower: Sequence[str], flat: str, prepared: _Prepared) -> Standing:
        """Make a layer over others, and everything open as it is there; where they are too many, merge them."""
        stack = list(lower)
        keeps = self._origins([*lower, *self._standing.keeps])
        with self._in_store():
            for number in range(len(self._paths)):
                _make_layer(f"{layer}/{number}", f"{[*stack, ORIGINAL][0]}/{number}")
            self._carry(layer, stack)
            if len(stack) > MOST_LAYERS:
                self._flatten(layer, stack, flat)
                stack = [flat]
            prepared.roots = [
                prepared.spares.add(self._overlay(layer, stack, number)) for number in range(len(self._paths))
            ]
        prepared.spares.reopen(self._files, prepared.roots, self._make_nameless)
        return Standing([layer, *stack], stack, keeps)

    @property
    def _numbers_last(self) -> bool:
        """Whether an open file keeps its inode number when its node goes on with a new layer: see `_carry`.

        In a user namespace, overlayfs does not take down whose number a copy has: finding a file by its handle
        needs CAP_DAC_READ_SEARCH outside of it.
        """
        return self.how == "overlay" and self._attributes.startswith("trusted.")

    def _places(self, layer: str) -> list[str]:
        """Return where a layer has each of the folders."""
        return [f"{self._store}/{layer}/{number}" for number in range(len(self._paths))]

    def _overlay(self, layer: str, stack: Sequence[str], number: int) -> int:
        options = {
            "source": "snapserv",
            "lowerdir": ":".join(f"{name}/{number}" for name in (*stack, ORIGINAL)),
            "upperdir": f"{layer}/{number}",
            "workdir": f"{layer}/{number}.work",
            # Layers end with the server, so nothing is to be written to the disk for later. Without this, each
            # unmount would wait for all that is dirty on the file system.
            "volatile": "",
            # What makes a layer depend on more than the names in it would not survive copying and merging.
            "index": "off",
            "metacopy": "off",
            "redirect_dir": "nofollow",
        }
        if self._attributes.startswith("user."):
            options["userxattr"] = ""
        return mounts.overlay(options)

    def _flatten(self, layer: str, stack: Sequence[str], flat: str) -> None:
        """Merge ``stack`` into the layer ``flat``, in the store."""
        origin = f"{self._attributes}origin"
        for number in range(len(self._paths)):
            # The kernel copies what is open for writing while it still sees where each file comes from.
            root = self._overlay(layer, stack, number)
            try:
                written = [file for file in self._files if file.writable and file.path and file.folder == number]
                for file in written:
                    os.close(os.open(str(file.path), file.flags & os.O_ACCMODE | os.O_CLOEXEC, dir_fd=root))
            finally:
                os.close(root)
            layers.remove(f"{layer}/{number}.work")
            os.mkdir(f"{layer}/{number}.work")
            os.makedirs(f"{flat}/{number}")
            layers.merge(
                [f"{name}/{number}" for name in stack],
                f"{flat}/{number}",
                prefix=self._attributes,
                beneath=f"{ORIGINAL}/{number}",
            )
            for file in written:
                with contextlib.suppress(OSError):  # it comes from the user's folder, or from nowhere
                    value = os.getxattr(f"{layer}/{number}/{file.path}", origin)
                    os.setxattr(f"{flat}/{number}/{file.path}", origin, value)

    def _carry(self, layer: str, stack: Sequence[str]) -> None:
        """Have files that are open for writing keep the inode numbers that they had when they were opened.

        Some programs look whether the name still leads to the file that they have open; SQLite refuses to write to
        a database that it does not (SQLITE_READONLY_DBMOVED). A file that overlayfs copies up keeps the number of
        the one below, but not if that is a copy itself. So that is copied here, with the attribute that says whose
        number it has.
        """
        for file in self._files:
            if not (file.writable and file.path):
                continue
            holding = (f"{name}/{file.folder}" for name in stack)
            newest = next((inside for inside in holding if os.path.lexists(f"{inside}/{file.path}")), None)
            if newest and f"{self._attributes}origin" in os.listxattr(f"{newest}/{file.path}"):
                layers.copy_with_parents(newest, file.path, f"{layer}/{file.folder}")

    def _origins(self, names: Sequence[str]) -> list[str]:
        """Return which layers hold the files whose inode numbers those that are open for writing have."""
        found = set()
        for file in self._files:
            if file.writable and file.path:
                number = os.fstat(file.descriptors[0]).st_ino
                for name in names:
                    with contextlib.suppress(OSError):
                        if os.lstat(f"{self._store}/{name}/{file.folder}/{file.path}").st_ino == number:
                            found.add(name)
        return sorted(found)

    def _copy(self, sources: Sequence[str], layer: str) -> None:
        for source, target in zip(sources, self._places(layer), strict=True):
            os.makedirs(target)
            layers.merge([source], target, prefix=self._attributes)

    def _show(self, layer: str, prepared: _Prepared) -> None:
        """Have copies ready to be seen at the folders' paths."""
        prepared.roots = [prepared.spares.add(mounts.show(place)) for place in self._places(layer)]
        prepared.spares.reopen(self._files, prepared.roots, self._make_nameless)

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

    def _make_nameless(self) -> int:
        return os.open(self._store, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)

    @contextlib.contextmanager
    def _in_store(self) -> Iterator[None]:
        """Work in the store, so that the names of layers are short."""
        here = os.open(".", os.O_PATH | os.O_CLOEXEC)
        os.chdir(self._store)
        try:
            yield
        finally:
            os.fchdir(here)
            os.close(here)

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


def bases() -> list[str]:
    """Return the folders in which stores can be, the preferred first."""
    found = []
    for base in (tempfile.gettempdir(), "/var/tmp", "/dev/shm"):
        real = os.path.realpath(base)
        if real not in found and os.access(real, os.W_OK | os.X_OK):
            found.append(real)
    return found


def _make_layer(layer: str, beneath: str) -> None:
    os.makedirs(layer)
    os.mkdir(f"{layer}.work")
    layers.copy_metadata(beneath, layer)


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


def _base(store: str) -> str:
    """Return which of `bases` a store is in."""
    return os.path.dirname(os.path.dirname(store))


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
