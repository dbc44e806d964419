"""What is found out about a machine: facts for ``snapserv doctor``."""

from __future__ import annotations

from pathlib import Path

from snapserv.doctor.machine import _monitoring


def test_doctor_sees_a_kernel_that_watches_pages(tmp_path: Path) -> None:
    assert _monitoring(tmp_path).verdict == "ok"
    for number, state in enumerate(("off", "on")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "state").write_text(state + "\n")
    assert _monitoring(tmp_path).verdict == "weak"
