"""The page about stores says what is so, and its examples run as they stand, without a server or ZeroMQ."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from snapserv_client.store.format import Recorded

from snapserv.cell.history import STEP, WRITE, History
from snapserv.store.writing import StoreWriter

from ..conftest import ROOT
from . import making

PAGE = ROOT / "docs" / "store.md"


def example(name: str) -> str:
    (code,) = re.findall(rf"<!-- example: {name} -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(code)


@pytest.fixture
def filled(tmp_path: Path) -> StoreWriter:
    writer = StoreWriter(tmp_path / "snapserv" / "store")
    tree = making.tree_of(fields={"heat": (0, "<u2", [30, 40])})
    history = History()
    for _ in range(2):
        history.add(STEP, history.pack({"push": 0.5}), ticks=3)
    history.add(WRITE, history.pack(("heat", None, "x" * (1 << 15))))
    with writer.saving() as saving:
        pieces, rest, _ = saving.put_actions(history.stream(1 << 20)["actions"].tobytes())
        done = Recorded(pieces, rest, count=3)
        pages = making.some_pages(np.random.default_rng(1), 100)
        making.save(saving, tree, "s1", pages, outputs={"reward": 1}, recorded=done)
    return writer


def run(code: str, *given: str, **env: str) -> str:
    """Run a program where there is only the client, without ZeroMQ and without what Linux alone has."""
    absent = "".join(f"sys.modules[{name!r}] = None; " for name in ("zmq", "snapserv", "fcntl", "asyncio"))
    command = [sys.executable, "-P", "-c", f"import sys; {absent}\n{code}", *given]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**env, **_client()})
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def _client() -> dict[str, str]:
    import snapserv_client

    return {"PYTHONPATH": str(Path(snapserv_client.__file__).parents[1]), "PYTHONUTF8": "1"}


def test_the_example_reads_trees_nodes_and_fields(filled: StoreWriter, tmp_path: Path) -> None:
    said = run(example("reading"), XDG_DATA_HOME=str(tmp_path)).splitlines()
    node = filled.store.node("s1")
    total = filled.store.field(node, "heat").sum()
    assert said == ["world {'seed': 7}", "s1 0 {'reward': 1} ['s1']", f"heat uint16 (30, 40) {total}"]


def test_the_format_can_be_read_with_nothing_of_ours(filled: StoreWriter) -> None:
    code = example("plain") + example("done")
    said = run(f"sys.modules['snapserv_client'] = None\n{code}", filled.blobs.url).splitlines()
    first = filled.store.read(filled.store.node("s1"), making.START, 8)
    assert said == [
        *("['s1']", f"{making.START:#x} {first.hex()}"),
        "2 times step 3 False {'push': 0.5}",
        f"1 times write 0 False ['heat', None, '{'x' * (1 << 15)}']",
    ]


def test_the_tables_of_objects_follow_from_the_code() -> None:
    spec = importlib.util.spec_from_file_location("generate_store", ROOT / "docs" / "generate_store.py")
    assert spec
    assert spec.loader
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.page() == PAGE.read_text(), "run: python docs/generate_store.py --write"


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    from snapserv_client.store import framing, packs

    from snapserv.store import collecting, marks

    page = PAGE.read_text()
    for magic in (framing.MAGIC, packs.MAGIC):
        assert magic.hex(" ") in page
    assert (framing.HEADER.size, packs.HEADER.size, packs.FOOTER.size) == (32, 16, 48)
    assert (marks.LEASE_S, marks.TRUSTED_S, marks.REFRESHED_S) == (600, 300, 60)
    assert collecting.GRACE_S == 24 * 3600
