"""What a client prints of a step, of a simulation and of its errors is for people to read."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snapserv_client import Server, aio
from snapserv_client.errors import SimulationError, error_from_wire
from snapserv_client.looks import kind_of
from snapserv_client.protocol import StepResult

from ..conftest import ROOT, ServerProcess

Serve = Callable[..., ServerProcess]
TROUBLE = "tests.simulations.trouble:Trouble"


def test_a_step_is_printed_an_output_a_line_and_shown_on_one(server: Server) -> None:
    result = server.branch("main").step(3)
    head, *lines = str(result).splitlines()
    assert head.startswith("step 3 · 3 ticks in ")
    assert [line.split()[0] for line in lines] == ["mean", "count"]
    assert lines[1] == "  count  3"
    assert len(lines[0]) < 24, "six digits, and not seventeen"
    assert repr(result).startswith("<step 3 · 3 ticks in ")
    assert repr(result).endswith(", count 3>")


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (StepResult(1, 1, None, 12), "step 1 · 1 tick in 12 us"),
        (StepResult(1234, 2, 0.1 + 0.2, 1500), "step 1,234 · 2 ticks in 1.5 ms\n  output  0.3"),
        (StepResult(1, 1, [1, 2], 2_500_000), "step 1 · 1 tick in 2.5 s\n  output  [1, 2]"),
    ],
)
def test_a_step_of_any_outputs_is_printed(result: StepResult, text: str) -> None:
    assert str(result) == text


def test_a_simulation_is_printed_a_part_a_line(server: Server) -> None:
    text = str(server.spec())
    assert text == repr(server.spec())
    head, doc, *parts, arena = text.splitlines()
    assert (head, doc) == ("default · Walk", "A random walk of many walkers.")
    rows = [" ".join(line.split()) for line in parts]
    assert rows[0] == "field position float64 [1000] m where each walker stands"
    assert rows[2:4] == ["input drift number by default 0", "param cols integer is 1,000"]
    assert "method echo (value: Any) -> Any Return what was given." in rows
    assert arena.startswith("arena ")
    assert len({line.index(row.split()[1]) for line, row in zip(parts, rows, strict=True)}) == 1, "they line up"


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 1000}, "integer >= 1 <= 1,000"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, "list of lists of numbers"),
        (
            {"type": "array", "prefixItems": [{"type": "number"}, {"type": "number"}], "items": False},
            "list of 2 numbers",
        ),
        ({"type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}]}, "list of number, text"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "integer or null"),
        ({"enum": ["red", "blue"]}, "'red' or 'blue'"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "map of integers"),
        ({"$ref": "#/$defs/Wind"}, "Wind"),
        ({"$ref": "#/$defs/Colour"}, "'red'"),
        ({}, "anything"),
    ],
)
def test_what_a_schema_allows_is_said_in_words(declared: dict[str, Any], words: str) -> None:
    schema = {"$defs": {"Colour": {"enum": ["red"]}, "Wind": {"type": "object"}}}
    assert kind_of(declared, schema) == words


def raised(serve: Serve) -> list[SimulationError]:
    """Return what both clients raise where a step raises."""
    endpoint = serve(TROUBLE).endpoint

    async def step_there() -> None:
        async with await aio.connect(endpoint, timeout_s=10) as client:
            main = await client.branch("main")
            await main.clear()
            await main.step(how="raise", at=1)

    found = []
    from snapserv_client import connect

    with connect(endpoint, timeout_s=10) as client:
        with pytest.raises(SimulationError) as caught:
            client.branch("main").step(how="raise", at=1)
        found.append(caught.value)
    with pytest.raises(SimulationError) as caught:
        asyncio.run(step_there())
    return [*found, caught.value]


def test_an_error_of_a_simulation_shows_its_authors_frames_first(serve: Serve) -> None:
    for error in raised(serve):
        assert error.message == "Trouble.step raised ValueError: told to raise"
        head, empty, *lines = str(error).splitlines()
        assert (head, empty) == (error.message, "")
        assert lines[0] == "Traceback (most recent call last):"
        path = ROOT / "tests" / "simulations" / "trouble.py"
        assert lines[1].startswith(f'  File "{path}", line ')
        assert lines[1].endswith(", in step")
        assert lines[2].strip() == "self.fail(inputs.how)"
        assert lines[-2].strip() == 'raise ValueError("told to raise")'
        assert lines[-1] == "ValueError: told to raise"
        assert "snapserv/" not in "\n".join(lines).replace(str(ROOT), "")
        assert str(error_from_wire(error.to_wire())) == str(error)


def test_a_script_that_does_not_catch_it_ends_with_the_authors_line(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from snapserv_client import local\n"
        f"with local({TROUBLE!r}) as server:\n    server.branch('main').step(how='raise', at=1)\n"
    )
    environment = {"PYTHONPATH": ":".join([str(ROOT), *filter(None, sys.path)]), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert ran.returncode == 1
    assert ran.stderr.rstrip().endswith('raise ValueError("told to raise")\nValueError: told to raise')


def test_a_setup_and_an_import_that_raise_name_the_authors_line_as_well(tmp_path: Path) -> None:
    from snapserv_client import local

    (tmp_path / "broken.py").write_text("import math\n\nLIMIT = math.sqrt(-1)\n")
    with pytest.raises(SimulationError) as caught:
        local(f"{tmp_path}/broken.py:Broken")
    first = str(caught.value).splitlines()[3]
    assert first.endswith('broken.py", line 3, in <module>')
    (tmp_path / "misspelt.py").write_text("class Broken(\n")
    with pytest.raises(SimulationError) as caught:
        local(f"{tmp_path}/misspelt.py:Broken")
    assert 'misspelt.py", line 1' in str(caught.value).splitlines()[2]
    with pytest.raises(SimulationError) as caught:
        local(TROUBLE, how="raise")
    assert str(caught.value).splitlines()[3].endswith(", in setup")
