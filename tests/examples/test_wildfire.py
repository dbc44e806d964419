from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples import terrain
from examples.wildfire import DIRECTIONS, SLOPE_A, Wildfire, catching, wind_factors
from snapserv.errors import BadRequestError, UnsupportedError
from snapserv.ext.kernels import wildfire as kernel
from snapserv.memory.arena import PAGE, Arena

Array = np.ndarray[Any, Any]

exp = np.frompyfunc(math.exp, 1, 1)  # the same libm that the kernel calls; numpy's own exp differs in the last bit
atan = np.frompyfunc(math.atan, 1, 1)


def splitmix(key: int, counters: Array) -> Array:
    golden, first, second = (
        np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
    )
    z = np.uint64(key) + (counters.astype(np.uint64) + np.uint64(1)) * golden
    z = (z ^ (z >> np.uint64(30))) * first
    z = (z ^ (z >> np.uint64(27))) * second
    return z ^ (z >> np.uint64(31))


class Map:
    """The automaton twice: the kernel on a front, and plain NumPy over the whole map."""

    def __init__(self, rows: int, cols: int, seed: int, *, burning: float = 0.05, others: float = 0.2) -> None:
        rng = np.random.default_rng(seed)
        self.state = np.zeros((rows, cols), np.uint8)
        drawn = rng.random((rows, cols))
        self.state[drawn < others] = rng.choice(
            [kernel.BURNT, kernel.NO_FUEL, kernel.FIREBREAK, kernel.WET], size=int((drawn < others).sum())
        )
        self.fuel = rng.integers(1, 10, (rows, cols), dtype=np.uint8)
        self.elevation = (60 * rng.standard_normal((rows, cols))).astype(np.float32)
        self.cell_m = 23.7
        self.catches = catching(0.58)
        self.wind = wind_factors(tuple(6 * rng.standard_normal(2)))
        self.key = int(rng.integers(2**63)) * 2 + 1
        self.front = np.full(rows * cols, -1, np.int32)
        self.tick = self.count = 0
        for row, col in np.argwhere(rng.random((rows, cols)) < burning):
            self.ignite(row, col)

    def ignite(self, row: int, col: int) -> None:
        self.count = kernel.ignite(self.state, self.front, self.at_top, self.count, row, col)

    @property
    def at_top(self) -> bool:
        return self.tick % 2 == 1

    @property
    def burning(self) -> list[int]:
        entries = self.front[::-1] if self.at_top else self.front
        return sorted(entries[: self.count].tolist())

    def spread(self) -> int:
        self.count, burnt = kernel.spread(
            self.state,
            self.fuel,
            self.elevation,
            self.front,
            self.at_top,
            self.count,
            self.catches,
            self.wind,
            self.cell_m,
            SLOPE_A,
            self.key,
        )
        self.tick += 1
        return burnt

    def reference(self) -> Array:
        rows, cols = self.state.shape
        following = self.state.copy()
        from_row, from_col = np.nonzero(self.state == kernel.BURNING)
        for direction, (east, north) in enumerate(DIRECTIONS):
            row, col = from_row - north, from_col + east
            inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
            row, col, here = row[inside], col[inside], (from_row[inside], from_col[inside])
            run = self.cell_m * math.sqrt(2) if east and north else self.cell_m
            rise = self.elevation[row, col].astype(float) - self.elevation[here].astype(float)
            degrees = atan(rise / run).astype(float) * math.degrees(1)
            chance = self.catches[self.fuel[row, col]] * self.wind[direction] * exp(SLOPE_A * degrees).astype(float)
            tossed = splitmix(self.key, (here[0] * cols + here[1]) * 8 + direction) >> np.uint64(11)
            caught = (tossed.astype(float) * 2.0**-53 < chance) & (self.state[row, col] == kernel.UNBURNT)
            following[row[caught], col[caught]] = kernel.BURNING
        following[from_row, from_col] = kernel.BURNT
        return following


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena()
    yield arena
    arena.close()


# ------------------------------------------------------------------------------------------------------ the kernel


def test_the_toss_is_splitmix64_as_published() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix(1234567, np.arange(4)).tolist() == published
    assert [kernel.toss(1234567, index) for index in range(4)] == [(z >> 11) * 2.0**-53 for z in published]


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 40), (40, 1), (2, 2), (3, 3), (7, 64), (60, 41)])
@pytest.mark.parametrize("seed", range(6))
def test_a_tick_gives_the_bits_of_the_numpy_reference(shape: tuple[int, int], seed: int) -> None:
    fire = Map(*shape, seed, burning=0.3 if min(shape) < 4 else 0.01)
    for _ in range(80):
        expected, before = fire.reference(), fire.count
        assert fire.spread() == before
        np.testing.assert_array_equal(fire.state, expected)
        assert fire.burning == np.flatnonzero(fire.state == kernel.BURNING).tolist()


def test_fire_from_a_corner_reaches_every_other_corner_and_no_cell_off_the_map() -> None:
    for corner in [(0, 0), (0, 19), (11, 0), (11, 19)]:
        fire = Map(12, 20, 0, burning=0, others=0)
        fire.catches[:], fire.wind[:], fire.elevation[:] = 1, 1, 0
        fire.ignite(*corner)
        for _ in range(20):
            assert fire.count > 0
            fire.spread()
        assert fire.count == 0
        assert (fire.state == kernel.BURNT).all()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_the_front_holds_any_fire_that_the_map_can_hold(step: int) -> None:
    fire = Map(30, 31, 1, burning=0, others=0)
    fire.catches[:], fire.wind[:], fire.elevation[:] = 1, 1, 0
    fire.spread()
    for row in range(0, 30, step):
        for col in range(0, 31, step):
            fire.ignite(row, col)
    while fire.count:
        expected = fire.reference()
        fire.spread()
        np.testing.assert_array_equal(fire.state, expected)
    assert (fire.state == kernel.BURNT).all()


def test_a_cell_that_was_put_out_sets_nothing_on_fire() -> None:
    fire = Map(9, 9, 2, burning=0, others=0)
    fire.catches[:], fire.elevation[:] = 1, 0
    fire.ignite(4, 4)
    kernel.douse(fire.state, 4, 4, 0)
    assert (fire.spread(), fire.count) == (0, 0)
    assert np.flatnonzero(fire.state).tolist() == [4 * 9 + 4]


@pytest.mark.parametrize(
    "ends", [(0, 20, 39, 20), (20, 0, 20, 39), (0, 0, 39, 39), (39, 3, 0, 33), (12, 0, 31, 39)]
)
def test_fire_does_not_pass_a_firebreak(ends: tuple[int, int, int, int]) -> None:
    fire = Map(40, 40, 3, burning=0, others=0)
    fire.catches[:], fire.wind[:], fire.elevation[:] = 1, 1, 0
    kernel.dig(fire.state, *ends)
    start = next(tuple(cell) for cell in np.argwhere(fire.state == kernel.UNBURNT))
    fire.ignite(*start)
    while fire.count:
        fire.spread()
    left = int((fire.state == kernel.UNBURNT).sum())
    assert left > 0
    assert left + (fire.state == kernel.BURNT).sum() + (fire.state == kernel.FIREBREAK).sum() == 1600


def test_a_firebreak_is_three_cells_wide_and_spares_what_is_not_unburnt() -> None:
    state = np.zeros((7, 9), np.uint8)
    state[3] = [0, 1, 2, 3, 4, 5, 0, 0, 0]
    kernel.dig(state, 3, 1, 3, 7)
    assert (state[2] == kernel.FIREBREAK).all()
    assert (state[4] == kernel.FIREBREAK).all()
    assert (state[[0, 1, 5, 6]] == kernel.UNBURNT).all()
    assert state[3].tolist() == [4, 1, 2, 3, 4, 5, 4, 4, 4]


def test_a_drop_is_a_disc_that_wets_what_burns_or_could() -> None:
    state = np.zeros((21, 21), np.uint8)
    state[10, 8:13] = [1, 2, 3, 4, 5]
    kernel.douse(state, 10, 10, 6)
    row, col = np.indices(state.shape)
    expected = np.where((row - 10) ** 2 + (col - 10) ** 2 <= 36, kernel.WET, 0)
    expected[10, 8:13] = [5, 2, 3, 4, 5]
    np.testing.assert_array_equal(state, expected)
    kernel.douse(state, -5, 30, 100)
    assert not (state == kernel.UNBURNT).any()


def test_a_front_that_somebody_overwrote_is_an_error_and_never_a_crash() -> None:
    for entry in (-1, 100, 2**31 - 1):
        fire = Map(10, 10, 4, burning=0, others=0)
        fire.ignite(5, 5)
        fire.front[0] = entry
        with pytest.raises(ValueError, match="front names cell"):
            fire.spread()
    for count in (-1, 101):
        fire = Map(10, 10, 4, burning=0, others=0)
        fire.count = count
        with pytest.raises(ValueError, match="a front of"):
            fire.spread()
        with pytest.raises(ValueError, match="a front of"):
            fire.ignite(1, 1)
    fire = Map(10, 10, 4, burning=1, others=0)
    fire.state[:], fire.catches[:] = kernel.UNBURNT, 1000
    fire.state[5, 5] = kernel.BURNING
    with pytest.raises(ValueError, match="two ends of the front meet"):
        fire.spread()


def test_an_action_off_the_map_is_an_error() -> None:
    fire = Map(4, 6, 5)
    for place in [(-1, 0), (4, 0), (0, -1), (0, 6)]:
        with pytest.raises(IndexError):
            fire.ignite(*place)
        with pytest.raises(IndexError):
            kernel.dig(fire.state, *place, 0, 0)
        with pytest.raises(IndexError):
            kernel.dig(fire.state, 0, 0, *place)
    with pytest.raises(ValueError, match="no drop"):
        kernel.douse(fire.state, 0, 0, -1)


# ------------------------------------------------------------------------------------------------------- the model


def test_wind_acts_as_in_the_paper() -> None:
    assert wind_factors((0.0, 0.0)).tolist() == [1.0] * 8
    east = wind_factors((10.0, 0.0))
    assert east[2] == pytest.approx(math.exp(0.045 * 10))
    assert east[6] == pytest.approx(math.exp(0.045 * 10) * math.exp(0.131 * 10 * -2))
    assert east[1] == pytest.approx(math.exp(0.045 * 10) * math.exp(0.131 * 10 * (math.sqrt(0.5) - 1)))
    assert wind_factors((0.0, 10.0)) == pytest.approx(np.roll(east, -2))


def test_fuel_acts_as_in_the_paper() -> None:
    chances = catching(0.58)
    assert chances[terrain.NO_FUEL] == 0
    assert chances[terrain.fuel_class(terrain.THICKETS, terrain.NORMAL)] == 0.58
    assert chances[terrain.fuel_class(terrain.PINE, terrain.DENSE)] == pytest.approx(0.58 * 1.4 * 1.3)
    assert chances[terrain.fuel_class(terrain.AGRICULTURAL, terrain.SPARSE)] == pytest.approx(0.58 * 0.7 * 0.6)


def test_fire_runs_with_the_wind_and_uphill() -> None:
    def centre(wind: tuple[float, float], hill: tuple[float, float] = (0, 0)) -> Array:
        fire = Map(161, 161, 6, burning=0, others=0)
        fire.fuel[:] = terrain.fuel_class(terrain.THICKETS, terrain.NORMAL)
        row, col = np.indices(fire.state.shape)
        fire.elevation[:] = fire.cell_m * (hill[0] * row + hill[1] * col)
        fire.wind = wind_factors(wind)
        fire.ignite(80, 80)
        for _ in range(60):
            fire.spread()
        assert (fire.state == kernel.BURNT).sum() > 200
        moved: Array = np.argwhere(fire.state == kernel.BURNT).mean(axis=0) - 80
        return moved

    assert centre((8.0, 0.0))[1] > 10
    assert centre((-8.0, 0.0))[1] < -10
    assert centre((0.0, 8.0))[0] < -10
    assert centre((0.0, -8.0))[0] > 10
    assert centre((0.0, 0.0), hill=(-0.3, 0))[0] < -10
    assert centre((0.0, 0.0), hill=(0, 0.3))[1] > 10


# -------------------------------------------------------------------------------------------------- the simulation


def test_the_simulation_is_the_kernel_on_its_fields(arena: Arena) -> None:
    simulation = Wildfire.build(arena, rows=96, cols=80, seed=3)
    fire = Map(96, 80, 0, burning=0, others=0)
    fire.state[:], fire.fuel, fire.elevation = simulation.state, simulation.fuel, simulation.elevation
    fire.cell_m, fire.key = simulation.cell_side_m(), int(simulation.stream)
    fire.wind = wind_factors((3.0, 2.0))
    for tick in range(1, 60):
        outputs = simulation.step(Wildfire.Inputs(wind=(3.0, 2.0)))
        fire.state[:] = fire.reference()
        np.testing.assert_array_equal(simulation.state, fire.state)
        burning, burnt = (int((fire.state == code).sum()) for code in (kernel.BURNING, kernel.BURNT))
        hectares = simulation.cell_side_m() ** 2 / 10_000
        assert outputs == {
            "burning_ha": burning * hectares,
            "burnt_ha": burnt * hectares,
            "burning_cells": burning,
            "tick": tick,
        }
    assert burnt > 500


def test_actions_may_be_repeated_on_every_tick() -> None:
    once, always = (Wildfire.build(rows=64, cols=64) for _ in range(2))
    actions = Wildfire.Inputs(firebreaks=[(10, 10, 10, 50)], water=[(40, 40, 5)], ignite=[(32, 20)])
    for tick in range(40):
        once.step(actions if tick == 0 else Wildfire.Inputs())
        always.step(actions)
        np.testing.assert_array_equal(once.state, always.state)
    assert (once.state == kernel.FIREBREAK).any()
    assert (once.state == kernel.WET).any()


def test_the_same_seed_gives_the_same_fire_and_another_seed_another() -> None:
    first, again, reseeded = (Wildfire.build(rows=64, cols=64, seed=5) for _ in range(3))
    again.on_branch(None)
    reseeded.on_branch(77)
    for _ in range(30):
        for fire in (first, again, reseeded):
            fire.step(Wildfire.Inputs())
    np.testing.assert_array_equal(first.state, again.state)
    assert (first.state != reseeded.state).any()


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"wind": (math.nan, 0.0)}, "wind"),
        ({"wind": (math.inf, 0.0)}, "wind"),
        ({"wind": (80.0, 80.0)}, "wind"),
        ({"firebreaks": [(0, 0, 5, 5), (0, 0, 32, 5)]}, r"firebreaks\[1\]"),
        ({"firebreaks": [(-1, 0, 5, 5)]}, r"firebreaks\[0\]"),
        ({"water": [(0, 48, 1)]}, r"water\[0\]"),
        ({"water": [(0, 0, -1)]}, r"water\[0\]: the radius"),
        ({"water": [(0, 0, 10**30)]}, r"water\[0\]: the radius"),
        ({"ignite": [(0, 10**30)]}, r"ignite\[0\]"),
    ],
)
def test_an_input_out_of_range_is_named_and_changes_nothing(inputs: dict[str, Any], named: str) -> None:
    simulation = Wildfire.build(rows=32, cols=48)
    before = simulation.state.copy()
    actions = {"firebreaks": [(1, 1, 1, 9)], "water": [(5, 5, 3)], "ignite": [(3, 3)], **inputs}
    with pytest.raises(BadRequestError, match=named):
        simulation.step(Wildfire.Inputs(**actions))
    np.testing.assert_array_equal(simulation.state, before)
    assert simulation.tick == 0


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({"wind": 3}, "wind"),
        ({"wind": [1.0, 2.0, 3.0]}, "wind"),
        ({"firebreaks": [[1, 2, 3]]}, "firebreaks"),
        ({"ignite": [[1.5, 2]]}, "ignite"),
        ({"water": [[1, 2, 3]] * 1001}, "water"),
    ],
)
def test_an_input_of_the_wrong_type_is_named(raw: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequestError, match=named):
        Wildfire.convert_inputs(raw)


@pytest.mark.parametrize(
    "params", [{"rows": 0}, {"cols": -3}, {"p_h": 1.5}, {"p_h": math.nan}, {"seed": -1}, {"fire_row": 16}]
)
def test_a_parameter_out_of_range_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        Wildfire.build(**{"rows": 16, "cols": 16, **params})


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3)])
def test_maps_of_any_shape_burn(shape: tuple[int, int]) -> None:
    simulation = Wildfire.build(rows=shape[0], cols=shape[1], p_h=1.0)
    for _ in range(10):
        outputs = simulation.step(Wildfire.Inputs())
    assert outputs["burnt_ha"] > 0


def test_a_fire_writes_only_pages_that_it_reaches(arena: Arena) -> None:
    simulation = Wildfire.build(arena, rows=1024, cols=PAGE)  # a row of state is a page
    arena.seal()
    if not arena.private_pages().exact:
        pytest.skip(f"the backing {arena.backing} has no base image to tell private pages by")
    before = simulation.state.copy()
    largest = 0
    for _ in range(60):
        largest = max(largest, int(simulation.burning_cells))
        simulation.step(Wildfire.Inputs(wind=(4.0, 0.0), firebreaks=[(500, 2000, 520, 2010)]))
    largest = max(largest, int(simulation.burning_cells))
    changed = int((simulation.state != before).any(axis=1).sum())
    assert 60 < changed < 200
    assert arena.private_pages("state").count == changed
    assert arena.private_pages("front").count <= 2 * -(-largest * 4 // PAGE)
    assert arena.private_pages("elevation").count == arena.private_pages("fuel").count == 0


# ------------------------------------------------------------------------------------------------------ the terrain


def test_resampling_meets_the_grid_where_the_grid_is_and_goes_on_flat_beyond() -> None:
    grid = np.random.default_rng(0).standard_normal((7, 9)).astype(np.float32)
    np.testing.assert_array_equal(terrain.resample(grid, np.arange(7.0), np.arange(9.0)), grid)
    middle = terrain.resample(grid, np.array([2.5]), np.array([3.5]))
    assert middle[0, 0] == pytest.approx(grid[2:4, 3:5].mean(), abs=1e-6)
    beyond = terrain.resample(grid, np.array([-4.0, 20.0]), np.array([-1.0, 8.5]))
    np.testing.assert_array_equal(beyond, grid[np.ix_([0, -1], [0, -1])])
    assert terrain.resample(grid[:1, :1], np.array([0.3]), np.array([0.7]))[0, 0] == grid[0, 0]


def test_cells_are_square_and_the_map_lies_in_the_middle_of_the_survey() -> None:
    survey = terrain.load_survey()
    for rows, cols in [(1, 1), (100, 100), (64, 256), (300, 20)]:
        window = terrain.place(survey, rows, cols)
        assert (len(window.rows), len(window.cols)) == (rows, cols)
        assert window.rows.mean() == pytest.approx(171.5)
        assert window.cols.mean() == pytest.approx(201)
        assert np.allclose(np.diff(window.rows) * survey.row_m, window.cell_m)
        assert np.allclose(np.diff(window.cols) * survey.col_m, window.cell_m)
        assert window.rows.min() >= -0.5
        assert window.cols.max() <= 402.5
    assert terrain.place(survey, 1024, 1024).cell_m == pytest.approx(29.3, abs=0.1)


def test_the_same_place_has_the_same_fuel_on_maps_of_every_size() -> None:
    coarse, fine = Wildfire.build(rows=100, cols=100), Wildfire.build(rows=300, cols=300)
    np.testing.assert_allclose(coarse.elevation, fine.elevation[1::3, 1::3], atol=0.01)
    assert (coarse.fuel == fine.fuel[1::3, 1::3]).mean() > 0.999
    assert sorted(np.unique(fine.fuel)) == list(range(10))
    assert (Wildfire.build(rows=100, cols=100, seed=1).fuel != coarse.fuel).mean() > 0.2


def test_setup_does_not_import_matplotlib_into_the_process_that_forks() -> None:
    program = "import sys; from examples.wildfire import Wildfire; Wildfire.build(rows=8, cols=8)\n"
    program += "print([name for name in sys.modules if name.startswith(('matplotlib', 'scipy', 'pandas'))])"
    root = Path(__file__).resolve().parents[2]
    assert subprocess.check_output([sys.executable, "-c", program], cwd=root, text=True) == "[]\n"


def test_without_the_elevation_model_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'snapserv\[demo\]'"):
        Wildfire.build(rows=8, cols=8)
