"""Write the synchronous client: the asyncio client without its ``async`` and ``await``.

``make client`` runs it. A test compares what is in the repository with what it writes. What the clients do in
different ways is in modules that each has by hand, under the same names: ``connection.py`` and ``own.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

CLIENTS = Path(__file__).parent / "snapserv_client"
GENERATED = ("bisecting.py", "blocks.py", "branch.py", "connecting.py", "home.py", "node.py", "server.py")
HEAD = "# Generated from ../aio/{name} by generate_sync.py: change that one, and run `make client`.\n"


def generate(target: Path) -> None:
    """Write the generated modules into the folder ``target``."""
    with tempfile.TemporaryDirectory() as work:
        source, result = Path(work, "aio"), Path(work, "sync")
        source.mkdir()
        for name in GENERATED:
            source.joinpath(name).write_text((CLIENTS / "aio" / name).read_text())
        rule = unasync.Rule("/aio/", "/sync/")
        unasync.unasync_files([str(source / name) for name in GENERATED], [rule])
        for name in GENERATED:
            text = HEAD.format(name=name) + result.joinpath(name).read_text()
            target.joinpath(name).write_text(formatted(text, CLIENTS / "sync" / name))


def formatted(text: str, path: Path) -> str:
    """Return a module as ``ruff format`` writes it at ``path``: lines that have become shorter may join."""
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=CLIENTS / "sync", help="the folder to write to")
    generate(parser.parse_args().into)
