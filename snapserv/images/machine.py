"""What an image relies on, and whether it is here."""

from __future__ import annotations

import functools
import os
import platform

import xxhash
from snapserv_client.store.format import File, Machine

import snapserv

from ..errors import MachineDiffersError
from ..machine import cpu
from .record import CELLS

_READ_BYTES = 1 << 20


@functools.cache
def this_machine(baseline: str = "") -> Machine:
    """Return what processes on this machine rely on.

    Args:
        baseline: The level of processors that their libraries have been held to since they began; empty for none.
    """
    return Machine(
        architecture=platform.machine(),
        cpu=sorted(cpu.flags_of(baseline) if baseline else cpu.flags()),
        kernel=f"{platform.release()} {platform.version()}",
        libc=" ".join(platform.libc_ver()),
        python=platform.python_version(),
        snapserv=snapserv.__version__,
        cells=CELLS,
        baseline=baseline,
    )


def refuse_other(machine: Machine) -> None:
    """Raise MachineDiffersError where something that an image relies on is not here; says what."""
    here = this_machine()
    differs: dict[str, str] = {}
    if machine.architecture != here.architecture:
        differs["architecture"] = f"it was {machine.architecture}, and is {here.architecture}"
    if lacking := sorted(set(machine.cpu) - set(here.cpu)):
        differs["cpu"] = f"it lacks {', '.join(lacking)}"
    if machine.cells != here.cells:
        differs["snapserv"] = f"it was {machine.snapserv}, and is {here.snapserv}"
    if differs:
        raise MachineDiffersError(
            "the image is of another machine: " + "; ".join(f"{name}: {how}" for name, how in differs.items()),
            hint="load it on a machine like that one; or load --replay, which does its actions again. What a "
            "server with --cpu-baseline has set up needs no more of a processor than that",
            details={"differs": differs},
        )


class Files:
    """Files by path, with a hash of each, which is kept for as long as size and time stay as they are."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int, int], bytes] = {}

    def describe(self, path: str) -> File:
        """Return what there is at a path now.

        Raises:
            OSError: There is nothing that can be read.
        """
        status = os.stat(path)
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if key not in self._known:
            self._known[key] = _hash(path)
        return File(path, status.st_size, status.st_mtime_ns, self._known[key])

    def find_changed(self, files: list[File]) -> list[File]:
        """Return the files that are missing here, or are not what they were; their content is in the store.

        Raises:
            MachineDiffersError: The content of some is not; names each of them.
        """
        changed, differs = [], {}
        for file in files:
            how = self._differs(file)
            if how and file.content:
                changed.append(file)
            elif how:
                differs[file.path] = how
        if differs:
            raise MachineDiffersError(
                "files that the image stands on are not what they were: "
                + "; ".join(f"{path}: {how}" for path, how in differs.items()),
                hint="put them back as they were, or load --replay, which does its actions again; what is saved "
                "with --embed brings its files along",
                details={"differs": {"files": differs}},
            )
        return changed

    def _differs(self, file: File) -> str:
        """Return in what a file is not what it was; empty where it is. One that was only touched is hashed."""
        try:
            status = os.stat(file.path)
            if status.st_size != file.size:
                return f"it was {file.size:,} bytes, and is {status.st_size:,}"
            if status.st_mtime_ns != file.modified_ns and self.describe(file.path).xxh3 != file.xxh3:
                return "its content has changed"
        except OSError as cause:
            return cause.strerror or "missing"
        return ""


def _hash(path: str) -> bytes:
    found = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while data := file.read(_READ_BYTES):
            found.update(data)
    return found.digest()
