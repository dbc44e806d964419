"""Files that an image stands on, put into the store as well: so it comes back where they are missing, or others."""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec
from snapserv_client.store import keys
from snapserv_client.store.format import Descriptor, File, Image

from ..errors import NotPortableError
from ..store.writing import Saving
from .content import NewPages, save_content
from .machine import Files
from .mappings import Obstacle

_KERNELS = ("/proc/", "/sys/")
"""Where files are each process's own, or what the kernel says now."""


class Embedder:
    """Puts files into a store, each content once.

    Args:
        files: Files by path, with a hash of each.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: dict[tuple[int, bytes], bytes] = {}

    def know(self, files: Iterable[File]) -> None:
        """Take note of contents that are in the store already."""
        self._known.update({(file.size, file.xxh3): file.content for file in files if file.content})

    def forget(self) -> None:
        """Count on nothing that is in the store."""
        self._known.clear()

    def embed(self, image: Image, saving: Saving) -> tuple[Image, int]:
        """Write what an image stands on: files that are mapped, and those that are open to be read only.

        Returns:
            The image that names them, and how many bytes were written.

        Raises:
            NotPortableError: A file is not what it was when the image was taken, or cannot be read.
            StoreUnavailableError: It could not be written.
        """
        self.know(image.files)
        with NewPages(saving) as pages:
            files = [file if file.content else self._put(file, pages, saving) for file in image.files]
            descriptors = []
            for descriptor in image.descriptors:
                in_view = image.branched is not None and image.branched.hold(
                    descriptor.path
                )  # it is in their layers
                if not in_view and _is_read_only(descriptor, image.descriptors):
                    file = self._put(self._describe(descriptor.path), pages, saving)
                    descriptor = msgspec.structs.replace(descriptor, content=file.content)
                    if not any(each.path == file.path and each.content == file.content for each in files):
                        files.append(file)
                descriptors.append(descriptor)
        return msgspec.structs.replace(image, files=files, descriptors=descriptors), pages.written_bytes

    def _put(self, file: File, pages: NewPages, saving: Saving) -> File:
        found = self._describe(file.path)
        if (found.size, found.xxh3) != (file.size, file.xxh3):
            raise _refused(file.path, "it is not what it was when the image was taken")
        key = (file.size, file.xxh3)
        content = self._known.get(key)
        if content is None or saving.absent([keys.of_content(keys.BASES, content)]):
            content = self._known[key] = self._save(found, pages, saving)
        return msgspec.structs.replace(file, content=content)

    def _save(self, file: File, pages: NewPages, saving: Saving) -> bytes:
        """Write the content of a file as it was described, or refuse it where it changes meanwhile."""
        try:
            opened = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as cause:
            raise _refused(file.path, str(cause.strerror)) from cause
        try:
            content = save_content(opened, pages, saving)
            status = os.fstat(opened)
        finally:
            os.close(opened)
        if (status.st_size, status.st_mtime_ns) != (file.size, file.modified_ns):
            raise _refused(file.path, "it changed while it was read")
        return content

    def _describe(self, path: str) -> File:
        try:
            return self._files.describe(path)
        except OSError as cause:
            raise _refused(path, str(cause.strerror)) from cause


def _is_read_only(descriptor: Descriptor, every: Iterable[Descriptor]) -> bool:
    """Return whether a descriptor is of a file that the process only reads, and that is not embedded yet."""
    if descriptor.kind != "file" or descriptor.content or descriptor.path.startswith(_KERNELS):
        return False
    beside = [each for each in every if each.kind == "file" and each.path == descriptor.path]
    return descriptor.same_as < 0 and all(each.flags & os.O_ACCMODE == os.O_RDONLY for each in beside)


def _refused(path: str, why: str) -> NotPortableError:
    return NotPortableError(
        f"the content of {path} cannot be put into the store: {why}",
        hint="put it back as it was, or save without embedding files",
        details={"held": [Obstacle("changed_file", path)._asdict()]},
    )
