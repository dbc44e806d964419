"""Every table fits the terminal: numbers stay whole, and what is shortened is seen to be and is whole in JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from snapserv_client import Server, protocol
from snapserv_client.cli.console import PlainTable, results, shortened
from snapserv_client.cli.data import show_array
from snapserv_client.cli.observe import flowing
from snapserv_client.cli.outcomes import in_order, outcomes_table, values_of
from snapserv_client.expansion import Best, Outcome

from ..conftest import ServerProcess
from .conftest import Terminal, typed

Serve = Callable[..., ServerProcess]
WIDTHS = (80, 120)
FRAME = "┏┃┡│├└┗┣┠"
LONG = "before-the-wind-turned-and-the-fire-came-across"
NAMES = (f"{LONG}-1", f"{LONG}-2")
EXPANSION = ("expand", NAMES[0], '{"drift": 1}', '{"drift": 1000000}', '{"drift": "far"}')
COMMANDS: dict[str, tuple[str, ...]] = {
    "diff": ("diff", "main", NAMES[0]),
    "expand": (*EXPANSION, "--sum", "mean", "--keep", "1:mean", "--read", "position", "--read", "mean"),
    "log": ("log", "main"),
    "log --actions": ("log", "main", "--actions"),
    "pages": ("pages", "main", NAMES[0]),
    "read": ("read", "main", "position", "--region", "0:64"),
    "spec": ("spec",),
    "status": ("status",),
    "step": ("step", "main", "12345"),
    "top": ("top", "--once", "--interval", "0.1"),
}


def printed(width: int, *words: str, status: int = 0, **environment: str) -> str:
    """Return what a command prints for people where a terminal has so many columns."""
    ran = typed(*words, env={**os.environ, **environment, "COLUMNS": str(width)})
    assert ran.returncode == status, ran.stderr
    return ran.stdout + ran.stderr


def assert_fits(text: str, width: int) -> None:
    """Check that no line is too wide, and that there is a table."""
    lines = text.splitlines()
    assert [line for line in lines if cell_len(line.rstrip()) > width] == []
    assert [line for line in lines if line[:1] in FRAME], text


@pytest.fixture
def long_names(server: Server, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server where names and numbers are long."""
    monkeypatch.setenv("SNAPSERV_ENDPOINT", endpoint)
    main = server.branch("main")
    main.step(1_234_567 // 100)
    for name in NAMES:
        main.step(3, drift=1 / 3)
        main.snapshot(name)
    main.write("position", 0.1 + 0.2, (slice(0, 500),))
    return server


@pytest.mark.parametrize("width", WIDTHS)
def test_a_command_fits(long_names: Server, width: int) -> None:
    for name, words in COMMANDS.items():
        status = 1 if name == "diff" else 0
        assert_fits(printed(width, *words, status=status), width)


def test_a_name_is_shortened_in_the_middle_told_from_others_and_whole_where_there_is_room(
    long_names: Server,
) -> None:
    narrow, wide = (printed(width, "log", "main") for width in (60, 120))
    shown = [line.split("│")[2].strip() for line in narrow.splitlines() if "…" in line]
    assert len({*shown}) == 2
    for short, name in zip(shown, NAMES, strict=True):
        head, tail = short.split("…")
        assert name.startswith(head)
        assert name.endswith(tail)
    assert all(name in wide for name in NAMES)
    assert [node["name"] for node in json.loads(printed(80, "log", "main", "--json"))][1:3] == list(NAMES)
    assert "12,351" in narrow, "numbers are whole"


def test_numbers_are_for_people_and_exact_in_json(long_names: Server) -> None:
    main = long_names.branch("main")
    position = main.read("position")
    assert "0.3 0.3 0.3 0.3" in printed(120, "read", "main", "position")
    assert f"{position.min():,.3f}"[:5] in printed(120, "read", "main", "position")
    told = json.loads(printed(80, "read", "main", "position", "--json"))
    assert (told["values"][0], told["mean"]) == (0.1 + 0.2, float(position.mean()))
    stepped = printed(80, "step", "main")
    mean = json.loads(printed(80, "step", "main", "--json"))["outputs"]["mean"]
    assert len(repr(mean)) > 12
    assert repr(mean) not in stepped
    assert "12,352" in stepped
    assert printed(80, "call", "main", "echo", "[0.30000000000000004, 1234567]") == "[0.3, 1,234,567]\n"
    assert printed(80, "call", "main", "past") == "[1, 2, 3, 4, 5, 6, 7, 8, ... 12,345 more]\n"


def test_arrays_are_what_they_are_and_span(long_names: Server) -> None:
    text = printed(120, *COMMANDS["expand"])
    assert "float64 [1000]" in text
    assert "min" in text
    assert text.count("\n") < 20, "no pages of digits"


@pytest.mark.parametrize("width", WIDTHS)
def test_an_expansion_has_a_column_an_output_the_best_first_and_failures_in_rows(
    long_names: Server, width: int
) -> None:
    lines = printed(width, *EXPANSION, "--keep", "1:mean", "--read", "mean", "--read", "count").splitlines()
    assert lines[0].strip() == "best first: the largest mean"
    head = [cell.strip() for cell in lines[2].strip("┃").split("┃")]
    assert [name for name in head if name != "inputs"] == ["child", "step", "mean", "count", "", "kept as"]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert [row[0] for row in rows] == ["1", "0", "2"]
    assert "bad_request" in rows[2]
    assert [
        line for line in lines if line.startswith("child 2: bad_request, inputs of Walk: drift must be a number")
    ]
    smallest = printed(width, *EXPANSION, "--keep", "1:mean", "--smallest").splitlines()
    assert [line.split("│")[1].strip() for line in smallest if line.startswith("│")] == ["0", "1", "2"]


def outcome(index: int, **values: Any) -> Outcome:
    return Outcome(protocol.Outcome(index, ok=True, step=1, ticks=1, outputs=values))


def test_outputs_that_have_no_room_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"output_number_{number}" for number in range(12)]
    outcomes = [outcome(index, **dict.fromkeys(names, index + 0.5)) for index in range(2)]
    for width in WIDTHS:
        monkeypatch.setattr(results, "width", width)
        results.print(outcomes_table(outcomes, [{}, {}], Best(1, names[11])))
        text = capsys.readouterr().out
        assert_fits(text, width)
        assert all(name in text for name in names)
        assert names[11] in text.splitlines()[2], "what is compared comes first"
        assert "--json has all" in text


def test_what_cannot_be_compared_comes_behind() -> None:
    outcomes = [outcome(0, mean=1.0), outcome(1, mean=float("nan")), outcome(2, mean=3.0), outcome(3, other=9)]
    outcomes.insert(0, Outcome(protocol.Outcome(4, ok=False, error={"code": "bad_request", "message": "no"})))
    values = {each.index: values_of(each) for each in outcomes if each.ok}
    assert [each.index for each in in_order(outcomes, Best(1, "mean"), values)] == [2, 0, 1, 3, 4]
    assert [each.index for each in in_order(outcomes, None, values)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("width", WIDTHS)
def test_what_lasts_fits(serve: Serve, tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(tmp_path / "store")
    server = serve("tests.simulations.walk:Walk", options=("--store", place, "--durable", "none"))
    monkeypatch.setenv("SNAPSERV_ENDPOINT", server.endpoint)
    with server.connect() as client:
        for name in NAMES:
            client.branch("main").step(3)
            client.branch("main").snapshot(name)
    assert_fits(printed(width, "save", NAMES[0], "--all"), width)
    assert_fits(printed(width, "stored"), width)
    for words in (("show", NAMES[0]), ("du",)):
        assert_fits(printed(width, "store", *words, SNAPSERV_STORE=place), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_needs_no_server_fits(width: int, tmp_path: Path) -> None:
    assert_fits(printed(width, "lab", "--size", "256KiB", "--mechanism", "copy"), width)
    doctor = typed("doctor", env={**os.environ, "COLUMNS": str(width)}).stdout
    assert [line for line in doctor.splitlines() if cell_len(line.rstrip()) > width] == []


def test_a_table_yields_where_it_is_widest_and_never_below_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = PlainTable.of((">number", "~name", "text"), None)
    rows.add_row("1,234,567,890", NAMES[0], "words " * 40)
    rows.add_row("1", NAMES[1], "https://example.org/" + "long" * 30)
    for width in (60, 80, 120, 200):
        monkeypatch.setattr(results, "width", width)
        with results.capture() as capture:
            results.print(rows)
        assert_fits(capture.get(), width)
        assert "1,234,567,890" in capture.get()


def test_names_that_would_look_the_same_are_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = ("a" * 30 + "b" + "c" * 30, "a" * 30 + "d" + "c" * 30)
    rows = PlainTable.of(("~name",), None)
    for name in twins:
        rows.add_row(name)
    monkeypatch.setattr(results, "width", 40)
    with results.capture() as capture:
        results.print(rows)
    text = "".join(line.strip("│ ") for line in capture.get().splitlines() if line.startswith("│"))
    assert text == "".join(twins)
    assert shortened(twins[0], 11) == "aaaaa…ccccc"


def test_the_names_of_two_trees_are_told_apart(terminal: Terminal) -> None:
    terminal.json("branch", "s", "left")
    assert terminal.type("log", "left") == 0
    assert "left" in terminal.out


@pytest.mark.parametrize("width", WIDTHS)
def test_a_corner_has_a_line_a_row(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "width", width)
    array = np.arange(512.0 * 512).reshape(512, 512) * -1234.567
    show_array({"node": "main", "field": "x"}, array, None, None, as_json=False)
    text = capsys.readouterr().out
    assert_fits(text, width)
    corner = [line for line in text.splitlines() if line.startswith("│") and "[" in line]
    assert len(corner) == 8
    assert len(corner[0].split("[")[1].split()) >= 5
    show_array({"node": "main", "field": "x"}, np.array(0.1 + 0.2), None, None, as_json=False)
    rows = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [["values", "0.3"]]


def test_a_docstring_flows_anew_and_its_items_stay_items() -> None:
    items = "- an item\n  that goes on\n- another"
    doc = f"One line.\n\nA paragraph of\ntwo lines:\n\n{items}\n\nAs in::\n\n    a = 1\n    b = 2\n"
    assert list(flowing(doc)) == [
        "One line.", "", "A paragraph of two lines:", "", "- an item that goes on", "- another", "", "As in::", "",
        "    a = 1", "    b = 2",
    ]  # fmt: skip
    assert list(flowing("")) == []
