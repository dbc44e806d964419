"""``snapserv lab``: every figure is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snapserv.mechanisms import lab
from snapserv.mechanisms.copy import Copy

from .conftest import Terminal


def test_lab_measures_every_figure(alone: Terminal, tmp_path: Path) -> None:
    found = alone.json("lab", "--size", "256KiB", "--mechanism", "copy", "--plots", str(tmp_path))
    (row,) = found["rows"]
    assert row["bytes"] == 256 << 10
    assert [each["fraction"] for each in row["snapshots"]] == [0.001, 0.1, 1.0]
    for key in ("pause_ms", "first_write_us", "second_write_us", "read_gib_per_s"):
        assert row[key] > 0
    assert [each["snapshots"] for each in row["memory"]] == [1, 10, 100]
    assert row["copy"]["ms"] > 0
    assert row["shared"] in (0, None)
    assert found["machine"]["kernel"]
    assert {Path(plot).name for plot in found["plots"]} == {path.name for path in tmp_path.iterdir()}
    assert len(found["plots"]) == 6
    assert alone.json("lab", "--size", "none", status=2)["error"]["code"] == "bad_request"
    assert "copy" in alone.json("lab", "--mechanism", "magic", status=2)["error"]["hint"]


def test_lab_fails_where_nothing_could_be_measured(
    alone: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = lab._measured
    failed = {"code": "internal", "message": "measuring ended with status 1", "hint": "", "details": {}}

    def fail(name: str, size: int) -> dict[str, Any]:
        return {"mechanism": name, "bytes": size, "error": failed}

    monkeypatch.setattr(lab, "_measured", fail)
    found = alone.json("lab", "--size", "256KiB", "--mechanism", "copy", "--plots", str(tmp_path), status=5)
    assert (found["rows"][0]["error"], found["plots"]) == (failed, [])
    monkeypatch.setattr(
        lab, "_measured", lambda name, size: fail(name, size) if size > 1 << 18 else measured(name, size)
    )
    some = alone.json("lab", "--size", "256KiB", "--size", "512KiB", "--mechanism", "copy")
    assert ["error" in row for row in some["rows"]] == [False, True]
    monkeypatch.setattr(Copy, "why_not", classmethod(lambda cls: "not on this machine"))
    assert alone.json("lab", "--mechanism", "copy", status=4)["rows"] == []
