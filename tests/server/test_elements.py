"""Elements of every dtype over the wire: what is read says what it is, and can be written back as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from snapserv_client import Server

from ..conftest import ServerProcess
from ..simulations.elements import DTYPES

Serve = Callable[..., ServerProcess]


@pytest.fixture
def elements(serve: Serve) -> Iterator[Server]:
    with serve("tests.simulations.elements:Elements").connect() as server:
        yield server


def bytes_of(dtype: np.dtype[np.void]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Return six elements of a dtype, of bytes that are all different where any bytes will do."""
    if dtype.kind in "?SUb":
        return np.array([True, False, 1, 1, 0, 1] if dtype.kind == "b" else list("abcdef")).astype(dtype)
    made = np.frombuffer(bytes(range(1, 1 + 6)) * dtype.itemsize, dtype)[:6]
    if dtype.names is None:
        return made
    whole = np.zeros(6, dtype)
    for name in dtype.names:
        whole[name] = made[name]
    return whole


@pytest.mark.parametrize("name", DTYPES)
def test_one_element_is_read_as_an_array_of_no_axes_and_written_back(elements: Server, name: str) -> None:
    main, dtype = elements.branch("main"), np.dtype(DTYPES[name])
    whole = bytes_of(dtype).reshape(2, 3)
    main.write(name, whole)
    assert main.read(name).tobytes() == whole.tobytes()
    one = main.read(name, (1, 2))
    assert (one.shape, one.dtype) == ((), dtype)
    assert one.tobytes() == whole[1, 2, ...].tobytes()
    main.write(name, one, (0, 0))
    assert main.read(name, (0, 0)).tobytes() == one.tobytes()
    assert main.verify().ok


def test_outputs_that_no_plain_value_can_say_are_arrays_of_no_axes(elements: Server) -> None:
    main = elements.branch("main")
    main.write("waves", np.complex64(1 + 2j))
    main.write("moments", np.datetime64("2024-02-29", "ns"))
    for outputs in (main.step().outputs, main.expand([{}])[0].outputs):
        for name in ("longs", "waves", "raws", "moments", "days", "spans", "records"):
            assert (outputs[name].shape, outputs[name].dtype) == ((), DTYPES[name]), name
        assert outputs["waves"] == 1 + 2j
        assert outputs["moments"] == np.datetime64("2024-02-29", "ns")
        for name, kind in (("flags", bool), ("counts", int), ("singles", float), ("bytes_", bytes), ("texts", str)):
            assert type(outputs[name]) is kind
    assert main.call("echo", np.timedelta64(3, "s")) == np.timedelta64(3, "s")
    assert main.verify().result.outputs


def test_the_axes_of_a_subarray_follow_those_of_its_field(elements: Server) -> None:
    main = elements.branch("main")
    fields = {field.name: (field.dtype, field.shape) for field in elements.spec().fields}
    assert fields["vectors"] == ("<i2", [1365, 3])
    before = main.snapshot()
    main.step()
    vectors = main.read("vectors")
    assert (vectors.shape, vectors.dtype) == ((1365, 3), "i2")
    assert main.read("vectors", -1).tolist() == [4092, 4093, 4094]
    assert int(main.read("vectors", (0, 0))) == 1
    main.write("vectors", [7, 8, 9], 1364)
    assert main.read("vectors", -1).tolist() == [7, 8, 9]
    assert main.read("after").tolist() == [7] * 4
    by_name = {field.name: field for field in main.diff(before).fields}
    assert (by_name["vectors"].changed, by_name["vectors"].total) == (4, 4095)
    nested = main.read("nested")
    assert nested["m"]["v"].shape == (2, 2, 2)
    main.write("nested", nested[0], 1)


def test_a_policy_may_choose_what_is_no_plain_number(serve: Serve) -> None:
    with serve("tests.simulations.elements:Choosing").connect() as server:
        (outcome,) = server.branch("main").expand([{}], policy="choose", policy_steps=2, keep="all")
        assert outcome["total"] == 2 + 4j
        assert outcome.node.verify().ok
        assert list(outcome.node.actions())[-1].inputs["by"] == 1 + 2j
