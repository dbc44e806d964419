"""Which numbers have which colours: the same in all pictures, and true to what is there."""

from __future__ import annotations

import numpy as np
import pytest
from snapserv_client.errors import BadRequestError
from snapserv_client.pictures.colours import (
    DASHES,
    MAPS,
    NODES,
    field_colours,
    node_colour,
    node_dashes,
    value_colour,
)
from snapserv_client.pictures.scales import Scale, check_drawable, difference
from snapserv_client.pictures.sheets import commonest_of_blocks, extreme_of_blocks, mean_of_blocks


def test_a_small_whole_number_has_its_colour_whatever_others_there_are() -> None:
    colours = {}
    for values in ([0, 1], [1, 2, 5], [5, 6], [1]):
        scale = Scale.of("state", [np.array([values], np.uint8)])
        assert (scale.kind, scale.values) == ("values", tuple(values))
        drawn = scale.drawn()
        for value in values:
            at = scale.numbers(np.array([[value]]))
            found = drawn["cmap"](drawn["norm"](at))[0, 0]
            assert colours.setdefault(value, tuple(found)) == tuple(found)
    assert len(set(colours.values())) == len(colours) == 5
    assert value_colour(1) == value_colour(13)
    assert Scale.of("state", [np.array([[True, False]])]).values == (0, 1)


def test_many_numbers_have_a_map_which_is_the_fields_own() -> None:
    first, second = np.arange(100.0).reshape(10, 10), -np.arange(9).reshape(3, 3) * 50
    both = Scale.of("heat", [first, second])
    assert (both.kind, both.low, both.high, both.beyond) == ("numbers", -400, 99, (False, False))
    assert both.colours == Scale.of("heat", [second]).colours == field_colours("heat")
    assert len({field_colours(name) for name in ("heat", "u", "v", "w", "height", "rho", "vx", "vy")}) == len(MAPS)
    limited = Scale.of("heat", [first], (10, 200))
    assert (limited.low, limited.high, limited.bar()["extend"]) == (10, 200, "min")
    assert Scale.of("state", [np.array([[0, 1]])], (0, 1)).kind == "numbers"
    assert Scale.of("heat", [first], None, "gray").colours == "gray"
    with pytest.raises(BadRequestError, match="no colour map 'grau'"):
        Scale.of("heat", [first], None, "grau").drawn()


def test_what_is_no_number_has_no_part_in_the_limits_and_is_left_out() -> None:
    scale = Scale.of("heat", [np.array([[1.0, np.nan], [np.inf, -3.0]])])
    assert (scale.low, scale.high) == (-3, 1)
    assert scale.numbers(np.array([[np.nan, 1.0, -np.inf]])).mask.tolist() == [[True, False, True]]
    assert Scale.of("heat", [np.full((2, 2), np.nan)]).drawn()["norm"].vmin < 0.5
    assert Scale.of("heat", [np.full((2, 2), 7.0)]).drawn()["norm"](7.0) == 0.5
    assert Scale.of("wide", [np.array([[-(2**63), 2**63 - 1]])]).high == 2**63 - 1


@pytest.mark.parametrize("dtype", ["u1", "u8", "i8", "i1", "?", "f2", "f8", "g"])
def test_a_difference_has_its_sign_in_every_dtype(dtype: str) -> None:
    least, most = (0, 1) if np.dtype(dtype).kind in "fb" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    found = difference(np.array([most, least, least], dtype), np.array([least, most, least], dtype))
    apart = float(int(most) - int(least))
    assert found.tolist() == [-apart, apart, 0]


def test_differences_have_as_much_room_below_zero_as_above() -> None:
    scale = Scale.about_zero([np.array([[-3.0, 1.0, np.nan]])])
    assert (scale.low, scale.high) == (-3, 3)
    drawn = scale.drawn()
    red, green, blue, _ = drawn["cmap"](drawn["norm"](0.0))
    assert min(red, green, blue) > 0.95
    assert drawn["cmap"](drawn["norm"](3.0))[0] > drawn["cmap"](drawn["norm"](3.0))[2]
    assert Scale.about_zero([np.zeros((2, 2))]).high == 1


def test_what_is_made_smaller_keeps_what_says_something() -> None:
    apart = np.zeros((30, 50))
    apart[17, 33], apart[2, 3] = -4.0, 3.0
    small = extreme_of_blocks(apart, 10)
    assert small.shape == (3, 5)
    assert small[1, 3] == -4
    assert small[0, 0] == 3
    assert mean_of_blocks(np.arange(16, dtype=np.uint8).reshape(4, 4), 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert mean_of_blocks(np.ones((1, 5)), 2).shape == (1, 2)
    kinds = np.zeros((700, 700), np.uint8)
    kinds[:, 350:] = 2
    kinds[300, :] = 1  # a line, one cell wide
    kinds[0, 0] = 3
    drawn = Scale.of("state", [kinds]).reduced(kinds, 7)
    assert drawn.shape == (100, 100)
    assert (drawn[42] == 1).all()
    assert drawn[0, 0] == 3
    assert ((drawn == 2).sum(), (drawn == 0).sum()) == (99 * 50, 99 * 50 - 1)
    noise = np.random.default_rng(0).random((700, 700)) < 0.4
    assert not commonest_of_blocks(noise, 7).astype(bool).mean() > 0.2  # what is common has to be in the majority


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2, 2)), np.zeros(()), np.zeros((0, 4)), np.zeros((2, 2), complex), np.array([["a"]])],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_what_is_no_map_and_no_line_is_refused(array: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(BadRequestError, match="a field"):
        check_drawable(array, "a field")


def test_nodes_of_one_colour_are_told_apart_by_their_dashes() -> None:
    looks = {(node_colour(id), node_dashes(id)) for id in range(len(NODES) * len(DASHES))}
    assert len(looks) == len(NODES) * len(DASHES)
    assert node_colour(3) == node_colour(3 + len(NODES))
