"""Curves in the command line: what is recorded, shown and written; and steps that stop where something holds."""

from __future__ import annotations

import csv
from pathlib import Path

from pyarrow import parquet

from .conftest import Terminal


def test_a_step_records_and_stops_and_says_so(terminal: Terminal) -> None:
    result = terminal.json("step", "main", "50", "--record", "count", "--every", "4", "--until", "count >= 13")
    assert (result["step"], result["ticks"], result["stopped"]) == (13, 11, True)
    assert terminal.type("step", "main", "3", "--until", "count >= 1000") == 0
    assert "count >= 1000 has not held" in terminal.out
    assert terminal.type("step", "main", "300", "--until", "count >= 20", "--snapshot", "twenty") == 0
    assert "count >= 20 holds" in terminal.out
    assert terminal.json("show", "twenty")["node"]["step"] == 20


def test_what_was_recorded_is_shown_and_written_whole(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal.type("record", "main", "count", "mean(position)", "--every", "2") == 0
    assert "main records count, mean(position)" in terminal.out
    assert terminal.type("step", "main", "100") == 0
    told = terminal.json("records", "main")
    assert told["step"] == told["count"] == [*range(4, 103, 2)]
    assert terminal.type("records", "main", "--csv", str(tmp_path / "c"), "--parquet", str(tmp_path / "p")) == 0
    assert "main · 50 rows" in terminal.out
    with (tmp_path / "c").open() as file:
        rows = [*csv.DictReader(file)]
    assert [int(row["count"]) for row in rows] == told["count"]
    assert [float(row["mean(position)"]) for row in rows] == told["mean(position)"]
    assert parquet.read_table(tmp_path / "p").to_pydict() == told
    assert terminal.json("records", "main", "--after", "100") == {name: each[-1:] for name, each in told.items()}
    assert terminal.type("record", "main") == 0
    terminal.type("step", "main", "10")
    assert terminal.json("records", "main") == told


def test_what_cannot_be_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    assert terminal.type("record", "main", "mean(nothing)") == 2
    assert "no field 'nothing'" in terminal.err
    assert terminal.type("step", "main", "--until", "3 >") == 2
    assert "no condition" in terminal.err
    assert terminal.type("records", "main", "--parquet", str(tmp_path / "p")) == 2
    assert "nothing was recorded" in terminal.err
    assert terminal.type("record", "s", "count") == 2
