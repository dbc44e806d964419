"""``reflink``: a region is a file of btrfs or XFS, and a snapshot is another file that shares its blocks.

FICLONE (ioctl_ficlonerange(2)) makes a file that has the same blocks on disk as another, until one of them is
written. Both are mapped, and so memory seems to be copied on write as well; but the page cache belongs to the file
and not to the blocks, so each file that is read has pages of its own: reflinks save disk, and no memory.

Where no folder of such a file system is named (SNAPSERV_REFLINK_DIR), root makes one: a file without a name, a loop
device that lets go of itself (LO_FLAGS_AUTOCLEAR), and a mount that no path leads to. Nothing of it outlives the
last descriptor, whatever becomes of the process.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np

from snapserv.errors import OverBudgetError, UnsupportedError
from snapserv.ext import volumes

from .base import Bytes, Mechanism, Place, Region, Snapshot

FOLDER_VARIABLE = "SNAPSERV_REFLINK_DIR"
VOLUME_BYTES = 64 << 30
"""Of the volume that is made: a sparse file, which takes what is written."""
MAKE_WITHIN_S = 60

FICLONE = 0x40049409
LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LO_FLAGS_AUTOCLEAR = 4
LOOP_CONFIG = struct.Struct("=II" + "QQQQQIIII64s64s32sQQ" + "64s")
"""struct loop_config of linux/loop.h: the file and the block size, struct loop_info64, and what is reserved."""


class Reflink(Mechanism):
    """Files that share blocks, on btrfs."""

    name = "reflink"
    summary = "FICLONE of a mapped file: shares disk blocks, and no page cache"
    copies_of_copies = True
    shares_pages = False
    needs = f"btrfs or XFS: a folder of it ({FOLDER_VARIABLE}), or root with loop devices and mkfs"
    file_system: ClassVar[str] = "btrfs"
    make_it: ClassVar[tuple[str, ...]] = ("mkfs.btrfs", "-q", "-f")

    @classmethod
    def why_not(cls) -> str:
        """Say what is missing."""
        if os.environ.get(FOLDER_VARIABLE):
            return ""
        if os.geteuid() != 0:
            return f"only root may mount, and {FOLDER_VARIABLE} names no folder"
        if shutil.which(cls.make_it[0]) is None:
            return f"{cls.make_it[0]} is not installed"
        if not Path("/dev/loop-control").exists():
            return "there are no loop devices"
        known = Path("/proc/filesystems").read_text().split()
        return "" if cls.file_system in known else f"the kernel has no {cls.file_system}"

    @classmethod
    def make(cls, size: int) -> Region:
        """Return a region on a volume of its own, or on the folder that the environment names."""
        mapped = cls.admit(size)
        return ReflinkRegion(_File(_volume(cls), size, mapped))


class ReflinkXfs(Reflink):
    """Files that share blocks, on XFS."""

    name = "reflink_xfs"
    file_system = "xfs"
    make_it = ("mkfs.xfs", "-q", "-f", "-m", "reflink=1")


class _Volume:
    """A folder whose files can share blocks. It is gone when nobody has a file of it any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


def _volume(mechanism: type[Reflink]) -> _Volume:
    folder = os.environ.get(FOLDER_VARIABLE)
    try:
        if folder:
            return _Volume(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        return _Volume(_make_volume(mechanism))
    except OSError as cause:
        raise UnsupportedError(
            f"no {mechanism.file_system}: {cause}", hint=f"it needs {mechanism.needs}"
        ) from cause


def _make_volume(mechanism: type[Reflink]) -> int:
    """Return a descriptor of the root of a new file system that lies in a file without a name."""
    with tempfile.TemporaryFile() as image:
        os.ftruncate(image.fileno(), VOLUME_BYTES)
        command = [*mechanism.make_it, f"/proc/{os.getpid()}/fd/{image.fileno()}"]
        made = subprocess.run(command, capture_output=True, text=True, timeout=MAKE_WITHIN_S, check=False)
        if made.returncode != 0:
            raise OSError(errno.EIO, made.stderr.strip(), mechanism.make_it[0])
        with _loop_device(image.fileno()) as device:
            return volumes.mount_detached(mechanism.file_system, device)


@contextmanager
def _loop_device(image: int) -> Iterator[str]:
    """Yield the path of a loop device on a file; it lets go of the file when nobody has it open or mounted."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            path = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                info = (0, 0, 0, 0, 0, 0, 0, 0, LO_FLAGS_AUTOCLEAR, b"snapserv", b"", b"", 0, 0)
                try:
                    fcntl.ioctl(device, LOOP_CONFIGURE, LOOP_CONFIG.pack(image, 0, *info, b""))
                except OSError as cause:
                    if cause.errno == errno.EBUSY:
                        continue  # somebody else was quicker
                    raise
                yield path
                return
            finally:
                os.close(device)
    finally:
        os.close(control)


class _File:
    """A mapped file without a name. It is mapped when it is first looked at."""

    def __init__(self, volume: _Volume, size: int, mapped: int) -> None:
        self.volume = volume
        self.size = size
        self.mapped = mapped
        self._map: mmap.mmap | None = None
        self._array: Bytes | None = None
        with _typed():
            self.descriptor = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=volume.descriptor)
            os.ftruncate(self.descriptor, mapped)

    @property
    def array(self) -> Bytes:
        if self._array is None:
            self._map = mmap.mmap(self.descriptor, self.mapped)
            self._array = np.frombuffer(self._map, np.uint8)[: self.size]
        return self._array

    @property
    def address(self) -> int:
        return self.array.ctypes.data

    def take(self, other: _File) -> None:
        """Have the blocks of another file. The kernel writes what is dirty of both to disk first."""
        with _typed():
            fcntl.ioctl(self.descriptor, FICLONE, other.descriptor)

    def duplicate(self) -> _File:
        file = _File(self.volume, self.size, self.mapped)
        try:
            file.take(self)
        except BaseException:
            file.release()
            raise
        return file

    def disk_bytes(self) -> int:
        """Return how much disk the file refers to, shared or not (stat(2))."""
        return os.fstat(self.descriptor).st_blocks * 512

    def release(self) -> None:
        self._array = None
        if self._map is not None:
            self._map.close()
        os.close(self.descriptor)
        del self.volume


@contextmanager
def _typed() -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        if cause.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL):
            raise UnsupportedError(
                f"the file system cannot share blocks: {cause.strerror}", hint="name a folder of btrfs or XFS"
            ) from cause
        raise OverBudgetError(f"the volume has no room: {cause.strerror}", hint="close snapshots") from cause


class ReflinkRegion(Region):
    """A live region."""

    def __init__(self, file: _File) -> None:
        super().__init__(file.size)
        self._file = file

    @property
    def place(self) -> Place:
        """Where the bytes are."""
        return Place(0, self._file.address)

    @property
    def array(self) -> Bytes:
        """The bytes."""
        return self._file.array

    def snapshot(self) -> ReflinkSnapshot:
        """Make a file that shares the blocks."""
        self._check(0, 0)
        return ReflinkSnapshot(self, self._file.duplicate())

    def restore(self, snapshot: Snapshot) -> None:
        """Have the snapshot's blocks again."""
        self._check_own(snapshot)
        assert isinstance(snapshot, ReflinkSnapshot)
        self._file.take(snapshot.file)

    def volume_bytes(self) -> int:
        """Return how much of the volume is taken by all, once what is written lies on it (statvfs(3))."""
        volumes.sync(self._file.descriptor)
        taken = os.fstatvfs(self._file.volume.descriptor)
        return (taken.f_blocks - taken.f_bfree) * taken.f_frsize

    def _release(self) -> None:
        self._file.release()


class ReflinkSnapshot(Snapshot):
    """A file that nobody writes."""

    def __init__(self, origin: ReflinkRegion, file: _File) -> None:
        super().__init__(origin)
        self.file = file

    @property
    def place(self) -> Place:
        """Where the bytes are."""
        return Place(0, self.file.address)

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of some bytes."""
        self._check(offset, size)
        return self.file.array[offset : offset + size].tobytes()

    def copy(self) -> ReflinkRegion:
        """Make another file that shares the blocks."""
        self._check(0, 0)
        return ReflinkRegion(self.file.duplicate())

    def _release(self) -> None:
        self.file.release()
