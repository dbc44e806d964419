"""What each adapter has, row by row of the table in its documentation; and what an attribute can be set to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Branch, Server, local
from snapserv_client.errors import BadRequestError, NotFoundError

from snapserv.adapters.schemes import SCHEMES
from snapserv.cell.loading import load_simulation

from ..conftest import ROOT
from . import unit

HERE = "tests.simulations.towns"
TARGETS = {
    "dm": f"dm:{HERE}:DmTown",
    "gym": f"gym:{HERE}:Town-v0",
    "mesa": f"mesa:{HERE}:MesaTown",
    "object": f"object:{HERE}:Town.day",
    "pettingzoo": "pettingzoo:tests.simulations.town_of_agents",
    "simpy": f"simpy:{HERE}:SimPyTown",
}
DAY: dict[str, dict[str, Any]] = {
    "dm": {"action": 0},
    "gym": {"action": 0},
    "mesa": {},
    "object": {},
    "pettingzoo": {"actions": {"mayor": 0}},
    "simpy": {},
}
TESTED: dict[str, dict[str, Any]] = {
    "gym": {"action": 3},
    "dm": {"action": 3},
    "pettingzoo": {"actions": {"mayor": 3}},
}
PARAMS: dict[str, dict[str, Any]] = {"gym": {"kwargs": {"beta": 0.3}}, "pettingzoo": {"kwargs": {"beta": 0.3}}}


def table(first: str) -> dict[str, dict[str, str]]:
    """Return a table of the documentation, the one with such a column: what it says of each adapter."""
    lines = (ROOT / "docs" / "adapters.md").read_text().splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("| adapter |") and f"| {first} |" in line)
    end = next(n for n in range(begin, len(lines)) if not lines[n])
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[begin:end])
    return {name.strip("`:"): dict(zip(head[1:], cells, strict=True)) for name, *cells in rows}


def parameters(server: Server, branch: Branch, scheme: str, tmp_path: Path) -> None:
    assert branch.call("get", "beta") == 0.3


def inputs(server: Server, branch: Branch, scheme: str, tmp_path: Path) -> None:
    stays = branch.snapshot().branch()
    stays.step(**DAY[scheme])
    if scheme == "simpy":
        assert branch.step(delta=3.0).outputs["now"] == stays.step(2).outputs["now"]
    else:
        branch.step(inputs=TESTED.get(scheme, {"tests": 3}))
        assert branch.call("get", "ill") == stays.call("get", "ill") - 3


def get(server: Server, branch: Branch, scheme: str, tmp_path: Path) -> None:
    assert branch.call("get", "ill") == 10
    assert branch.call("get", "wards.1.beds") == 9
    assert branch.call("get", "rates.old") == 0.5
    for wrong, words in (("wrong", "beta"), ("_hidden", "beta"), ("wards.2", "0 to 1"), ("rates.middle", "young")):
        with pytest.raises(NotFoundError) as caught:
            branch.call("get", wrong)
        assert words in caught.value.hint


def set_(server: Server, branch: Branch, scheme: str, tmp_path: Path) -> None:
    """Burn in once, then change a parameter in each branch; what was done is done again by a replay."""
    branch.step(5, **DAY[scheme])
    moment = branch.snapshot()
    closed, opened = moment.branch(2)
    assert closed.call("set", "beta", 0) == 0
    opened.call("set", "beta", 0.9)
    for each in (closed, opened):
        each.step(5, **DAY[scheme])
        assert each.verify().ok
    assert closed.call("get", "ill") == moment.branch().call("get", "ill") < opened.call("get", "ill")


def set_with_a_step(server: Server, branch: Branch, scheme: str, tmp_path: Path) -> None:
    branch.step(5, **DAY[scheme])
    moment = branch.snapshot()
    found = moment.expand([{**DAY[scheme], "set": {"beta": beta}} for beta in (0.0, 0.9)], steps=5)
    assert [child.error for child in found] == [None, None]
    one = moment.branch()
    before = one.call("get", "ill")
    one.step(5, **DAY[scheme], set={"beta": 0.0, "policy": "CLOSED"})
    assert (one.call("get", "ill"), one.call("get", "beta")) == (before, 0.0)
    with pytest.raises(BadRequestError, match="policy"):
        one.step(**DAY[scheme], set={"beta": 0.5, "policy": "odd"})
    assert one.call("get", "beta") == 0.0, "nothing is set where one of them does not fit"
    assert one.verify().ok


def exported(server: Server, branch: Branch, scheme: str, tmp_path: Path) -> None:
    assert {"lockdown", "told", "get", "set"} <= {method.name for method in server.spec().methods}
    assert branch.call("lockdown", 0.05) == branch.call("get", "beta") == 0.05
    with pytest.raises(BadRequestError, match="beta"):
        branch.call("lockdown", "much")
    with pytest.raises(NotFoundError):
        branch.call("begin", 0.1)


def hooks(server: Server, branch: Branch, scheme: str, tmp_path: Path) -> None:
    split = branch.snapshot().branch(rng="split")
    assert split.call("told") == [*branch.call("told"), "reseed", "on_branch"]
    assert branch.call("told")[-1] == "on_snapshot"
    mark = tmp_path / "dropped"
    split.call("set", "notice", str(mark))
    split.drop()
    assert mark.read_text() == "dropped"


def random_streams(server: Server, branch: Branch, scheme: str, tmp_path: Path) -> None:
    moment = branch.snapshot()
    same, other = moment.branch(rng="same"), moment.branch(rng="split")
    for each in (branch, same, other):
        each.step(20, **DAY[scheme])
    assert branch.call("get", "ill") == same.call("get", "ill") != other.call("get", "ill")


FEATURES: dict[str, Callable[[Server, Branch, str, Path], None]] = {
    "`get`": get,
    "`set`": set_,
    "`set` with a step": set_with_a_step,
    "`exported` methods": exported,
    "hooks, `reseed`": hooks,
    "random streams": random_streams,
}


def test_the_tables_name_every_adapter_and_every_feature() -> None:
    for first in ("parameters", "`get`"):
        assert set(table(first)) == set(SCHEMES)
    for scheme, cells in table("`get`").items():
        assert list(cells) == list(FEATURES)
        if scheme in TARGETS:
            assert all(cell.startswith("yes") for cell in cells.values())


@pytest.mark.parametrize("scheme", TARGETS)
def test_each_adapter_has_what_the_table_says(scheme: str, tmp_path: Path) -> None:
    with local(TARGETS[scheme], **PARAMS.get(scheme, {"beta": 0.3})) as server:
        for check in (parameters, inputs, *FEATURES.values()):
            check(server, server.snapshot("root").branch(), scheme, tmp_path)


@pytest.mark.parametrize(
    "target", ["mujoco:{folder}/pendulum.xml", "openspiel:tic_tac_toe", "fmu:{folder}/tank.fmu"]
)
def test_what_serves_no_python_object_has_what_the_table_says(target: str, models: Path) -> None:
    """What it does is tested with each of them; here, that nothing is offered which the table does not have."""
    kind = load_simulation(target.format(folder=models))
    said = table("`get`")[target.partition(":")[0]]
    offered = {method.name for method in kind.describe_methods()}
    for name in ("get", "set"):
        assert (name in offered) == (said[f"`{name}`"] != "no")
    assert ("set" in kind.Inputs.__struct_fields__) == (said["`set` with a step"] != "no")
    assert said["`exported` methods"] == said["hooks, `reseed`"] == "no"


def test_what_a_function_makes_is_forwarded_as_well() -> None:
    with local(f"simpy:{HERE}:simpy_town") as server:
        assert server.branch("main").call("lockdown", 0.05) == 0.05


def test_an_input_of_the_methods_own_is_not_taken_for_attributes() -> None:
    with local(f"object:{HERE}:Set") as server:
        assert server.branch("main").step(2, set=3).outputs == {"tables": 6}


@pytest.mark.parametrize(
    ("name", "value", "then"),
    [
        ("beta", 1, 1),
        ("days", 0.5, 0.5),
        ("policy", "closed", "Policy.CLOSED"),
        ("name", "Bath", "Bath"),
        ("open", False, False),
        ("notice", {"any": ["thing"]}, {"any": ["thing"]}),
        ("rates.old", 0.75, 0.75),
        ("rates", {"all": 1}, {"all": 1}),
        ("wards.1.beds", 3, 3),
        ("log", ["a"], ["a"]),
        ("level", 0.1, np.float32(0.1)),
        ("counts.2", 7, 7),
    ],
)
def test_an_attribute_is_set_to_a_value_of_its_kind(town: Branch, name: str, value: Any, then: Any) -> None:
    branch = town.snapshot().branch()
    got = branch.call("set", name, value)
    assert str(then) in str(got)
    assert branch.call("get", name) == got


def test_an_array_keeps_its_memory(town: Branch) -> None:
    branch = town.snapshot().branch()
    branch.call("set", "counts", np.array([5.0, 6.0, 7.0, 8.0]))
    assert branch.call("get", "view").tolist() == [5, 7]
    assert branch.call("get", "counts").dtype == "i4"
    branch.call("set", "counts", 0)
    assert branch.call("get", "view").tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("beta", "much", "a float"),
        ("beta", True, "a float"),
        ("beta", None, "a float"),
        ("open", 1, "a bool"),
        ("name", 5, "a str"),
        ("policy", "ajar", "OPEN, CLOSED"),
        ("rates", [1], "a dict"),
        ("counts", [1, 2], "shape (4,)"),
        ("counts", [0.5, 1, 1, 1], "int32"),
        ("counts", 1 << 40, "int32"),
        ("counts.1", 0.5, "int32"),
        ("wards.0", {"beds": 1}, "name.attribute"),
        ("charter.founded", 1, "replaces"),
        ("fixed.a", 2, "cannot be changed"),
        ("well", 3, "computed"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(town: Branch, name: str, value: Any, words: str) -> None:
    branch = town.snapshot().branch()
    before = branch.call("get", name)
    with pytest.raises(BadRequestError) as caught:
        branch.call("set", name, value)
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert str(branch.call("get", name)) == str(before)
    assert branch.info().faulted is None


def test_what_is_not_there_cannot_be_set(town: Branch) -> None:
    with pytest.raises(NotFoundError, match="betta"):
        town.call("set", "betta", 0.5)
    with pytest.raises(NotFoundError, match="lockdown"):
        town.call("set", "lockdown", 0.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "pendulum.xml").write_text("<mujoco/>")
    unit.build(folder)
    return folder


@pytest.fixture(scope="module")
def town_server() -> Any:
    with local(f"object:{HERE}:Town.day") as server:
        yield server


@pytest.fixture
def town(town_server: Server) -> Branch:
    return town_server.branch("main")
