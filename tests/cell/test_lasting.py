"""What is there for as long as a cell is is not written to by who uses it; and what a simulation drops is freed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from snapserv.cell.lasting import RUN, run_each_time
from tests.conftest import ServerProcess

Serve = Callable[..., ServerProcess]
CAN_KEEP = (3, 12) <= sys.version_info[:2] <= (3, 13)
MOST_PAGES = {"on": 150 if CAN_KEEP else 320, "off": 360}
"""Of an idle snapshot between two others, of a simulation that writes 16 pages a tick."""


def own_pages(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) // 4


@pytest.mark.parametrize("how", ["on", "off"])
def test_an_idle_snapshot_has_few_pages_of_its_own(serve: Serve, how: str) -> None:
    server = serve("benchmarks.simulations:Pages", SNAPSERV_IMMORTAL=how)
    with server.connect() as client:
        main = client.branch("main")
        taken = []
        for _ in range(8):
            main.step(dirty=16)
            taken.append(main.snapshot())
        main.step(dirty=16)
        pages = [own_pages(each.info().pid) for each in taken[4:-1]]
    assert 20 < min(pages) <= MOST_PAGES[how]


@pytest.mark.parametrize("how", ["on", "off"])
def test_what_a_simulation_drops_is_freed_and_its_values_are_the_same(serve: Serve, how: str) -> None:
    server = serve("tests.simulations.forgetting:Forgetting", SNAPSERV_IMMORTAL=how)
    with server.connect() as client:
        main = client.branch("main")
        told = [main.step().outputs]
        branched = main.branch()
        told += [branched.step().outputs for _ in range(4)]
    names = ["attribute", "list", "closure", "module", "type"]
    assert [each["freed"] for each in told] == [names[: tick + 1] for tick in range(5)]
    assert [each["gone"] for each in told] == [1, 2, 2, 3, 3]
    total = 0.0
    for each in told:
        total = total * 1.0000001 + 0.1
        assert each["total"] == total.hex()


def test_all_that_is_named_as_run_each_time_is_code_of_ours() -> None:
    assert len(run_each_time()) == sum(len(names.split()) for names in RUN.values())
    assert {each.__module__.partition(".")[0] for each in run_each_time()} == {"snapserv", "snapserv_client"}
