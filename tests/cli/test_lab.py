"""``snapserv lab``: every figure is measured."""

from __future__ import annotations

from pathlib import Path

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
