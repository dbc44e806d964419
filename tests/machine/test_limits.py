"""How much memory there is to be had: the machine's, or what a control group leaves of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snapserv.machine.limits import available_bytes
from snapserv.memory.arena import PAGE


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "300", "memory.max": "max"}, 300 - 100 + 40),
        ("0::/a/b\n", {"a/b/memory.max": "200", "a/memory.max": "300"}, 200 - 100 + 40),
        ("0::/host/path\n", {"memory.max": "500"}, 500 - 100 + 40),
        ("0::/a\n", {"a/memory.max": "max"}, 1000 * 1024),
        ("4:memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "400"}, 400 - 100 + 60),
        ("4:cpu,memory:/a\n", {"memory/memory.limit_in_bytes": "600"}, 600 - 100 + 60),
        ("4:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "400"}, 1000 * 1024),
        (None, {}, 1000 * 1024),
    ],
)
def test_the_tightest_control_group_above_this_process_bounds_what_is_available(
    tmp_path: Path, groups: str | None, files: dict[str, str], expected: int
) -> None:
    proc, tree = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\n")
    if groups is not None:
        (proc / "self/cgroup").write_text(groups)
    for path, limit in files.items():
        folder = (tree / path).parent
        folder.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(f"{limit}\n")
        (folder / "memory.current").write_text("100\n")
        (folder / "memory.usage_in_bytes").write_text("100\n")
        (folder / "memory.stat").write_text("inactive_file 40\ntotal_inactive_file 60\n")
    assert available_bytes(proc, tree) == expected


def test_what_is_available_here_is_no_more_than_the_machine_has() -> None:
    assert 0 < available_bytes() <= os.sysconf("SC_PHYS_PAGES") * PAGE
