"""The mechanism ``ksm``: ksmd's settings are put back, and merging is proven by page numbers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from snapserv.ext import memory
from snapserv.mechanisms.ksm import KSM, STATE, WANTED, Ksm, KsmRegion
from snapserv.outside.pages import SAME, compare, numbers_are_told

from ..conftest import ROOT, one_at_a_time
from ..processes import forked

pytestmark = pytest.mark.skipif(bool(Ksm.why_not()), reason=Ksm.why_not())
PAGE = memory.PAGE
SIZE = 256 * PAGE


def settings() -> dict[str, str]:
    return {name: (KSM / name).read_text().strip() for name in WANTED}


@pytest.fixture(autouse=True)
def unchanged() -> object:
    """Whatever a test does, ksmd's settings are afterwards what they were."""
    with one_at_a_time("ksm"):
        before = settings()
        yield
        assert settings() == before
        assert not STATE.exists()


def test_ksmd_is_driven_while_there_is_a_region_and_no_longer() -> None:
    before = settings()
    with Ksm.make(SIZE) as region:
        assert settings() == WANTED
        with region.snapshot(), Ksm.make(SIZE):
            assert settings() == WANTED
        assert settings() == WANTED
    assert settings() == before


def test_an_exception_puts_the_settings_back() -> None:
    with pytest.raises(ZeroDivisionError), Ksm.make(SIZE):
        raise ZeroDivisionError
    assert settings() != WANTED


def test_several_processes_drive_it_together() -> None:
    before = settings()
    with Ksm.make(SIZE):
        other = start(
            "from snapserv.mechanisms.ksm import Ksm\nwith Ksm.make(4096): print('on', flush=True); input()"
        )
        assert settings() == WANTED
    assert settings() == WANTED, "the other one still needs it"
    other.communicate("\n", timeout=20)
    assert settings() == before


def test_what_a_killed_process_has_changed_is_put_back_by_the_next() -> None:
    before = settings()
    victim = start("from snapserv.mechanisms.ksm import Ksm; r = Ksm.make(4096); print('on', flush=True); input()")
    victim.kill()
    victim.wait()
    victim.communicate()
    assert settings() == WANTED
    with Ksm.make(SIZE):
        assert settings() == WANTED
    assert settings() == before


def test_merged_pages_are_one_page_and_a_write_parts_them() -> None:
    if not numbers_are_told():
        pytest.skip("page numbers are root's")

    def work() -> None:
        region = Ksm.make(SIZE)
        assert isinstance(region, KsmRegion)
        region.write(0, np.random.default_rng(1).bytes(SIZE))
        snapshot = region.snapshot()
        content = snapshot.read(0, SIZE)
        assert (same(region, snapshot) != SAME).all()
        merged = region.wait_merged()
        assert merged.pages >= 2 * SIZE // PAGE * 0.9
        assert SIZE * 0.5 < merged.saved_bytes < SIZE * 1.1, "two copies have become one"
        assert merged.ksmd_cpu_s >= 0
        assert (same(region, snapshot) == SAME).mean() > 0.9
        region.touch(np.array([5 * PAGE]))
        assert same(region, snapshot)[5] != SAME
        assert snapshot.read(0, SIZE) == content
        snapshot.close()
        region.close()

    forked(work)


def same(a: object, b: object) -> np.ndarray:  # type: ignore[type-arg]
    found = compare(SIZE, (0, a.place.address), (0, b.place.address), base=False).same  # type: ignore[attr-defined]
    assert found is not None
    return found


def start(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    return process
