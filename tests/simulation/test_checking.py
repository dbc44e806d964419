"""A class that cannot be served is refused when it is loaded, with what is wrong and what to write instead."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest

from snapserv.cell.loading import load_simulation
from snapserv.errors import SimulationError

from ..cli.conftest import typed

STEP = "def step(self, inputs): pass"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def saved(folder: Path, *body: str, before: str = "") -> str:
    """Write a class of these lines to a file, and return what names it."""
    path = folder / "mistaken.py"
    imports = "import msgspec\nfrom snapserv import Field, Simulation, exported\n"
    lines = "\n".join(textwrap.indent(each, "    ") for each in body)
    path.write_text(f"{imports}{before}\nclass Mistaken(Simulation):\n{lines}\n")
    return f"{path}:Mistaken"


@pytest.mark.parametrize(
    ("body", "says", "hint"),
    [
        (["count = Field('i8')"], "has no step", "step(self, inputs)"),
        (["def step(self): pass"], "Mistaken.step(self) cannot be called", "step(self, inputs)"),
        (["def step(self, inputs, more): pass"], "missing a required argument: 'more'", "step(self, inputs)"),
        (["@classmethod", "def step(cls): pass"], "Mistaken.step()", "step(self, inputs)"),
        (["step = 3"], "step is no method", "step(self, inputs)"),
        (["async def step(self, inputs): pass"], "step is a coroutine or a generator", "with def"),
        (["def step(self, inputs): yield"], "step is a coroutine or a generator", "without yield"),
        (["async def step(self, inputs): yield"], "step is a coroutine or a generator", "without yield"),
        ([STEP, "async def setup(self): pass"], "setup is a coroutine", "with def"),
        ([STEP, "@exported", "async def ask(self): pass"], "ask is a coroutine", "with def"),
        ([STEP, "def on_branch(self): pass"], "on_branch(self) cannot be called", "on_branch(self, seed)"),
        ([STEP, "def on_snapshot(self, seed): pass"], "on_snapshot", "on_snapshot(self)"),
        ([STEP, "class Inputs:\n    by: int = 1"], "Inputs is no msgspec.Struct", "class Inputs(msgspec.Struct)"),
        ([STEP, "Inputs = {'by': int}"], "Inputs is no msgspec.Struct", "class Inputs(msgspec.Struct)"),
        ([STEP, "class Inputs(msgspec.Struct):\n    by: 'Nowhere'"], "'Nowhere' is not defined", "import"),
        ([STEP, "def setup(self, by: 'Nowhere' = 1): pass"], "'Nowhere' is not defined", "import"),
        ([STEP, "rng = Field('i8')"], "part of Simulation", "call it otherwise"),
        ([STEP, "count = Field('i8')", "def count(self): pass"], "its field of line 6 is hidden", "otherwise"),
    ],
)
def test_a_mistake_is_named_with_what_to_write(tmp_path: Path, body: list[str], says: str, hint: str) -> None:
    with pytest.raises(SimulationError) as caught:
        load_simulation(saved(tmp_path, *body))
    assert says in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("above", "body"), [("def count(self): pass", "count = Field('i8')"), ("count = Field('i8')", "count = 3")]
)
def test_a_field_neither_hides_a_method_nor_is_hidden(tmp_path: Path, above: str, body: str) -> None:
    base = f"class Base(Simulation):\n    {above}\n"
    target = saved(tmp_path, STEP, body, before=base)
    Path(target.partition(":")[0]).write_text(
        Path(target.partition(":")[0]).read_text().replace("Mistaken(Simulation)", "Mistaken(Base)")
    )
    with pytest.raises(SimulationError, match="a field and something else"):
        load_simulation(target)


@pytest.mark.parametrize(
    "body",
    [
        ["def step(self, inputs, more=None): pass"],
        ["def step(self, *inputs): pass"],
        ["@classmethod", "def step(cls, inputs): pass"],
        [STEP, "class Inputs(msgspec.Struct):\n    by: int"],
        [STEP, "def on_branch(self, seed=None): pass"],
    ],
)
def test_what_can_be_called_is_taken(tmp_path: Path, body: list[str]) -> None:
    assert load_simulation(saved(tmp_path, *body)).__name__ == "Mistaken"


def test_serve_says_so_before_setup_has_run(tmp_path: Path) -> None:
    target = saved(tmp_path, "def setup(self): raise AssertionError", "def step(self): pass")
    done = typed("serve", target, "--json", "--endpoint", f"ipc://{tmp_path}/s.sock")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["hint"]) == ("simulation_error", "write step(self, inputs)")
