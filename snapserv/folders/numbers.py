"""Inode numbers that files had elsewhere: overlayfs gives them again, out of a file system that is made for it.

Programs know an open file by its inode number: SQLite refuses to write where the name leads to another. A file that
overlayfs has copied keeps the number of the one below, which is named by a file handle in an attribute. So one
layer more lies beneath all others: an empty folder of an EROFS image, in which each number is where it has to be.

Sources: the kernel's Documentation/filesystems/{overlayfs,erofs}.rst, fs/erofs/erofs_fs.h, fs/overlayfs/overlayfs.h
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable

from ..ext import mounts

UUID = bytes.fromhex("736e61707365727600009f1c0f6a4b8e")
ORIGIN = "trusted.overlay.origin"
MOST = 1 << 32
"""File handles of EROFS have numbers below this."""
_MAGIC, _SUPER_AT, _BLOCK_BITS = 0xE0F5E1E2, 1024, 12
_SUPER = struct.Struct("<III B B H Q Q I I I I 16s 16s I 44x")
_INODE = struct.Struct("<H H H H I I I I H H 4x")
_ENTRY = struct.Struct("<Q H B x")
_DATA_BLOCK, _INODES_BLOCK = 1, 2
_FOLDER = 2
_INO32_GEN, _INO64_GEN = 0x01, 0x81
_AT_EMPTY_PATH = 0x1000


@functools.cache
def how() -> int | None:
    """Return of what type the file handles of such an image are on this kernel; None where it does not mount one.

    It is found out by mounting one, in a process with a mount namespace of its own.
    """
    tried = subprocess.run([sys.executable, "-m", __spec__.name], capture_output=True, text=True, check=False)
    return int(tried.stdout) if tried.returncode == 0 else None


def write(path: str, numbers: Iterable[int]) -> None:
    """Make the image of a file system that has files of these numbers, below `MOST`, and an empty folder.

    Raises:
        OSError: It cannot be written.
    """
    taken = set(numbers)
    root = next(number for number in range(1, 1 << 16) if number not in taken)
    entries = _ENTRY.pack(root, 2 * _ENTRY.size, _FOLDER) + _ENTRY.pack(root, 2 * _ENTRY.size + 1, _FOLDER) + b"..."
    blocks = _INODES_BLOCK + (max(taken) * _INODE.size >> _BLOCK_BITS) + 1
    times = (0, 0)
    head = _SUPER.pack(
        *(_MAGIC, 0, 0, _BLOCK_BITS, 0, root, len(taken) + 1, *times, blocks, _INODES_BLOCK, 0, UUID, b"", 0)
    )
    with open(path, "xb") as image:
        image.truncate(max(blocks, _INODES_BLOCK + (root * _INODE.size >> _BLOCK_BITS) + 1) << _BLOCK_BITS)
        _put(image.fileno(), _SUPER_AT, head)
        _put(image.fileno(), _DATA_BLOCK << _BLOCK_BITS, entries)
        _put_inode(image.fileno(), root, stat.S_IFDIR | 0o755, 2, len(entries), _DATA_BLOCK)
        for number in taken:
            _put_inode(image.fileno(), number, stat.S_IFREG | 0o644, 1, 0, 0)


def handle(number: int, kind: int) -> bytes:
    """Return what overlayfs writes of a file that is copied from the one of this number: struct ovl_fb.

    Args:
        number: Below `MOST`.
        kind: Of what type file handles are here, as `how` says.
    """
    file = struct.pack("<III", 0, number, 0) if kind == _INO64_GEN else struct.pack("<II", number, 0)
    return struct.pack("<5B", 0, 0xFB, 5 + len(UUID) + len(file), 0, kind) + UUID + file


def _try() -> int:
    """Mount an image, and return the type of its handles: name_to_handle_at(2).

    Raises:
        OSError: The kernel refuses it.
    """
    with tempfile.TemporaryDirectory() as folder:
        write(f"{folder}/image", [1])
        mounts.unshare(user=False)
        root = mounts.make("erofs", {"source": f"{folder}/image"})
        room = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 8 + 128)
        mount_id = ctypes.c_int()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.name_to_handle_at(root, b"", room, ctypes.byref(mount_id), _AT_EMPTY_PATH) < 0:
            raise OSError(ctypes.get_errno(), "name_to_handle_at")
        kind: int = struct.unpack_from("=Ii", room.raw)[1]
        if kind not in (_INO32_GEN, _INO64_GEN):
            raise OSError(f"file handles of type {kind:#x} are not known")
        return kind


def _put_inode(image: int, number: int, mode: int, links: int, size: int, block: int) -> None:
    inode = _INODE.pack(0, 0, mode, links, size, 0, block, number, 0, 0)
    _put(image, (_INODES_BLOCK << _BLOCK_BITS) + number * _INODE.size, inode)


def _put(image: int, at: int, data: bytes) -> None:
    os.pwrite(image, data, at)


if __name__ == "__main__":
    print(_try())
