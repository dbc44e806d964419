"""How many processes there may be: which limit is met first, on machines that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapserv.machine import process_limits as limits


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """The files of a machine with 100 threads, in whose control groups there is no limit."""
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "sys/kernel").mkdir(parents=True)
    (proc / "self").mkdir()
    (proc / "sys/kernel/pid_max").write_text("4194304\n")
    (proc / "sys/kernel/threads-max").write_text("200000\n")
    (proc / "loadavg").write_text("0.10 0.20 0.30 2/100 12345\n")
    (proc / "self/cgroup").write_text("0::/user.slice/own.service\n")
    (proc / "self/status").write_text("CapEff:\t0000000000000000\n")
    (groups / "user.slice/own.service").mkdir(parents=True)
    (groups / "user.slice/own.service/pids.max").write_text("max\n")
    return proc, groups


@pytest.fixture(autouse=True)
def _ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (150_000, 150_000))


def first(machine: tuple[Path, Path]) -> limits.ProcessLimit:
    found = limits.tightest(limits.process_limits(*machine))
    assert found is not None
    return found


def test_the_users_limit_is_met_first(machine: tuple[Path, Path]) -> None:
    found = first(machine)
    assert (found.what, found.room) == ("RLIMIT_NPROC", 150_000)
    assert "LimitNPROC" in found.improve


def test_the_users_limit_is_none_for_those_who_may_exceed_it(machine: tuple[Path, Path]) -> None:
    (machine[0] / "self/status").write_text(f"CapEff:\t{1 << limits.CAP_SYS_RESOURCE:016x}\n")
    assert (first(machine).what, first(machine).room) == ("kernel.threads-max", 199_900)


def test_a_group_above_ones_own_limits_too_and_counts_who_is_there(machine: tuple[Path, Path]) -> None:
    slice_ = machine[1] / "user.slice"
    (slice_ / "pids.max").write_text("1000\n")
    (slice_ / "pids.current").write_text("990\n")
    assert (first(machine).most, first(machine).room) == (1000, 10)
    assert str(slice_) in first(machine).what


def test_groups_of_version_1_are_read_as_well(machine: tuple[Path, Path]) -> None:
    (machine[0] / "self/cgroup").write_text("5:pids:/jobs\n4:memory:/jobs\n")
    (machine[1] / "pids/jobs").mkdir(parents=True)
    (machine[1] / "pids/jobs/pids.max").write_text("64\n")
    assert first(machine).room == 64
