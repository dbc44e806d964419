"""Adapters by scheme, each with the real package: served, branched in mid-flight, refused where it must be."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Branch, local
from snapserv_client.errors import BadRequestError, NotFoundError, SimulationError, SnapservError, UnsupportedError

from snapserv.adapters import schemes
from snapserv.cell.loading import load_simulation

from . import unit

PENDULUM = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <body name="pole" pos="0 0 2">
      <joint name="hinge" type="hinge" axis="0 1 0"/>
      <geom type="capsule" size="0.05" fromto="0 0 0 0 0 -1" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" ctrlrange="-1 1" ctrllimited="true"/></actuator>
  <sensor><jointpos name="angle" joint="hinge"/><framepos name="place" objtype="xbody" objname="pole"/></sensor>
  <keyframe><key name="up" qpos="3.14"/></keyframe>
</mujoco>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    (made / "pendulum.xml").write_text(PENDULUM)
    unit.build(made)
    return made


def policy(branch: Branch, steps: int) -> list[str]:
    """Play by chance, with the simulation's own streams; return what came of it."""
    said = []
    for _ in range(steps):
        try:
            said.append(repr(branch.step(inputs=branch.call("random_action")).outputs))
        except BadRequestError:  # the episode, or the game, is over
            said.append(repr(branch.call("reset")))
    return said


CHANCE = [
    "dm:cartpole/swingup",
    "dm:tests.simulations.corridor:Corridor",
    "mujoco:{folder}/pendulum.xml",
    "openspiel:tic_tac_toe",
    "openspiel:kuhn_poker(players=3)",
    "openspiel:goofspiel(num_cards=4)",
    "pettingzoo:classic/tictactoe_v3",
    "pettingzoo:classic/rps_v2",
    "pettingzoo:aec:classic/rps_v2",
]


@pytest.mark.parametrize("target", CHANCE)
def test_a_branch_in_mid_flight_goes_on_as_the_run_that_was_never_branched(target: str, folder: Path) -> None:
    with local(target.format(folder=folder)) as server:
        main = server.branch("main")
        policy(main, 3)
        moment = main.snapshot()
        wanted = policy(moment.branch(rng="same"), 12)
        assert policy(moment.branch(rng="same"), 12) == wanted == policy(main, 12)
        assert main.verify().ok
        children = server.snapshot("root").expand([[]] * 4, policy="random_action", policy_steps=2, rng="split")
        assert [child.error for child in children] == [None] * 4


def test_dm_control_refuses_what_is_no_action_and_begins_anew_after_the_last_step() -> None:
    with local("dm:cartpole/balance", task={"time_limit": 0.05}, seed=5) as server:
        main = server.branch("main")
        before = main.call("observe")
        for wrong, words in (([2.0], "bound"), ([0.1, 0.2], "shape"), ("left", "left"), (None, "None")):
            with pytest.raises(BadRequestError) as caught:
                main.step(action=wrong)
            assert words in f"{caught.value.message} {caught.value.hint}"
        assert repr(main.call("observe")) == repr(before)
        result = main.step(100, action=[0.5])
        assert (result.ticks, result.outputs["step_type"]) == (5, "LAST")
        with pytest.raises(BadRequestError, match="finished"):
            main.step(action=[0.5])
        assert main.call("reset")["step_type"] == "FIRST"
        spec = main.call("describe")
        assert (spec["action"]["shape"], spec["action"]["maximum"].tolist()) == ([1], [1.0])
        assert main.call("set", "physics.data.time", 0.5) == 0.5


def test_an_environment_of_dm_env_is_made_with_its_parameters() -> None:
    with local("dm:tests.simulations.corridor:Corridor", length=3) as server:
        main = server.branch("main")
        assert main.step(3, action=1).outputs["reward"] == 1.0
        with pytest.raises(BadRequestError, match="2"):
            server.snapshot("root").branch().step(action=2)


def test_mujoco_is_controlled_reset_and_told_of_when_it_becomes_unstable(folder: Path) -> None:
    with local(f"mujoco:{folder}/pendulum.xml", keyframe="up") as server:
        main = server.branch("main")
        before = main.step(9, ctrl=[1.0]).outputs
        outputs = main.step(ctrl=[1.0]).outputs
        assert outputs["time"] == pytest.approx(0.1)
        assert outputs["sensors"]["angle"] == before["qpos"][0] != outputs["qpos"][0]
        assert outputs["sensors"]["place"].tolist() == [0.0, 0.0, 2.0]
        weightless = main.snapshot().branch()
        weightless.call("set", "opt.gravity", [0.0, 0.0, 0.0])
        speed = weightless.step(ctrl=[0.0]).outputs["qvel"][0]
        assert weightless.step(20).outputs["qvel"][0] == pytest.approx(speed, rel=0.2)
        assert main.step(20, ctrl=[0.0]).outputs["qvel"][0] != pytest.approx(speed, rel=0.2)
        for wrong in ([1.0, 2.0], [math.nan], "much"):
            with pytest.raises(BadRequestError, match="ctrl"):
                main.step(ctrl=wrong)
        with pytest.raises(NotFoundError, match="down"):
            main.call("reset", "down")
        assert main.call("reset", "up")["qpos"].tolist() == [3.14]
        broken = main.snapshot().branch()
        broken.call("set", "qvel", [1e12])
        with pytest.raises(SimulationError, match="unstable"):
            broken.step()


def test_chance_in_a_game_follows_the_branch(folder: Path) -> None:
    with local("openspiel:kuhn_poker", seed=3) as server:
        root = server.snapshot("root")
        hands = {branch.call("reset")["text"] for branch in root.branch(12, rng="split")}
        assert len(hands) > 2
        same = {branch.call("reset")["text"] for branch in root.branch(3, rng="same")}
        assert len(same) == 1


def test_a_game_is_played_by_names_and_to_its_end() -> None:
    with local("openspiel:tic_tac_toe") as server:
        main = server.branch("main")
        assert len(main.call("action_names")) == 9
        assert main.step(action="x(1,1)").outputs["player"] == 1
        for wrong in (4, "x(0,0)", 99, None, True, 1.0):
            with pytest.raises(BadRequestError, match="not legal"):
                main.step(action=wrong)
        for action in (0, 2, 1, 6):
            outputs = main.step(action=action).outputs
        assert (outputs["terminal"], outputs["returns"]) == (True, [1.0, -1.0])
        assert main.call("observe", 0)["observation"].shape == (3, 3, 3)
        with pytest.raises(BadRequestError, match="finished"):
            main.step(action=8)
        with pytest.raises(BadRequestError, match="players"):
            main.call("observe", 2)


def test_agents_act_at_once_or_in_turn() -> None:
    with local("pettingzoo:classic/rps_v2", kwargs={"max_cycles": 2}) as server:
        main = server.branch("main")
        outputs = main.step(actions={"player_0": 0, "player_1": 1}).outputs
        assert outputs["rewards"] == {"player_0": -1.0, "player_1": 1.0}
        for wrong in ({"player_0": 0}, {"player_0": 0, "player_2": 1}, {"player_0": 0, "player_1": 7}):
            with pytest.raises(BadRequestError):
                main.step(actions=wrong)
        outputs = main.step(actions={"player_0": 0, "player_1": 0}).outputs
        assert (outputs["agents"], outputs["truncations"]) == ([], {"player_0": True, "player_1": True})
        with pytest.raises(BadRequestError, match="finished"):
            main.step(actions={})
        assert main.call("reset", seed=1)["agents"] == ["player_0", "player_1"]
    with local("pettingzoo:classic/tictactoe_v3") as server:
        main = server.branch("main")
        for agent, action in enumerate((0, 3, 1, 4, 2)):
            assert main.call("outputs")["agent"] == f"player_{agent % 2 + 1}"
            main.step(action=action)
        assert main.call("outputs")["termination"] is True
        with pytest.raises(BadRequestError, match="done"):
            main.step(action=5)
        main.step(2)
        with pytest.raises(BadRequestError, match="finished"):
            main.step()


def test_a_unit_has_the_parameters_inputs_and_outputs_of_its_description(folder: Path) -> None:
    with local(f"fmu:{folder}/tank.fmu", k=0.25, x0=2.0, start={"body.m": 3.0}) as server:
        main = server.branch("main")
        assert main.step(u=1.0).outputs == {"x": 2.05, "count": 1, "time": 0.1}
        moment = main.snapshot()
        wanted = [repr(main.step(u=0.5).outputs) for _ in range(20)]
        branch = moment.branch()
        assert [repr(branch.step(u=0.5).outputs) for _ in range(20)] == wanted
        assert branch.verify().ok
        futures = moment.expand([{"set": {"gain": gain}} for gain in (0.0, 1.0, 4.0)], steps=10)
        levels = [child["x"] for child in futures]
        assert levels == sorted(levels)
        assert levels[0] < levels[1]
        assert (main.call("get", "body.m"), main.call("get", "label")) == (3.0, "spa")
        assert main.call("describe")["x"]["unit"] == "m"
        for name, value, kind in (
            ("k", 1.0, BadRequestError),
            ("gain", True, BadRequestError),
            ("gain", "much", BadRequestError),
            ("gaim", 1.0, NotFoundError),
        ):
            with pytest.raises(kind, match=name):
                main.call("set", name, value)
        with pytest.raises(SimulationError, match="refused a step"):
            moment.branch().step(u=1000.0)
        with pytest.raises(SimulationError, match="refused gain"):
            moment.branch().call("set", "gain", -1.0)
    with pytest.raises(BadRequestError, match="x cannot be set"), local(f"fmu:{folder}/tank.fmu", start={"x": 1.0}):
        pass


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ("dm:cartpole/swing", NotFoundError, "cartpole/swingup"),
        ("dm:tests.simulations.corridor:nothing", BadRequestError, "no dm_env.Environment"),
        ("mujoco:nowhere.xml", NotFoundError, "nowhere.xml"),
        ("mujoco:{folder}/broken.xml", BadRequestError, "cannot read"),
        ("openspiel:chesss", NotFoundError, "chess"),
        ("openspiel:kuhn_poker(player=3)", BadRequestError, "GAME"),
        ("openspiel:mfg_crowd_modelling", BadRequestError, "mean field"),
        ("pettingzoo:classic/tictactoe_v99", NotFoundError, "tictactoe"),
        ("pettingzoo:parallel:classic/tictactoe_v3", BadRequestError, "aec"),
        ("fmu:nowhere.fmu", NotFoundError, "nowhere.fmu"),
        ("fmu:{folder}/broken.fmu", BadRequestError, "cannot be read"),
    ],
)
def test_a_target_that_is_wrong_says_what_is_there(
    target: str, kind: type[SnapservError], words: str, folder: Path
) -> None:
    (folder / "broken.xml").write_text("<mujoco><nothing/></mujoco>")
    (folder / "broken.fmu").write_text("nothing")
    with pytest.raises(kind) as caught:
        load_simulation(target.format(folder=folder)).build()
    assert words in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("scheme", [name for name, adapter in schemes.SCHEMES.items() if adapter.package])
def test_a_missing_package_is_named_with_the_extra_that_installs_it(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = schemes.SCHEMES[scheme]
    monkeypatch.delitem(sys.modules, adapter.module, raising=False)
    monkeypatch.setitem(sys.modules, adapter.package, None)
    with pytest.raises((UnsupportedError, ModuleNotFoundError)) as caught:
        load_simulation(f"{scheme}:anything")
    assert isinstance(caught.value, UnsupportedError)
    assert caught.value.hint == f"pip install 'snapserv[{adapter.extra}]'"


def install(folder: Path, name: str, says: str) -> None:
    """Put a package on the path that brings an adapter, as pip would."""
    (folder / f"{name}.py").write_text(says)
    described = folder / f"{name}-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(f"[snapserv.adapters]\ncounting = {name}:adapt\n")


ADAPTER = """
from snapserv import Simulation


def adapt(rest):
    class Counting(Simulation):
        def setup(self):
            self.count = int(rest)

        def step(self, inputs):
            self.count += 1
            return {"count": self.count}

    return Counting
"""


def test_another_package_brings_a_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "counting_adapter", ADAPTER)
    monkeypatch.syspath_prepend(str(tmp_path))
    with local("counting:5") as server:
        assert server.branch("main").step(2).outputs == {"count": 7}
    install(tmp_path, "another_adapter", "")
    importlib.invalidate_caches()
    with pytest.raises(SimulationError, match="2 packages"):
        load_simulation("counting:5")


def test_an_adapter_that_cannot_be_imported_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "failing_adapter", "import nothing_of_that_name")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SimulationError, match="failing_adapter"):
        load_simulation("counting:5")


def test_arrays_of_observations_are_arrays() -> None:
    with local("dm:cartpole/balance") as server:
        outputs: Any = server.branch("main").step(action=[0.0]).outputs
        assert isinstance(outputs["observation"]["position"], np.ndarray)
