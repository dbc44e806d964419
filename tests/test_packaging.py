"""What is packed is what is needed to build it elsewhere."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

from .conftest import ROOT


def test_the_source_distribution_holds_every_source(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "-e", str(tmp_path), "sdist", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
    )
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        str(path.relative_to(ROOT))
        for folder in ("ext", "snapserv", "examples")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".pyi", ".pyx", ".pxd", ".c", ".h")
    }
    assert sources
    assert sources - names == set()
