"""A short run of the chaos suite, and what it promises of itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from .chaos import schedule
from .chaos.power import cut_power
from .chaos.run import Run
from .chaos.schedule import make
from .conftest import one_at_a_time

SECONDS = 10


def test_the_same_seed_makes_the_same_schedule_and_another_seed_another() -> None:
    assert make(1, 180) == make(1, 180)
    assert make(1, 180).digest == make(1, 180).digest
    assert len({make(seed, 180).digest for seed in range(4)}) == 4


def test_the_usual_schedule_has_as_much_of_everything_as_it_promises() -> None:
    usual = make(1, 180)
    kinds = [each.kind for operations in usual.clients for each in operations]
    events = [event.kind for event in usual.events]
    assert len(kinds) >= 20_000
    assert sum(kind in schedule.KILLS for kind in kinds) >= 200
    assert events.count("restart") >= 10
    assert events.count("vandalism") * schedule.BURST >= 5_000


@pytest.mark.timeout(300)
def test_nothing_is_lost_whatever_is_killed_stopped_and_corrupted(short_path: Path) -> None:
    with one_at_a_time("chaos"):
        report = asyncio.run(Run(make(1, SECONDS), short_path).go())
    assert report.ok, report.faults
    assert report.done["operations"] == make(1, SECONDS).operations


@pytest.mark.timeout(300)
def test_what_was_acknowledged_lasts_whenever_the_power_is_cut(short_path: Path) -> None:
    account = cut_power(short_path, cuts=4, snapshots=16, seed=1)
    assert account.lost == []
    assert account.cuts == 4
    assert account.acknowledged >= 16
