"""A store: where the layers of one tree's folders lie on the disk, and what overlayfs makes of them.

Layers lie in ``LAYER/NUMBER`` for each folder; ``o/NUMBER`` shows the user's folder there, to read. What works on
names of layers works in the store (`Store.entered`), so that they are short.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence

from ..ext import mounts
from ..machine import locked_folders
from . import layers
from .open_files import OpenFile

MOST_LAYERS = 24
"""A stack longer than this is merged into one layer: its names must fit into the 255 bytes of a mount option."""
ORIGINAL = "o"
NUMBERS, IMAGE = "e", ".image"
"""Where in a layer a file system is mounted that has inode numbers, and what its image is called besides."""


class Store:
    """Layers of ``count`` folders, at ``path``, where there is nothing yet.

    Args:
        path: In a folder of `bases`, and there in one for all stores of this user.
        count: How many folders there are.
        user_namespace: Whether overlays are mounted in a user namespace.
    """

    def __init__(self, path: str, count: int, *, user_namespace: bool) -> None:
        self.path = path
        self.base = os.path.dirname(os.path.dirname(path))
        self.user_namespace = user_namespace
        self.numbered: str | None = None
        self._count = count
        self._prefix = "user.overlay." if user_namespace else "trusted.overlay."
        self._held: int | None = None

    def found(self) -> None:
        """Make the store, and have it locked for as long as any process of this tree lives."""
        self._held = locked_folders.found(self.path)

    def remove(self) -> None:
        """Take it away, by the process that made it; nothing if it could not be made."""
        if self._held is None:
            return
        for shown in self.places(ORIGINAL):
            with contextlib.suppress(OSError):
                mounts.detach(shown)
        # Should one still show the user's folder: it does so to read, and what removes meets an error.
        layers.remove(self.path)
        locked_folders.give_up(self._held)
        self._held = None
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self.path))

    def show_originals(self, paths: Sequence[str]) -> None:
        """Have the user's folders where overlays find them when their own paths show something else."""
        for path, shown in zip(paths, self.places(ORIGINAL), strict=True):
            os.makedirs(shown)
            mounted = mounts.show(path, read_only=True)
            try:
                mounts.attach(mounted, shown)
            finally:
                os.close(mounted)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Work in here."""
        here = os.open(".", os.O_PATH | os.O_CLOEXEC)
        os.chdir(self.path)
        try:
            yield
        finally:
            os.fchdir(here)
            os.close(here)

    def places(self, layer: str) -> list[str]:
        """Return where a layer has each of the folders."""
        return [f"{self.path}/{layer}/{number}" for number in range(self._count)]

    def copy(self, sources: Sequence[str], layer: str) -> None:
        """Make a layer that is a copy of folders, or of another layer."""
        for source, target in zip(sources, self.places(layer), strict=True):
            os.makedirs(target)
            layers.merge([source], target, prefix=self._prefix)

    def make_nameless(self) -> int:
        """Return a new file that has no name, open for reading and writing."""
        return os.open(self.path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)

    # ---------------------------------------------------------------------------------------------- with overlayfs

    def make(self, layer: str, stack: Sequence[str], files: Sequence[OpenFile]) -> None:
        """Make an empty layer over others, in which files that are open keep their inode numbers."""
        for number in range(self._count):
            os.makedirs(f"{layer}/{number}")
            os.mkdir(f"{layer}/{number}.work")
            layers.copy_metadata(f"{[*stack, ORIGINAL][0]}/{number}", f"{layer}/{number}")
        self._carry(layer, stack, files)

    def overlays(self, layer: str, stack: Sequence[str]) -> list[int]:
        """Mount each folder, written into ``layer``, where no path leads to; return descriptors of them."""
        made: list[int] = []
        try:
            for number in range(self._count):
                made.append(self._overlay(layer, stack, number))
        except BaseException:
            for root in made:
                os.close(root)
            raise
        return made

    def flatten(self, layer: str, stack: Sequence[str], flat: str, files: Sequence[OpenFile]) -> None:
        """Merge ``stack``, on which the empty ``layer`` stands, into the layer ``flat``."""
        origin = f"{self._prefix}origin"
        for number in range(self._count):
            # The kernel copies what is open for writing while it still sees where each file comes from.
            root = self._overlay(layer, stack, number)
            try:
                written = [file for file in files if file.writable and file.path and file.folder == number]
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
                prefix=self._prefix,
                beneath=f"{ORIGINAL}/{number}",
            )
            for file in written:
                with contextlib.suppress(OSError):  # it comes from the user's folder, or from nowhere
                    value = os.getxattr(f"{layer}/{number}/{file.path}", origin)
                    os.setxattr(f"{flat}/{number}/{file.path}", origin, value)

    def origins(self, files: Sequence[OpenFile], names: Sequence[str]) -> list[str]:
        """Return which layers hold the files whose inode numbers those that are open for writing have."""
        found = set()
        for file in files:
            if file.writable and file.path:
                for name in names:
                    with contextlib.suppress(OSError):
                        if os.lstat(f"{self.path}/{name}/{file.folder}/{file.path}").st_ino == file.number:
                            found.add(name)
        return sorted(found)

    def _carry(self, layer: str, stack: Sequence[str], files: Sequence[OpenFile]) -> None:
        """Have files that are open for writing keep the inode numbers that they had when they were opened.

        Some programs look whether the name still leads to the file that they have open; SQLite refuses to write to
        a database that it does not (SQLITE_READONLY_DBMOVED). A file that overlayfs copies up keeps the number of
        the one below, but not if that is a copy itself. So that is copied here, with the attribute that says whose
        number it has.
        """
        for file in files:
            if not (file.writable and file.path):
                continue
            holding = (f"{name}/{file.folder}" for name in stack)
            newest = next((inside for inside in holding if os.path.lexists(f"{inside}/{file.path}")), None)
            if newest and f"{self._prefix}origin" in os.listxattr(f"{newest}/{file.path}"):
                layers.copy_with_parents(newest, file.path, f"{layer}/{file.folder}")

    def _overlay(self, layer: str, stack: Sequence[str], number: int) -> int:
        options = overlay_options(layer, stack, number, user_namespace=self.user_namespace, numbered=self.numbered)
        return mounts.make("overlay", options)


def overlay_options(
    layer: str, stack: Sequence[str], number: int, *, user_namespace: bool, numbered: str | None = None
) -> dict[str, str]:
    """Return what makes an overlay of layers; an empty value for a flag. Paths are as seen from the store.

    ``numbered`` is the layer in which inode numbers of files are shown that were elsewhere before, if some were.
    """
    lowest = [f"{numbered}/{NUMBERS}"] if numbered is not None else []
    options = {
        "source": "snapserv",
        "lowerdir": ":".join([*(f"{name}/{number}" for name in (*stack, ORIGINAL)), *lowest]),
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
    if user_namespace:
        options["userxattr"] = ""
    return options


def bases() -> list[str]:
    """Return the folders in which stores can be, the preferred first."""
    found = []
    for base in (tempfile.gettempdir(), "/var/tmp", "/dev/shm"):
        real = os.path.realpath(base)
        if real not in found and os.access(real, os.W_OK | os.X_OK):
            found.append(real)
    return found
