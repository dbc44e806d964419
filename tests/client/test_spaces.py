"""Spaces and their values over the wire: exact, or refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from snapserv_client import wire
from snapserv_client.errors import BadRequestError
from snapserv_client.spaces import action_from_wire, space_from_wire, space_to_wire, value_from_wire, value_to_wire

from .conftest import assert_equal

SPACES = [
    spaces.Box(-1.0, np.float32(np.inf), (2, 3), np.float32),
    spaces.Box(np.array([0, 5]), np.array([3, 9]), dtype=np.int16),
    spaces.Discrete(5, start=-2),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=np.array([[1, 0], [0, 1]])),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
    spaces.Text(8, min_length=2, charset="abc"),
    spaces.Tuple([spaces.Discrete(2), spaces.Tuple([spaces.Box(0, 1, (2,))])]),
    spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Dict({"x": spaces.Box(0, 1, ())})}),
    spaces.Dict({("b", 1): spaces.Discrete(3), ("a", 2): spaces.Dict({1: spaces.Box(0, 1, ())})}),
    spaces.OneOf([spaces.Discrete(3), spaces.Box(0, 1, (2,))]),
    spaces.Sequence(spaces.Discrete(4)),
    spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True),
    spaces.Graph(spaces.Box(0, 1, (2,)), spaces.Discrete(3)),
    spaces.Graph(spaces.Box(0, 1, (2,)), None),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{type(space).__name__}")
def test_spaces_and_their_values_cross_the_wire_exactly(space: spaces.Space[Any]) -> None:
    def crossed(value: Any) -> Any:
        header, *buffers = wire.pack(value)
        return wire.unpack(header, buffers)

    again = space_from_wire(crossed(space_to_wire(space)))
    assert again == space
    space.seed(1)
    for _ in range(20):
        value = space.sample()
        found = value_from_wire(again, crossed(value_to_wire(space, value)))
        assert space.contains(found)
        assert_equal(found, value)


class Missions(spaces.Space[str]):
    """Text of a form of its own, as Minigrid's missions are."""

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return f"get the {self.np_random.choice(['red key', 'blue ball'])}, please"

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and x.startswith("get the ")


def test_a_kind_of_text_crosses_as_text_and_its_stream_stays_where_it_is() -> None:
    space, twin = Missions(seed=3), Missions(seed=3)
    again = space_from_wire(space_to_wire(space))
    assert space.sample() == twin.sample(), "nothing was drawn of it to find out what it is"
    value = space.sample()
    assert again.contains(value_from_wire(again, value_to_wire(space, value)))
    assert value_from_wire(again, value_to_wire(space, value)) == value
    assert action_from_wire(space, value) == value
    with pytest.raises(BadRequestError, match="not in"):
        action_from_wire(space, "put it down")


def test_the_oldest_gymnasium_has_its_spaces_cross_as_well() -> None:
    """Run in a process that imports it: what Gymnasium calls spaces has changed between its versions."""
    oldest = Path(sys.prefix) / "gymnasium-1.0"
    if not oldest.is_dir():
        pytest.skip("gymnasium 1.0 is not beside this environment: make puts it there")
    again = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            __file__,
            "-k",
            "exactly or refused or text",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(oldest), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stdout + again.stderr


def test_what_describes_no_space_is_refused() -> None:
    discrete = {"kind": "Discrete", "n": -1, "start": 0, "dtype": "int64"}
    for wrong in ({}, {"kind": "Cube"}, {"kind": "Box"}, discrete):
        with pytest.raises(BadRequestError):
            space_from_wire(wrong)


@pytest.mark.parametrize(
    ("space", "wire"),
    [
        (spaces.Discrete(4), 1.0),
        (spaces.Discrete(4), "1"),
        (spaces.Box(0, 9, (1,), np.int16), [1.5]),
        (spaces.Box(0, 9, (1,), np.int16), np.array([70000])),
        (spaces.Box(-np.inf, np.inf, (1,), np.float32), np.array([1e300])),
        (spaces.Box(0, 1, (2,)), ["0", "1"]),
        (spaces.MultiDiscrete([3, 3]), [1.9, 0]),
        (spaces.MultiBinary(2), [0, 2]),
        (spaces.Text(4), 5),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"a": 1, "b": 1}),
        (spaces.Dict({"a": spaces.Discrete(2)}), {}),
        (spaces.Dict({"a": spaces.Discrete(2)}), 3),
        (spaces.Tuple([spaces.Discrete(2)]), [1, 1]),
        (spaces.OneOf([spaces.Discrete(3)]), [5, 1]),
        (spaces.OneOf([spaces.Discrete(3)]), [-1, 1]),
        (spaces.Sequence(spaces.Discrete(4)), 3),
        (spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True), 3),
        (spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True), [[0.5]]),
        (spaces.Graph(spaces.Box(0, 1, (2,)), None), [1]),
        (spaces.Graph(spaces.Box(0, 1, (2,)), None), [[[0.5, 2.0]], None, None]),
    ],
    ids=str,
)
def test_an_action_is_refused_rather_than_changed(space: spaces.Space[Any], wire: Any) -> None:
    with pytest.raises(BadRequestError):
        action_from_wire(space, wire)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Discrete(4), 1.7),
        (spaces.Discrete(4), "1"),
        (spaces.Discrete(4), None),
        (spaces.OneOf([spaces.Discrete(3)]), (5, 1)),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"b": 1}),
        (spaces.Graph(spaces.Box(0, 1, (2,)), None), 3),
    ],
    ids=str,
)
def test_a_value_of_another_structure_is_not_sent(space: spaces.Space[Any], value: Any) -> None:
    with pytest.raises(BadRequestError):
        value_to_wire(space, value)


def test_what_numpy_makes_by_itself_is_an_action_wherever_it_stands() -> None:
    box = spaces.Box(0, 1, (2,))
    space = spaces.Dict({"pair": spaces.Tuple([box, spaces.MultiDiscrete([3, 3])]), "many": spaces.Sequence(box)})
    wide = {"pair": [np.array([0.1, 0.2]), np.array([1, 2], np.int8)], "many": [[0, 1], np.array([True, False])]}
    action = action_from_wire(space, wide)
    assert action["pair"][0].dtype == action["many"][0].dtype == np.float32
    assert action["pair"][1].dtype == np.int64
    assert np.array_equal(action["many"][1], [1, 0])


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{type(space).__name__}")
def test_an_action_that_was_drawn_arrives_as_it_was(space: spaces.Space[Any]) -> None:
    space.seed(2)
    for _ in range(20):
        value = space.sample()
        assert_equal(action_from_wire(space, value_to_wire(space, value)), value)
