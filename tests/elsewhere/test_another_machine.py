"""A snapshot is brought back under another kernel, on another processor, where its libraries are missing or others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from snapserv_client.store import open_store

from ..operations.lives import Lives
from .guest import boot, kernel, missing

TICKS = 25
NEHALEM = "Nehalem"
"""x86-64-v2, and nothing more: it has no AVX, and not even XSAVE."""


@pytest.fixture
def lives(short_path: Path) -> Iterator[Lives]:
    found = Lives(short_path)
    yield found
    found.close()


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_it_goes_on_bit_for_bit_on_another_machine(lives: Lives, tmp_path: Path) -> None:
    how = ("--embed", "--cpu-baseline", "x86-64-v2")
    with lives.begin("tests.simulations.elsewhere:Choosy", options=how) as server:
        main = server.branch("main")
        main.step(5)
        main.save("moved")
        main.step(5)
        wanted = [repr(server.snapshot("moved").branch().step(TICKS).outputs)]
        wanted = []
        branch = server.snapshot("moved").branch()
        for _ in range(TICKS + 1):
            wanted.append(repr(branch.step(1).outputs))
        branch.drop()
    lives.end()
    store = open_store(lives.store)
    image = store.image(store.node("moved").image)
    other = next(file.path for file in image.files if "lib-dynload" in file.path)
    told = {"node": "moved", "inputs": {}, "ticks": TICKS}
    found = boot(tmp_path, Path(__file__).parent / "init.py", told, lives.store, {other}, NEHALEM)
    print(found)
    assert found["outputs"] == wanted[:TICKS]
