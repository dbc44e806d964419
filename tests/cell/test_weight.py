"""A cell is light: what is mapped is forked with every snapshot, and what it has written is its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import ROOT, ServerProcess

MOST_AREAS = 245
"""A fresh branch has some 225 on Python 3.11 to 3.13, most of them of shared libraries."""
MOST_OWN_KIB = 1_600
"""It has some 1,400 of its own: pages of the heap that the first steps of Python after a clone have written to."""
MOST_MODULES = 300
"""In a cell that has no simulation yet: some 290."""


def test_a_fresh_branch_maps_few_areas_and_owns_few_pages(serve: Callable[..., ServerProcess]) -> None:
    server = serve("examples.counter:Counter")
    with server.connect() as client:
        pid = client.branch("main").info().pid
    areas = len(Path(f"/proc/{pid}/maps").read_text().splitlines())
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    own_kib = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
    assert 50 < areas <= MOST_AREAS
    assert 100 < own_kib <= MOST_OWN_KIB


def test_a_cell_loads_few_modules() -> None:
    code = "import sys, snapserv.cell.starting; print(len(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 50 < int(ran.stdout) <= MOST_MODULES
