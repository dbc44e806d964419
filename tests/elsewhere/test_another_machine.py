"""A snapshot comes back under another kernel, on another processor, where its libraries are missing or others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from snapserv_client.store import open_store

from ..operations.lives import Lives
from .guest import boot, missing

TICKS = 25
LATER = 5
NEHALEM = "Nehalem"
"""x86-64-v2 and nothing beyond: it has no AVX, and not even XSAVE."""


@pytest.fixture
def lives(short_path: Path) -> Iterator[Lives]:
    found = Lives(short_path)
    yield found
    found.close()


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.timeout(300)  # translated code is slow, and machines are busy
def test_it_goes_on_bit_for_bit_on_another_machine(lives: Lives, tmp_path: Path) -> None:
    how = ("--durable", "none", "--embed", "--cpu-baseline", "x86-64-v2")
    with lives.begin("tests.simulations.elsewhere:Choosy", options=how) as server:
        main = server.branch("main")
        main.step(3)
        assert main.save("moved").saved[0].embedded
        uninterrupted = server.snapshot("moved").branch()
        wanted = [repr(uninterrupted.step(1).outputs) for _ in range(TICKS + LATER)]
        main.step(LATER)
        main.save("later")
    lives.end()
    store = open_store(lives.store)
    image = store.image(store.node("moved").image)
    assert image.machine.baseline == "x86-64-v2"
    paths = [file.path for file in image.files]
    other = next(path for path in paths if "lib-dynload" in path)
    hidden = next(path for path in paths if "_Box2D" in path)

    told = {"node": "moved", "ticks": TICKS}
    found = boot(tmp_path, Path(__file__).parent / "init.py", told, lives.store, {other}, NEHALEM)

    assert found.get("outputs") == wanted[:TICKS], found
    assert found["main"] == wanted[LATER : LATER + TICKS]
    assert found["again"] == wanted[TICKS]
    assert found["kernel"] != os.uname().release
    lines = [json.loads(line) for line in found["log"] if "files_from_store" in line]
    assert [set(line["files"]) for line in lines] == [{other, hidden}]  # said once, though two came back
    contents = {file.path: file.content.hex() for file in image.files}
    assert {name.partition(" ")[0].rpartition("-")[2] for name in found["mapped"]} == {
        *(contents[path] for path in (other, hidden))
    }
    assert found["ended"] == 0
