"""Simulators that keep files where temporary files go, as other people's do: found by Python, and by C."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from snapserv import Field, Simulation, exported

libc = ctypes.CDLL(None, use_errno=True)
libc.getenv.restype = ctypes.c_char_p
libc.tmpfile.restype = ctypes.c_void_p
libc.fprintf.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
libc.rewind.argtypes = (ctypes.c_void_p,)
libc.fgets.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p)


def kept_pointer() -> int:
    """Return what a C library keeps that asks for TMPDIR once: a pointer, and no copy."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    return int(getenv(b"TMPDIR"))


class Scratch(Simulation):
    """Writes nothing unless it is told to."""

    count = Field("i8")

    def setup(self, what: str = "") -> None:
        self.pointer = kept_pointer()
        self.kept = tempfile.gettempdir()
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        if what:
            getattr(self, f"make_{what}")()

    def step(self, inputs: Any) -> dict[str, Any]:
        self.count[...] += 1
        with tempfile.NamedTemporaryFile() as passing:  # gone before the tick ends
            passing.write(b"x")
        if self.folder is not None:
            path = Path(self.folder.name) / "log"
            path.write_text(f"{path.read_text() if path.exists() else ''}{int(self.count)} ")
            return {"log": path.read_text()}
        return {"count": int(self.count)}

    @exported
    def make_levels(self) -> None:
        """Begin a game whose levels are files that C has named."""
        template = ctypes.create_string_buffer(libc.getenv(b"TMPDIR") + b"/level.XXXXXX")
        self.level = libc.mkstemp(template)
        self.level_path = template.value.decode()
        assert self.level >= 0
        os.write(self.level, b"level 0\n")
        self.nameless = libc.tmpfile()
        libc.fprintf(self.nameless, b"0 ")
        libc.fflush(None)

    @exported
    def play(self, word: str) -> dict[str, str]:
        """Write to all that is open, and return what is in it."""
        os.write(self.level, f"{word}\n".encode())
        libc.fprintf(self.nameless, f"{word} ".encode())
        return self.look()

    @exported
    def look(self) -> dict[str, str]:
        """Return what is in all that is open."""
        line = ctypes.create_string_buffer(1000)
        libc.rewind(self.nameless)
        libc.fgets(line, 1000, self.nameless)
        return {"level": Path(self.level_path).read_text(), "nameless": line.value.decode()}

    @exported
    def make_folder(self) -> None:
        """Make a folder that ends with the object."""
        self.folder = tempfile.TemporaryDirectory(prefix="game-")

    @exported
    def let_go(self) -> None:
        """Let go of that folder, which removes it."""
        self.folder = None

    @exported
    def work_there(self) -> None:
        """Make it the working folder, and write nothing."""
        os.chdir(tempfile.gettempdir())

    @exported
    def write(self, name: str, text: str, kept: bool = False) -> None:
        """Append to a file there, or where it was in setup."""
        with open(os.path.join(self.kept if kept else tempfile.gettempdir(), name), "a") as file:
            file.write(text)

    @exported
    def read(self, name: str) -> str | None:
        """Return what is in a file there."""
        path = Path(tempfile.gettempdir()) / name
        return path.read_text() if path.exists() else None

    @exported
    def write_beside(self, name: str, text: str) -> None:
        """Append to a file in the working folder."""
        with open(name, "a") as file:
            file.write(text)

    @exported
    def clear(self) -> None:
        """Remove all that is there."""
        for name in os.listdir(tempfile.gettempdir()):
            path = os.path.join(tempfile.gettempdir(), name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    @exported
    def places(self) -> dict[str, str]:
        """Return where everybody is told that it is."""
        return {
            "C": libc.getenv(b"TMPDIR").decode(),
            "kept": ctypes.string_at(self.pointer).decode(),
            "environment": os.environ["TMPDIR"],
            "Python": tempfile.gettempdir(),
        }

    @exported
    def standing(self) -> dict[str, Any]:
        """Return what a view of the folder would have cost this process."""
        import sys

        return {
            "namespace": os.readlink("/proc/self/ns/mnt"),
            "mounts": Path("/proc/self/mountinfo").read_text().count("snapserv"),
            "loaded": sorted({"snapserv.folders", "snapserv.ext.mounts"} & {*sys.modules}),
            "mode": oct(os.stat(tempfile.gettempdir()).st_mode & 0o777),
        }


class Named(Scratch):
    """Says itself that the folder is to be branched from the beginning."""

    branch_dirs = ("$TMPDIR",)


class Shared(Scratch):
    """Means its nodes to share what is there."""

    allow = ("temporary_files",)


class Strays(Scratch):
    """Keeps the path of the folder, and writes there later."""

    def step(self, inputs: Any) -> None:
        self.write("stray", "x", kept=True)
