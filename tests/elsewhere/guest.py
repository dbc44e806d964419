"""Another machine: a kernel of its own and another processor, emulated by QEMU, with a small root file system.

It has what a server of ours needs and nothing else, at the paths of this machine. QEMU translates its code (TCG):
no KVM is needed, and its processor can only what it is said to.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).resolve().parents[2]
KERNEL_VARIABLE = "SNAPSERV_TEST_KERNEL"
PACKAGES = (
    *("numpy", "numpy.libs", "zmq", "pyzmq.libs", "msgpack", "msgspec", "structlog", "uvloop", "xxhash"),
    *("zstandard", "cloudpickle", "typing_extensions.py"),
)
"""What a server imports."""
UNUSED = {
    *("test", "tests", "idlelib", "tkinter", "lib2to3", "ensurepip", "turtledemo", "site-packages", "__pycache__"),
    *("pydoc_data", "distutils", "unittest", "f2py", "sqlite3", "curses", "dbm", "wsgiref"),
}
LINKER = "/lib64/ld-linux-x86-64.so.2"
BEGIN, END = "<<RESULT ", " RESULT>>"
MEMORY_MIB = 1536
BOOTED_WITHIN_S = 200.0


def kernel() -> Path | None:
    """Return a kernel to boot: that of the environment, or one in /boot."""
    named = os.environ.get(KERNEL_VARIABLE)
    found = [Path(named)] if named else sorted(Path("/boot").glob("vmlinuz-*"))
    return next((path for path in reversed(found) if os.access(path, os.R_OK)), None)


def missing() -> str:
    """Return why no guest can be booted here; empty where it can."""
    if os.uname().machine != "x86_64":
        return "images are of x86-64"
    if shutil.which("qemu-system-x86_64") is None:
        return "no qemu-system-x86_64"
    return "" if kernel() else f"no kernel in /boot, nor in {KERNEL_VARIABLE}"


def boot(folder: Path, init: Path, told: Mapping[str, Any], store: Path, differing: set[str], cpu: str) -> Any:
    """Boot the other machine, and return what its first process found.

    Args:
        folder: A folder for files.
        init: The program that is its first process.
        told: What that is told.
        store: A store's folder, which is /store there.
        differing: Files that have a byte more there.
        cpu: Its processor, as QEMU calls it.

    Raises:
        AssertionError: It found nothing; says what was on its console.
    """
    image = folder / "initramfs"
    with image.open("wb") as file:
        archive = Archive(file)
        path = [str(ROOT), str(ROOT / "clients" / "python"), _packages()]
        _fill(archive, init, {**told, "path": path}, differing)
        for each in [store, *sorted(store.rglob("*"))]:
            archive.add(each, at=os.path.normpath(f"/store/{each.relative_to(store)}"), mode=0o700)
        archive.close()
    command = [
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=256", "-smp", "2", "-cpu", cpu),
        *("-m", str(MEMORY_MIB), "-kernel", str(kernel()), "-initrd", str(image), "-nic", "none", "-no-reboot"),
        *("-display", "none", "-monitor", "none", "-serial", "stdio"),
        *("-append", "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off rdinit=/init"),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=BOOTED_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"it is not done yet: {(late.stdout or b'').decode(errors='replace')}") from late
    finally:
        image.unlink()
    console = (done.stdout + done.stderr).decode(errors="replace")
    found = re.search(re.escape(BEGIN) + "(.*)" + re.escape(END), console, re.DOTALL)
    assert found, console
    return json.loads(found[1].replace("\r\n", ""))


class Archive:
    """A cpio archive, as the kernel unpacks it into its first file system (initramfs-buffer-format)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._there: set[str] = set()

    def add(self, path: Path, *, at: str | None = None, more: bytes = b"", mode: int | None = None) -> None:
        """Add a file, a folder or a link, and the folders that it is in."""
        where = at or str(path)
        status = path.lstat()
        kind, permissions = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(kind):
            content = os.readlink(path).encode()
        elif stat.S_ISREG(kind):
            content = path.read_bytes() + more
            permissions = permissions if mode is None else mode & 0o600
        elif stat.S_ISDIR(kind):
            content, permissions = b"", permissions if mode is None else mode
        else:
            return
        self.put(where, content, kind | permissions, int(status.st_mtime))

    def put(
        self,
        where: str,
        content: bytes,
        mode: int = stat.S_IFREG | 0o644,
        modified: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        """Add an entry, if there is none of that path."""
        if where in self._there:
            return
        parent = os.path.dirname(where)
        if parent != "/":
            self.put(parent, b"", stat.S_IFDIR | 0o755)
        self._there.add(where)
        name = where.lstrip("/").encode() + b"\0"
        numbers = (len(self._there), mode, 0, 0, 1, modified, len(content), 0, 0, *device, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name
        self._file.write(head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4))

    def close(self) -> None:
        """Write the end."""
        self.put("/TRAILER!!!", b"", 0)


def _packages() -> str:
    return sysconfig.get_paths()["purelib"]


def _fill(archive: Archive, init: Path, told: Mapping[str, Any], differing: set[str]) -> None:
    """Add a system that runs Python, with what a server needs."""
    for name in ("/lib", "/lib64", "/usr/lib64", "/bin"):
        if os.path.islink(name):
            archive.add(Path(name))
    archive.add(Path(os.path.realpath(os.path.dirname(LINKER))) / os.path.basename(LINKER))
    for path in _mapped():
        for each in (path, *(beside for beside in path.parent.iterdir() if beside.is_symlink())):
            if each == path or each.resolve() == path:
                archive.add(each, more=b"\0" if str(each) in differing else b"")
    python = os.path.realpath(sys.executable)
    archive.add(Path(python))
    folders = [Path(sysconfig.get_paths()["stdlib"]), *(Path(_packages()) / name for name in PACKAGES)]
    for folder in (*folders, ROOT / "snapserv", ROOT / "clients" / "python" / "snapserv_client"):
        for path in _files(folder):
            archive.add(path, more=b"\0" if str(path) in differing else b"")
            if path.suffix == ".py":
                archive.put(importlib.util.cache_from_source(str(path)), _compiled(path))
    archive.put("/init", f"#!{python} -P\n{init.read_text()}".encode(), stat.S_IFREG | 0o755)
    # Python takes random numbers before anything is mounted.
    archive.put("/dev/urandom", b"", stat.S_IFCHR | 0o666, device=(1, 9))
    archive.put("/told.json", json.dumps(told).encode())


def _mapped() -> list[Path]:
    """Return the libraries that a Python with all that a server imports has mapped."""
    program = (
        "import ctypes, ssl, zlib, bz2, lzma, uuid, zstandard, snapserv.server.server\n"
        "print(open('/proc/self/maps').read())"
    )
    maps = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True)
    found = {line.split()[-1] for line in maps.stdout.splitlines() if " /" in line}
    return sorted(Path(path) for path in found if os.path.isfile(path))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in UNUSED and not name.startswith("config-")]
        yield from (Path(where) / name for name in names)


def _compiled(path: Path) -> bytes:
    """Return what Python would cache of a module: compiling it there would take longer than all else."""
    status, cached = path.stat(), Path(importlib.util.cache_from_source(str(path)))
    head = (
        importlib.util.MAGIC_NUMBER
        + bytes(4)
        + (int(status.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        + (status.st_size & 0xFFFFFFFF).to_bytes(4, "little")
    )
    if cached.is_file() and (there := cached.read_bytes()).startswith(head):
        return there
    try:
        return head + marshal.dumps(compile(path.read_bytes(), str(path), "exec", dont_inherit=True))
    except SyntaxError:  # what is there to be read by other tools
        return b""
