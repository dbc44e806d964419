from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from examples.gray_scott import DIFFUSION_U, DIFFUSION_V, GrayScott
from snapserv.errors import BadRequestError
from snapserv.ext.kernels import gray_scott as kernel
from snapserv.memory.arena import Arena

Array = np.ndarray[Any, Any]


def reference(u: Array, v: Array, rates: tuple[float, float, float, float]) -> tuple[Array, Array]:
    diffusion_u, diffusion_v, feed, kill = (np.float32(rate) for rate in rates)
    one, four = np.float32(1), np.float32(4)

    def around(field: Array) -> Array:
        above_and_below = np.roll(field, 1, axis=0) + np.roll(field, -1, axis=0)
        sum_: Array = above_and_below + (np.roll(field, 1, axis=1) + np.roll(field, -1, axis=1))
        return sum_

    reacted = u * v * v
    return (
        u + (diffusion_u * (around(u) - four * u) - reacted + feed * (one - u)),
        v + (diffusion_v * (around(v) - four * v) + reacted - (feed + kill) * v),
    )


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena()
    yield arena
    arena.close()


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 1), (1, 37), (37, 1), (2, 2), (3, 3), (5, 4), (17, 64), (64, 65)]
)
def test_a_tick_gives_the_bits_of_the_numpy_reference(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    u, v = (rng.random(shape, dtype=np.float32) for _ in range(2))
    aside = np.full((2, 3, shape[1]), np.nan, np.float32)
    rates = (DIFFUSION_U, DIFFUSION_V, 0.037, 0.06)
    for _ in range(50):
        expected_u, expected_v = reference(u, v, rates)
        kernel.react(u, v, aside, *rates)
        assert u.tobytes() == expected_u.tobytes()
        assert v.tobytes() == expected_v.tobytes()


def test_shapes_that_do_not_agree_are_refused() -> None:
    field, aside = np.zeros((4, 5), np.float32), np.zeros((2, 3, 5), np.float32)
    for u, v, scratch in [
        (field, field[:3], aside),
        (field[:0], field[:0], aside),
        (field, field, np.zeros((2, 3, 4), np.float32)),
        (field, field, np.zeros((1, 3, 5), np.float32)),
    ]:
        with pytest.raises(ValueError, match="shape"):
            kernel.react(u, v, scratch, 0.2, 0.1, 0.03, 0.06)


def test_the_simulation_is_the_reference_on_its_fields() -> None:
    simulation = GrayScott.build(rows=48, cols=40, seed=2)
    u, v = simulation.u.copy(), simulation.v.copy()
    for _ in range(20):
        outputs = simulation.step(GrayScott.Inputs(feed=0.03, kill=0.062))
        u, v = reference(u, v, (DIFFUSION_U, DIFFUSION_V, 0.03, 0.062))
    np.testing.assert_array_equal(simulation.u, u)
    np.testing.assert_array_equal(simulation.v, v)
    assert outputs == {"mean_u": float(u.mean()), "mean_v": float(v.mean())}


def test_a_pattern_grows_from_the_square_in_the_middle() -> None:
    simulation = GrayScott.build(rows=128, cols=128)
    grown = [int((simulation.v > 0.1).sum())]
    for _ in range(3):
        for _ in range(500):
            simulation.step(GrayScott.Inputs())
        grown.append(int((simulation.v > 0.1).sum()))
    assert grown[0] == 400
    assert grown[1] < grown[2] < grown[3]
    assert np.isfinite(simulation.u).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (300, 7)])
def test_a_torus_of_any_shape_steps(shape: tuple[int, int]) -> None:
    simulation = GrayScott.build(rows=shape[0], cols=shape[1])
    for _ in range(5):
        simulation.step(GrayScott.Inputs())
    assert np.isfinite(simulation.v).all()


def test_every_page_is_private_after_one_tick(arena: Arena) -> None:
    simulation = GrayScott.build(arena, rows=256, cols=256)
    arena.seal()
    if not arena.private_pages().exact:
        pytest.skip(f"the backing {arena.backing} has no base image to tell private pages by")
    assert arena.private_pages().count == 0
    simulation.step(GrayScott.Inputs())
    assert arena.private_pages().count == 2 * 256 * 256 * 4 // 4096


@pytest.mark.parametrize("rate", [-0.1, 1.1, "fast"])
def test_a_rate_out_of_range_is_named(rate: Any) -> None:
    with pytest.raises(BadRequestError, match="feed"):
        GrayScott.convert_inputs({"feed": rate})


def test_a_rate_that_is_no_number_is_refused_and_changes_nothing() -> None:
    simulation = GrayScott.build(rows=16, cols=16)
    before = simulation.u.copy()
    with pytest.raises(BadRequestError, match="kill"):
        simulation.step(GrayScott.Inputs(kill=math.nan))
    np.testing.assert_array_equal(simulation.u, before)


@pytest.mark.parametrize("params", [{"rows": 0}, {"cols": 0}, {"seed": -1}])
def test_a_parameter_out_of_range_is_refused(params: dict[str, int]) -> None:
    with pytest.raises(BadRequestError):
        GrayScott.build(**params)
