"""Layers as archives: what comes out is what went in, the same bytes each time."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from snapserv.folders import archiving, numbers

from ..conftest import ROOT


def packed(*folders: Path) -> bytes:
    file = io.BytesIO()
    archiving.pack([str(folder) for folder in folders], file)
    return file.getvalue()


def seen(folder: Path) -> dict[str, Any]:
    """Return all that can be told of what is in a folder, by path."""
    found: dict[str, Any] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        found[str(path.relative_to(folder))] = (
            status.st_mode,
            (status.st_uid, status.st_gid, status.st_nlink if path.is_file() else 0),
            (status.st_mtime_ns, status.st_rdev),
            os.readlink(path) if path.is_symlink() else "",
            path.read_bytes() if stat.S_ISREG(status.st_mode) else b"",
            {name: os.getxattr(path, name, follow_symlinks=False) for name in names_of(path)},
        )
    return found


def names_of(path: Path) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A layer with one of each kind of file that a layer can have."""
    made = tmp_path / "layer"
    (made / "empty").mkdir(parents=True)
    (made / "deep" / "er").mkdir(parents=True)
    (made / "deep" / "er" / "file").write_bytes(os.urandom(5000))
    (made / "nothing").touch()
    (made / "name with\nnewline and ümlaut").write_text("x")
    os.close(os.open(os.fsencode(made) + b"/not-utf8-\xff", os.O_CREAT | os.O_WRONLY))
    (made / "link").symlink_to("../elsewhere")
    (made / "twin").write_text("one file")
    os.link(made / "twin", made / "deep" / "twin")
    os.mkfifo(made / "fifo")
    with (made / "hollow").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
    (made / "locked").write_text("nobody may write")
    (made / "locked").chmod(0o440)
    (made / "set").write_text("")
    (made / "set").chmod(0o4750)
    os.utime(made / "deep", ns=(1, 1234567890123456789))
    if os.geteuid() == 0:
        os.mknod(made / "gone", stat.S_IFCHR | 0o600, os.makedev(0, 0))
        os.chown(made / "nothing", 12345, 54321)
        os.setxattr(made / "empty", "trusted.overlay.opaque", b"y")
        os.setxattr(made / "deep" / "er" / "file", "trusted.overlay.origin", b"\x00\xfb\x1d")
    os.setxattr(made / "twin", "user.note", b"\x00\xff\xfe binary")
    (made / "deep" / "er").chmod(0o500)
    return made


def test_what_was_packed_is_unpacked_as_it_was(layer: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    archiving.unpack(io.BytesIO(packed(layer, tmp_path / "second")), str(out))
    if os.geteuid() == 0:
        os.removexattr(layer / "deep" / "er" / "file", "trusted.overlay.origin")  # of this disk alone
    assert seen(out / "0") == seen(layer)
    assert seen(out / "1").keys() == {"."}
    assert (out / "0" / "hollow").stat().st_blocks < 100


def test_the_same_folder_gives_the_same_bytes(layer: Path) -> None:
    assert packed(layer) == packed(layer)


@pytest.mark.parametrize("name", ["/absolute", "0/../../outside"])
def test_an_entry_that_lies_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    file.seek(0)
    with pytest.raises(tarfile.TarError, match="elsewhere"):
        archiving.unpack(file, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wanted", [[1], [2], [12, 4096, 2_500_001], [255, 256, (1 << 24) + 7]])
def test_files_have_the_inode_numbers_that_they_had(wanted: list[int], tmp_path: Path) -> None:
    """In a process of its own, since it takes a mount namespace."""
    if (kind := numbers.how()) is None:
        pytest.skip("this kernel mounts no EROFS image from a file")
    for name in ("lower", "upper", "work", "numbers"):
        (tmp_path / name).mkdir()
    numbers.write(str(tmp_path / "image"), wanted)
    for number in wanted:
        (tmp_path / "upper" / str(number)).write_text("written")
        os.setxattr(tmp_path / "upper" / str(number), numbers.ORIGIN, numbers.handle(number, kind))
    script = f"""
import os
from snapserv.ext import mounts
os.chdir({str(tmp_path)!r})
mounts.unshare(user=False)
mounts.attach(mounts.make("erofs", {{"source": "image"}}), "numbers")
options = {{"lowerdir": "lower:numbers", "upperdir": "upper", "workdir": "work", "index": "off"}}
root = mounts.make("overlay", options)
os.chdir(root)
for name in os.listdir("."):
    with open(name, "a") as file:
        file.write(" again")
    print(name, os.stat(name).st_ino)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    found = dict(line.split() for line in ended.stdout.splitlines())
    assert found == {str(number): str(number) for number in wanted}
