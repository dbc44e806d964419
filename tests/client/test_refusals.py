"""Refusals are in words: no type of the wire and no path of a checker reaches whoever reads them."""

from __future__ import annotations

import asyncio
import enum
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from snapserv_client import Server, aio, protocol
from snapserv_client.errors import BadRequestError
from snapserv_client.refusals import in_words


class Colour(enum.Enum):
    """Two colours."""

    RED = "red"
    BLUE = "blue"


class Wind(msgspec.Struct):
    """A wind whose author says what is too much."""

    speed: float

    def __post_init__(self) -> None:
        if self.speed > 100:
            raise ValueError("no wind is as strong as `that` - at $")


class Gusts(msgspec.Struct):
    """Inputs with a wind."""

    wind: Wind


def refused(value: Any, kind: Any, of: str = "") -> str:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, kind)
    return in_words(caught.value, of, value=value, kind=kind)


@pytest.mark.parametrize(
    ("value", "kind", "says"),
    [
        ({"ticks": "x"}, protocol.StepArgs, "ticks must be an integer, not text"),
        ({"ticks": 1.5}, protocol.StepArgs, "ticks must be an integer, not 1.5"),
        ({"ticks": None}, protocol.StepArgs, "ticks must be an integer, not null"),
        ({"ticks": 0}, protocol.StepArgs, "ticks must be at least 1, not 0"),
        (
            {"ticks": 1 << 50},
            protocol.StepArgs,
            "ticks must be at most 1,099,511,627,776, not 1,125,899,906,842,624",
        ),
        ({"atomic": 3}, protocol.StepArgs, "atomic must be true, false or null, not an integer"),
        ({"timeout_s": -1}, protocol.StepArgs, "timeout_s must be more than 0, not -1"),
        ({"inputs": {1: 2}}, protocol.StepArgs, "a key of inputs must be text, not an integer"),
        ({"inputs": [1]}, protocol.StepArgs, "inputs must be a map, not a list"),
        (
            {"tick": 1},
            protocol.StepArgs,
            "there is no 'tick'; there are: "
            "ticks, inputs, progress, atomic, timeout_s, record, every, until, snapshot",
        ),
        ({}, protocol.ReadArgs, "field is missing"),
        ({"field": "a", "region": [[1, 2]]}, protocol.ReadArgs, "region[0] must have 3 items, not 2"),
        ({"name": ""}, protocol.SnapshotArgs, "name must not be empty"),
        ({"name": "n" * 70}, protocol.SnapshotArgs, "name must have at most 64 characters"),
        (
            {"name": "a b"},
            protocol.SnapshotArgs,
            "name may have letters, digits and _.-, and begins with none of . and -; it is 'a b'",
        ),
        ({"rng": "other"}, protocol.BranchArgs, "rng must be 'same', 'split' or an integer, not 'other'"),
        ({"inputs": []}, protocol.ExpandArgs, "inputs must not be empty"),
        ({"inputs": [{}, 3]}, protocol.ExpandArgs, "inputs[1] must be a map or a list, not an integer"),
        ({"actions": [{"kind": "step"}]}, protocol.ReplayArgs, "ticks is missing in actions[0]"),
        ({"actions": [{"kind": "jump"}]}, protocol.ReplayArgs, "actions[0].kind cannot be 'jump'"),
        ([1], protocol.StepArgs, "this must be a map, not a list"),
        ({"a": "b"}, dict[str, int], "a value of this must be an integer, not text"),
        ("green", Colour, "this must be 'red' or 'blue', not 'green'"),
        (5, Literal[1, 2], "this must be 1 or 2, not 5"),
        (7, Annotated[int, msgspec.Meta(multiple_of=2)], "this must be a multiple of 2, not 7"),
        ([1], Annotated[list[int], msgspec.Meta(min_length=3)], "this must have at least 3 items"),
        ("x", Annotated[str, msgspec.Meta(pattern="^a+$")], "this must match '^a+$'"),
        (np.zeros(3), list[float], "this must be a list, not an array"),
    ],
)
def test_what_msgspec_says_is_said_in_words(value: Any, kind: Any, says: str) -> None:
    assert refused(value, kind) == says


def test_what_is_wrong_as_a_whole_is_called_by_its_name() -> None:
    assert refused("x", int, "row") == "row must be an integer, not text"
    assert refused([1, "x"], list[int], "rows") == "rows[1] must be an integer, not text"


def test_what_an_author_says_of_a_value_is_left_as_it_is() -> None:
    assert refused({"wind": {"speed": 200}}, Gusts) == "wind: no wind is as strong as `that` - at $"


def test_a_server_refuses_in_words_whoever_asks(server: Server, endpoint: str) -> None:
    main = server.branch("main")
    wrong: dict[str, Any] = {"ticks": "many"}
    for says, ask in (
        ("step: ticks must be an integer, not text", lambda: main.step(**wrong)),
        ("inputs of Walk: drift must be a number, not text", lambda: main.step(drift="far")),
        ("parameters of Walk: cols must be an integer, not text", lambda: server.create(cols="many")),
        ("snapshot: name may have letters", lambda: main.snapshot("no name")),
        ("grow: objects must be an integer, not text", lambda: main.call("grow", "many")),
    ):
        with pytest.raises(BadRequestError) as caught:
            ask()
        assert caught.value.message.startswith(says)
        assert "`" not in caught.value.message

    async def ask_there() -> None:
        async with await aio.connect(endpoint, timeout_s=10) as client:
            await (await client.branch("main")).step(**wrong)

    with pytest.raises(BadRequestError, match="ticks must be an integer, not text"):
        asyncio.run(ask_there())


def test_a_branch_of_ones_own_refuses_in_the_same_words(server: Server) -> None:
    main = server.branch("main")
    main.step()
    with pytest.raises(BadRequestError, match="ticks must be an integer, not text"):
        main.step("many")  # type: ignore[arg-type]
