"""Every mechanism through the conformance suite, each case in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from ..conformance import CASES, TESTED
from ..conftest import one_at_a_time

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", TESTED)
def test_conformance(name: str, case: str) -> None:
    why_not = TESTED[name].why_not()
    if why_not:
        pytest.skip(f"{name}: {why_not}")
    command = [sys.executable, "-m", "tests.conformance", name, case]
    with one_at_a_time(name) if name == "ksm" else contextlib.nullcontext():
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
