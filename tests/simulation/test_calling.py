"""Arguments of exported methods are held against their annotations before anything runs."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import pytest
from snapserv_client import Server

from snapserv import Simulation, exported
from snapserv.cell.loading import load_simulation
from snapserv.errors import BadRequestError
from snapserv.simulation.calling import prepare_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import ServerProcess

    Unknown = dict[str, int]


class Colour(enum.Enum):
    red = "red"


class Spot(msgspec.Struct):
    row: int
    col: int = 0


class Taker(Simulation):
    @exported
    def take(self, row: int, col: int = 2, *, share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5) -> Any:
        return row, col, share

    @exported
    def shaped(self, size: tuple[int, int], colour: Colour, spot: Spot) -> Any:
        return size, colour, spot

    @exported
    def many(self, *rows: int, **shares: float) -> Any:
        return rows, shares

    @exported
    def array(self, values: np.ndarray[Any, Any], more: np.ndarray[Any, Any] | None = None) -> Any:
        return values

    @exported
    def anything(self, one, two: Unknown, three: object = None) -> Any:  # type: ignore[no-untyped-def]
        return one, two, three

    @exported
    def number_or_array(self, value: int | np.ndarray[Any, Any]) -> Any:
        return value


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    return prepare_call(Taker.build(), name, args, kwargs)()


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "says"),
    [
        ("take", (), {}, "missing a required argument: 'row'"),
        ("take", (1, 2, 3), {}, "too many positional arguments"),
        ("take", (1,), {"rwo": 1}, "got an unexpected keyword argument 'rwo'"),
        ("take", (1,), {"row": 1}, "multiple values for argument 'row'"),
        ("take", ("1",), {}, "row must be an integer, not text"),
        ("take", (1.5,), {}, "row must be an integer, not a number"),
        ("take", (True,), {}, "row must be an integer, not a boolean"),
        ("take", (1,), {"share": 2}, "share must be at most 1"),
        ("take", (np.zeros(3),), {}, "row must be an integer, not an array"),
        ("shaped", ([1, "2"], "red", {"row": 1}), {}, "size[1] must be an integer, not text"),
        ("shaped", ([1, 2], "blue", {"row": 1}), {}, "colour must be 'red', not 'blue'"),
        ("shaped", ([1, 2], "red", {"col": 1}), {}, "row is missing in spot"),
        ("many", (1, "2"), {}, "rows must be an integer, not text"),
        ("many", (), {"half": "much"}, "shares must be a number, not text"),
        ("array", ("text",), {}, "values must be an array, not text"),
        ("array", ([[1], [1, 2]],), {}, "values: "),
        ("array", (["a"],), {}, "values must be an array, not a list"),
    ],
)
def test_what_a_method_does_not_take_is_refused_by_name(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        prepare_call(Taker.build(), name, args, kwargs)
    assert f"{name}: {says}" in caught.value.message
    assert caught.value.hint.startswith("it takes (")


def test_what_it_takes_it_gets_as_it_is_annotated() -> None:
    assert call("take", 1, share=1) == (1, 2, 1.0)
    assert call("shaped", [1, 2], "red", {"row": 3}) == ((1, 2), Colour.red, Spot(3))
    assert call("many", 1, 2, half=1) == ((1, 2), {"half": 1.0})


def test_arrays_are_taken_as_they_are_and_lists_of_numbers_for_them() -> None:
    values = np.zeros((2, 3))
    assert call("array", values) is values
    assert call("array", [[1, 2], [3, 4]]).shape == (2, 2)


def test_annotations_that_nothing_can_be_held_against_are_let_be() -> None:
    assert call("anything", [1], "two") == ([1], "two", None)
    assert call("number_or_array", "text") == "text"


def test_methods_of_other_peoples_objects_are_checked_alike() -> None:
    queue = load_simulation("object:examples.queueing:Queue.advance").build()
    assert prepare_call(queue, "rush", [3])() == 3
    with pytest.raises(BadRequestError, match="customers must be an integer, not text"):
        prepare_call(queue, "rush", ["many"])


def test_a_bad_call_is_no_fault_and_no_action(server: Server) -> None:
    main = server.branch("main")
    before = main.actions()
    for arguments in ({}, {"objects": "many"}, {"objects": 1, "more": 2}):
        with pytest.raises(BadRequestError, match="grow: "):
            main.call("grow", **arguments)
    assert main.actions() == before
    assert main.info().faulted is None
    main.step(1)


def test_what_a_method_raises_itself_is_the_methods(serve: Callable[..., ServerProcess]) -> None:
    server = serve("tests.simulations.trouble:Trouble")
    with (
        server.connect() as client,
        pytest.raises(BadRequestError, match="fail: missing a required argument: 'how'"),
    ):
        client.branch("main").call("fail")
