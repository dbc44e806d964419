"""Do the same random changes to a branched folder, over many generations, and to a plain one; compare them."""

from __future__ import annotations

import os
import random
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

from snapserv.folders.store import MOST_LAYERS
from snapserv.folders.view import Folders

NAMES = "abc"
GENERATIONS = 4 * MOST_LAYERS
CHANGES = 20


def path(rng: random.Random) -> str:
    return "/".join(rng.choice(NAMES) for _ in range(rng.choice((1, 2, 2, 3, 3, 3, 3, 3))))


def change(root: str, what: str, at: str, other: str, number: int) -> str:
    """Change something, and return what came of it: an error is as good as a result."""
    here, there = f"{root}/{at}", f"{root}/{other}"
    try:
        match what:
            case "write":
                Path(here).write_text(f"{number}\n" * 3)
            case "append":
                with open(here, "a") as file:
                    file.write(f"{number}\n")
            case "unlink":
                os.unlink(here)
            case "mkdir":
                os.makedirs(here)
                os.chmod(here, 0o700 + number % 8)
            case "renew":  # a folder made anew hides what the one before it held
                shutil.rmtree(here)
                os.mkdir(here)
            case "rmtree":
                shutil.rmtree(here)
            case "symlink":
                os.symlink(other, here)
            case "chmod":
                os.chmod(here, 0o600 + number % 64, follow_symlinks=True)
            case "rename" if not os.path.isdir(here):
                os.rename(here, there)
            case "attribute":
                os.setxattr(here, "user.snapserv", str(number).encode())
            case "sparse":
                with open(here, "wb") as file:
                    file.seek(1 << 20)
                    file.write(b"end")
    except OSError as cause:
        return str(cause.errno)
    return ""


def look(root: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            here = f"{folder}/{name}"
            status = os.lstat(here)
            contents: Any = None
            if stat.S_ISREG(status.st_mode):
                contents = Path(here).read_bytes(), status.st_blocks < 2048
            elif stat.S_ISLNK(status.st_mode):
                contents = os.readlink(here)
            own = {
                name: os.getxattr(here, name, follow_symlinks=False)
                for name in os.listxattr(here, follow_symlinks=False)
                if name == "user.snapserv"
            }
            found[os.path.relpath(here, root)] = (status.st_mode, status.st_uid, contents, own)
    return found


def main(seed: int, branched: str, plain: str, store: str) -> None:
    rng = random.Random(seed)
    kinds = ["write", "append", "unlink", "symlink", "chmod", "rename", "attribute", "sparse"]
    kinds += 2 * ["mkdir", "rmtree", "renew"]
    for root in (branched, plain):
        os.makedirs(f"{root}/a/b")
        Path(f"{root}/a/b/c").write_text("at first")
    before = look(branched)
    folders = Folders.mount([branched], [store], how="overlay")
    try:
        for number in range(GENERATIONS):
            for _ in range(CHANGES):
                what, at, other = rng.choice(kinds), path(rng), path(rng)
                results = [change(root, what, at, other, number) for root in (branched, plain)]
                assert results[0] == results[1], (number, what, at, other, results)
            assert look(branched) == look(plain), number
            folders.note()
            folders.prepare(f"{2 * number + 1:x}", f"{2 * number + 2:x}")
            folders.commit()
            assert look(branched) == look(plain), number
    finally:
        folders.abolish()
    assert look(branched) == before
    shutil.rmtree(f"{branched}/a")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
