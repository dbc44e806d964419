"""What is recorded after ticks: columns that grow, are shared, cut, thinned and read back exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapserv_client.protocol import All, Compare, Holds, No, Reading, Some

from snapserv import Field, Simulation, exported
from snapserv.cell.recorder import MOST_CHUNK_ROWS, Column, Recorder
from snapserv.cell.until import telling
from snapserv.errors import BadRequestError, NotFoundError, SimulationError


class Heap(Simulation):
    """A field, an output and a predicate."""

    sand = Field("f8", shape=(4, 3))
    total = Field("i8")

    def step(self, inputs: object) -> dict[str, Any]:
        """Add a grain."""
        self.sand[1, 2] += 1
        self.total += 1
        return {"total": int(self.total), "half": int(self.total) / 2, "name": "heap"}

    @exported
    def is_high(self) -> bool:
        """Whether it is high."""
        return bool(self.sand.max() > 3)

    @exported
    def fails(self) -> bool:
        """Fail."""
        raise ValueError("no")


@pytest.fixture
def heap() -> Heap:
    """A heap of its own arena."""
    return Heap.build()


def play(
    heap: Heap, recorder: Recorder, readings: list[Reading], ticks: int, *, every: int = 1, at: int = 0
) -> int:
    """Step it and record."""
    takings = recorder.begin(heap, readings, every)
    for _ in range(ticks):
        outputs = heap.step(None)
        at += 1
        recorder.take(takings, outputs, at)
    return at


def test_outputs_reductions_and_elements_are_exact(heap: Heap) -> None:
    recorder = Recorder()
    asked = [
        Reading(output="total"),
        Reading(output="half"),
        Reading(field="sand", reduce="mean"),
        Reading(field="sand", reduce="max", name="top"),
        Reading(field="sand", at=(1, 2)),
        Reading(field="total", name="grains"),
    ]
    play(heap, recorder, asked, 1500)
    (told,) = recorder.told()
    ticks = np.arange(1, 1501)
    assert told["every"] == 1
    assert told["steps"].tolist() == ticks.tolist()
    assert list(told["columns"]) == ["total", "half", "mean(sand)", "top", "sand[1, 2]", "grains"]
    assert told["columns"]["total"].dtype == told["columns"]["grains"].dtype == np.int64
    np.testing.assert_array_equal(told["columns"]["half"], ticks / 2)
    np.testing.assert_array_equal(told["columns"]["mean(sand)"], [np.full(12, 0.0).mean() + t / 12 for t in ticks])
    for name in ("total", "top", "sand[1, 2]", "grains"):
        np.testing.assert_array_equal(told["columns"][name], ticks)


def test_every_nth_tick_is_one_whose_step_is_a_multiple(heap: Heap) -> None:
    recorder = Recorder()
    at = play(heap, recorder, [Reading(output="total")], 7, every=5)
    play(heap, recorder, [Reading(output="total")], 9, every=5, at=at)
    (told,) = recorder.told()
    assert told["steps"].tolist() == [5, 10, 15] == told["columns"]["total"].tolist()


def test_a_standing_order_is_taken_beside_what_a_request_asks_for(heap: Heap) -> None:
    recorder = Recorder()
    recorder.order(heap, [Reading(output="half")], 2)
    at = play(heap, recorder, [], 4)
    at = play(heap, recorder, [Reading(output="total")], 2, at=at)
    recorder.order(heap, [], 1)
    play(heap, recorder, [], 4, at=at)
    half, total = recorder.told()
    assert half["steps"].tolist() == [2, 4, 6]
    assert total["steps"].tolist() == [5, 6]


def test_going_back_forgets_what_came_after(heap: Heap) -> None:
    recorder = Recorder()
    at = play(heap, recorder, [Reading(output="total")], 10)
    play(heap, recorder, [Reading(output="total"), Reading(output="half")], 5, at=at)
    play(heap, recorder, [Reading(output="total")], 5, at=at + 5)
    recorder.cut(at)
    (told,) = recorder.told()
    assert told["steps"].tolist() == [*range(1, 11)]
    recorder.cut(0)
    assert recorder.told() == []


def test_where_it_is_too_much_every_second_row_goes(heap: Heap) -> None:
    recorder = Recorder(most_bytes=4096 * 4)
    at = 0
    for _ in range(40):
        at = play(heap, recorder, [Reading(output="total")], 100, at=at)
        recorder.bound()
    (told,) = recorder.told()
    every = told["every"]
    assert every > 1
    assert told["steps"].nbytes + told["columns"]["total"].nbytes <= 4096 * 4
    np.testing.assert_array_equal(told["columns"]["total"], told["steps"])
    assert told["steps"].dtype == np.int64
    assert told["steps"].tolist() == [*range(every, 4001, every)]
    recorder.cut(2000)
    (told,) = recorder.told()
    assert told["steps"].tolist() == [*range(every, 2001, every)]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        (Reading(output="totl"), "'totl' is no output of this tick"),
        (Reading(output="name"), "name is no number: it is text"),
        (Reading(field="sand"), "has 12 elements"),
        (Reading(field="sand", at=(1,)), "1 indices, and the field has 2 axes"),
        (Reading(field="sand", at=(9, 0)), "out of range"),
        (Reading(field="sand", at=(0, 0), reduce="sum"), "one element has no sum"),
        (Reading(output="total", reduce="sum"), "read as it is"),
        (Reading(), "of an output or of a field"),
    ],
)
def test_what_cannot_be_read_is_refused_and_leaves_no_half_row(heap: Heap, reading: Reading, message: str) -> None:
    recorder = Recorder()
    with pytest.raises(BadRequestError, match=message):
        play(heap, recorder, [Reading(output="half"), reading], 3)
    assert recorder.told() == []


def test_a_field_that_is_not_there_and_a_name_given_twice_are_refused(heap: Heap) -> None:
    with pytest.raises(NotFoundError, match="no field 'sandy'"):
        Recorder().begin(heap, [Reading(field="sandy", reduce="sum")], 1)
    with pytest.raises(BadRequestError, match="two columns are called 'total'"):
        Recorder().order(heap, [Reading(output="total"), Reading(field="total")], 1)


VALUES = st.one_of(
    st.lists(st.booleans()),
    st.lists(st.integers(-(2**53), 2**53)),
    st.lists(st.floats(allow_nan=False)),
    st.lists(st.one_of(st.booleans(), st.integers(-1000, 1000), st.floats(allow_nan=False))),
)


@given(VALUES, st.integers(0, 40), st.integers(1, 3))
@settings(deadline=None)
def test_a_column_gives_back_what_it_was_given(values: list[Any], rows: int, times: int) -> None:
    column, values = Column(), values * times
    for value in values:
        column.append(value)
    assert len(column) == len(values)
    assert column.last(len(values)).tolist() == values
    assert column.last(rows).tolist() == (values[-rows:] if rows else [])
    column.keep(slice(None, None, 2))
    assert column.last(len(column)).tolist() == values[::2]
    column.keep(slice(rows))
    assert column.last(len(column)).tolist() == values[::2][:rows]
    for value in values:
        column.append(value)
    assert column.last(len(values)).tolist() == values


def test_arrays_of_one_shape_are_columns_too() -> None:
    column = Column()
    for number in range(2 * MOST_CHUNK_ROWS):
        column.append(np.full((2, 2), number, np.float32))
    assert column.last(3).tolist() == np.repeat([1021, 1022, 1023], 4).reshape(3, 2, 2).tolist()
    with pytest.raises(TypeError, match="an array of shape"):
        column.append(np.zeros(3))
    with pytest.raises(TypeError, match="of 8,000 bytes"):
        Column().append(np.zeros(1000))


@pytest.mark.parametrize(
    ("condition", "ticks"),
    [
        (Compare(Reading(output="total"), ">=", 7), 7),
        (Compare(Reading(field="sand", reduce="mean"), ">", 0.5), 7),
        (Compare(Reading(output="name"), "==", "heap"), 1),
        (Holds("is_high"), 4),
        (No(Compare(Reading(output="half"), "<=", 2)), 5),
        (All([Holds("is_high"), Compare(Reading(output="total"), "!=", 4)]), 5),
        (Some([Holds("is_high"), Compare(Reading(output="total"), "==", 2)]), 2),
    ],
)
def test_a_condition_holds_at_the_first_tick_at_which_it_does(heap: Heap, condition: Any, ticks: int) -> None:
    test = telling(heap, condition)
    done = 0
    while True:
        outputs, done = heap.step(None), done + 1
        if test(outputs):
            break
    assert done == ticks


def test_a_condition_that_cannot_be_told_is_refused(heap: Heap) -> None:
    for condition, message in (
        (Compare(Reading(output="totl"), ">", 1), "no output"),
        (Compare(Reading(output="name"), ">", 1), "cannot be told"),
    ):
        with pytest.raises(BadRequestError, match=message):
            telling(heap, condition)(heap.step(None))
    with pytest.raises(SimulationError, match="no"):
        telling(heap, Holds("fails"))({})
    for condition, message in (
        (Compare(Reading(output="name"), ">", "a"), "by == and != alone"),
        (All([Holds("is_high")] * 64), "64 parts at most"),
    ):
        with pytest.raises(BadRequestError, match=message):
            telling(heap, condition)
    with pytest.raises(NotFoundError, match="step"):
        telling(heap, Holds("step"))
