"""Write the synchronous client: the asyncio client without its ``async`` and ``await``.

``make client`` runs it. A test compares what is in the repository with what it writes. What the clients do in
different ways is in modules that each has by hand, under the same names: ``connection.py`` and ``own.py``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import unasync

CLIENTS = Path(__file__).parent / "snapserv_client"
GENERATED = (
    "bisecting.py",
    "blocks.py",
    "branch.py",
    "connecting.py",
    "home.py",
    "node.py",
    "past.py",
    "server.py",
)
GENERATED_OF_CLUSTERS = ("cluster.py", "nodes.py")
HEAD = "# Generated from ../aio/{name} by generate_sync.py: change that one, and run `make client`.\n"


def generate(target: Path, package: Path = CLIENTS, modules: Sequence[str] = GENERATED) -> None:
    """Write the generated modules of a package, which has them under ``aio``, into the folder ``target``."""
    with tempfile.TemporaryDirectory() as work:
        source, result = Path(work, "aio"), Path(work, "sync")
        source.mkdir()
        for name in modules:
            source.joinpath(name).write_text((package / "aio" / name).read_text())
        rule = unasync.Rule("/aio/", "/sync/", {"aio": "sync"})
        unasync.unasync_files([str(source / name) for name in modules], [rule])
        for name in modules:
            text = HEAD.format(name=name) + result.joinpath(name).read_text()
            target.joinpath(name).write_text(formatted(text, package / "sync" / name))


def formatted(text: str, path: Path) -> str:
    """Return a module as ``ruff format`` writes it at ``path``: lines may join, and imports change places."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        words = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"]
        text = subprocess.run(words, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, help="the folder to write to; by default the packages themselves")
    into = parser.parse_args().into
    generate(into or CLIENTS / "sync")
    if into is None:
        generate(CLIENTS / "cluster" / "sync", CLIENTS / "cluster", GENERATED_OF_CLUSTERS)
