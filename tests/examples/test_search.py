"""The search examples: small runs of what their README shows at full length."""

from __future__ import annotations

import importlib
import warnings

import pytest
from snapserv_client import local

from examples.search import beam, mcts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # SWIG's; as errors they crash the import
    importlib.import_module("Box2D")


def test_a_beam_saves_what_greed_and_chance_let_burn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "DECISIONS", 4)
    said: list[str] = []
    with local("examples.wildfire:Wildfire", rows=beam.SIZE, cols=beam.SIZE) as server:
        nodes = len(server.tree().nodes)
        burnt = beam.fires(server, [2], 3, said.append)
        assert len(server.tree().nodes) == nodes, "the tree of each fire is dropped"
    assert burnt["beam"][0] <= burnt["greedy"][0] < burnt["nothing"][0]
    assert burnt["beam"][0] < burnt["random"][0]
    assert "nodes per second" in said[-1]


def test_the_tree_counts_every_leaf_and_the_best_plan_is_followed() -> None:
    with local("gym:LunarLander-v3") as server:
        main = server.branch("main")
        main.call("reset", seed=3)
        search = mcts.Search(3)
        tree = search.tree
        here = main.snapshot()
        action = search.choose(here, 0.0, 64)
        assert tree.visits == 64
        assert sum(child.visits for child in tree.children.values()) == 63, "the first leaf is the root"
        assert search.tree is tree.children[action]
        assert main.info().step == 0, "nothing has moved"
        plan = [action, *search.plan]
        (outcome,) = here.expand([[{"action": each} for each in plan]], steps=mcts.HOLD, keep="all", sum=["reward"])
        assert outcome["reward"] == search.planned, "a plan is worth what was promised"


def test_an_episode_is_played_to_its_end_by_each_policy() -> None:
    with local("gym:LunarLander-v3") as server:
        main = server.branch("main")
        for policy in ("random", "greedy"):
            main.reset()
            reward, _ = mcts.episode(main, 1, policy, 16)
            assert main.call("observe")["terminated"] or main.call("observe")["truncated"]
            assert -2000 < reward < 400
