"""Pictures of nodes as they are, drawn of real servers and looked at dot by dot."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server
from snapserv_client.errors import BadRequestError, NotFoundError, UnsupportedError
from snapserv_client.pictures import draw_difference, draw_field, draw_pages, draw_records
from snapserv_client.pictures.colours import MISSING, PAGES, field_colours, node_colour
from snapserv_client.pictures.curves import Curves, curves
from snapserv_client.pictures.differences import Differing, Side, differences
from snapserv_client.pictures.facts import Facts
from snapserv_client.pictures.maps import Axis, Drawn
from snapserv_client.pictures.scales import Scale
from snapserv_client.pictures.strips import Strip, laid_out, strips
from snapserv_client.pictures.tiles import Tiles

from ..conftest import ServerProcess
from .conftest import amount, assert_legible, pixels

Serve = Callable[..., ServerProcess]
HEAT = field_colours("heat")


def test_a_map_has_the_colours_of_its_numbers_where_they_are(plate: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "heat.png"
    read = draw_field(path, plate.branch("main"), "heat")
    np.testing.assert_array_equal(read, plate.branch("main").read("heat"))
    picture = pixels(path)
    left, right = np.array_split(picture[:, : int(0.86 * picture.shape[1])], 2, axis=1)
    assert amount(left, f"{HEAT}:1.0") > 0.7 * left.shape[0] * left.shape[1]
    assert amount(right, f"{HEAT}:0.0") > 0.7 * right.shape[0] * right.shape[1]
    assert 600 < picture.shape[1] < 1600
    assert path.stat().st_size < 40_000
    draw_field(path, plate.branch("main"), "heat", limits=(0, 6))
    assert amount(pixels(path), f"{HEAT}:0.5", 4) > 0.3 * left.size / 3


def test_axes_have_coordinates_and_units_and_regions_their_places(plate: Server) -> None:
    main = plate.branch("main")
    facts = Facts.of(main)
    heat = facts.drawn("heat", None, main.read("heat"))
    assert heat.label == "temperature [K]"
    assert heat.axes == (Axis("y [m]", 0, 0.1), Axis("x [m]", 0, 0.25))
    assert heat.axes[1].ends(40) == (-0.125, 9.875)
    part = facts.drawn("heat", (slice(10, 20, 2), slice(4, None)), np.zeros((5, 36)))
    assert part.axes == (Axis("y [m]", 1.0, pytest.approx(0.2)), Axis("x [m]", 1.0, 0.25))
    cube = facts.drawn("cube", (2, slice(None, None), slice(5, 9)), np.zeros((30, 4)))
    assert (cube.label, cube.axes) == ("cube", (Axis("rows", 0, 1), Axis("cols", 5, 1)))
    assert facts.drawn("rod", (slice(3, 9),), np.zeros(6)).axes == (Axis("cols", 3, 1),)


@pytest.mark.parametrize(
    "array",
    [
        np.eye(30, dtype=bool),
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(10_000).reshape(100, 100),
        np.linspace(-1, 1, 600, dtype=np.float16).reshape(20, 30),
        np.full((5, 5), 3.5),
        np.zeros((5, 5), np.int64),
        np.array([[1.0, np.nan], [np.inf, -3.0]]),
        np.ones((1, 5000)),
        np.ones((5000, 1)),
        np.random.default_rng(0).random((3000, 2500)),
        np.arange(9)[::-1].reshape(3, 3).T,
        np.array([[-(2**63), 2**63 - 1]]),
        np.arange(1000) * 1e-7 + 1e6,
        np.array([3]),
    ],
    ids=lambda array: f"{array.dtype}-{'x'.join(map(str, array.shape))}",
)
def test_numbers_of_any_kind_and_shape_are_drawn_and_legible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: Any
) -> None:
    axes = tuple(Axis(name) for name in ("row", "column")[2 - array.ndim :])
    drawn = Drawn("field", "a quantity that is described at a length that no label has the room for", "K", axes)
    sheet = Tiles(drawn, [array], ["node · field · step 12,345"], Scale.of("field", [array])).sheet
    assert_legible(sheet, monkeypatch)
    sheet.save(tmp_path / "field.png")
    assert min(pixels(tmp_path / "field.png").shape[:2]) > 150
    missing = array.dtype.kind == "f" and not np.isfinite(array).all()
    assert (amount(pixels(tmp_path / "field.png"), MISSING) > 1000) == missing


def test_what_is_not_two_dimensional_needs_a_region(plate: Server, tmp_path: Path) -> None:
    main = plate.branch("main")
    with pytest.raises(BadRequestError, match=r"\(4, 30, 40\)") as raised:
        draw_field(tmp_path / "cube.png", main, "cube")
    assert "region" in raised.value.hint
    draw_field(tmp_path / "cube.png", main, "cube", np.s_[2])
    draw_field(tmp_path / "rod.png", main, "rod")
    assert amount(pixels(tmp_path / "rod.png"), node_colour(main.id), 40) > 300
    with pytest.raises(BadRequestError, match="dtype"):
        draw_field(tmp_path / "label.png", main, "label")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["cube.png", "rod.png"]


def test_a_difference_is_red_where_there_is_more_and_blue_where_there_is_less(
    plate: Server, tmp_path: Path
) -> None:
    warm, cold = plate.branch("warm"), plate.branch("cold")
    path = tmp_path / "diff.png"
    assert draw_difference(path, cold, warm, ["heat"]) == ["heat"]
    picture = pixels(path)
    third = picture[:, int(0.66 * picture.shape[1]) :]
    assert amount(third, "RdBu_r:1.0") > 20_000  # 15 more on the left
    assert amount(third, "RdBu_r:0.0") < 3_000  # the bar alone
    assert amount(third, "RdBu_r:0.5", 4) > 20_000
    a, b = np.array_split(picture[:, : int(0.6 * picture.shape[1])], 2, axis=1)
    assert amount(a, f"{HEAT}:0.0") > 20_000  # -2, the least of both
    assert amount(b, f"{HEAT}:1.0") > 20_000  # 13, the most of both
    assert amount(a, f"{HEAT}:1.0") < 3_000
    for node in (warm, cold):
        assert amount(picture, node_colour(node.id)) > 50
    draw_difference(path, warm, cold, ["heat"])
    third = pixels(path)[:, int(0.66 * picture.shape[1]) :]
    assert amount(third, "RdBu_r:0.0") > 20_000


def test_every_field_that_differs_is_drawn_or_named(plate: Server, tmp_path: Path) -> None:
    path = tmp_path / "diff.png"
    main = plate.branch("main")
    assert draw_difference(path, plate.branch("warm"), plate.snapshot("three")) == [
        "heat",
        "kind",
        "cube[2, :, :]",
        "rod",
    ]
    assert draw_difference(path, plate.branch("warm")) == ["heat", "kind", "cube[2, :, :]", "rod"]
    assert pixels(path).shape[1] < 2400
    path.unlink()
    assert draw_difference(path, main, plate.snapshot("three")) == []
    assert not path.exists()
    with pytest.raises(BadRequestError, match="count: 3 → 8") as raised:
        draw_difference(path, main, plate.branch("warm"), ["count", "label"])
    assert "label: " in raised.value.message


def test_differences_are_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = Side("before-the-wind-has-turned", "#4477aa", 1), Side("north", "#e07b39", 2)
    first, second = np.random.default_rng(0).random((2, 50, 60))
    flat, line = np.ones((5, 90)), np.arange(300)
    sea = Drawn("temperature", "temperature of the sea", "K", (Axis("y"), Axis("x")))
    rows = [
        Differing(sea, first, second),
        Differing(Drawn("flat", "flat", "", (Axis("row"), Axis("column"))), flat, 2 * flat),
        Differing(Drawn("line", "line", "m", (Axis("cells"),)), line, line[::-1]),
    ]  # fmt: skip
    assert_legible(
        differences(sides, rows, headline="before → north · step 3 → step 8", footnote="not drawn: count"),
        monkeypatch,
    )
    with pytest.raises(BadRequestError, match="13 fields"):
        differences(sides, rows[:1] * 13)


def test_records_of_several_nodes_lie_over_each_other_by_step(plate: Server, tmp_path: Path) -> None:
    path = tmp_path / "records.png"
    nodes = [plate.node(name) for name in ("main", "warm", "cold")]
    assert draw_records(path, nodes) == ["hottest", "mean(heat)"]
    picture = pixels(path)
    places = {}
    for node in nodes:
        rows, cols = np.nonzero(np.abs(picture - np.array(_rgb(node_colour(node.id)))).max(axis=2) <= 2)
        panel = rows < 0.48 * picture.shape[0]
        places[node.name] = rows[panel].min(), cols[panel].min(), cols[panel].max()
    assert places["main"][2] < places["warm"][2] * 0.45  # it ends at step 3 of 8
    assert places["warm"][1] > places["main"][2] - 10  # what they share is drawn once
    assert places["warm"][0] < places["cold"][0]  # higher up
    assert draw_records(path, nodes, ["hottest"], after=3) == ["hottest"]
    with pytest.raises(NotFoundError, match="coldest") as raised:
        draw_records(path, nodes, ["coldest"])
    assert "hottest" in raised.value.hint
    with pytest.raises(BadRequestError, match="nothing was recorded"):
        draw_records(path, [plate.snapshot("root")])


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def test_curves_are_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = np.arange(10) * 1000
    nodes = [
        Curves(f"a-branch-of-some-length-{number}", node_colour(number), "-", steps, {
            "reward": np.arange(10.0) * number, "done": np.arange(10) > 5, "observation[0]": np.full(10, np.nan)
        })
        for number in range(9)
    ]  # fmt: skip
    assert_legible(curves(nodes, ["reward", "done", "observation[0]"]), monkeypatch)


def test_pages_waste_no_paper(plate: Server, tmp_path: Path) -> None:
    main = plate.branch("main")
    path = tmp_path / "pages.png"
    draw_pages(path, main, plate.branch("warm"))
    picture = pixels(path)
    drawn = sum(amount(picture, colour) for name, colour in PAGES.items() if name != "absent")
    assert drawn > 0.45 * picture.shape[0] * picture.shape[1]
    for node in ("main", "warm"):
        assert amount(picture, node_colour(plate.node(node).id)) > 20
    blank = (picture.min(axis=2) > 250).all(axis=1)
    longest = max(map(len, "".join("x" if each else " " for each in blank[20:-20]).split()), default=0)
    assert longest < 30
    strip = np.abs(picture - np.array(_rgb(PAGES["base"]))).max(axis=2) <= 2
    ends = [np.nonzero(row)[0].max() for row in strip if row.sum() > 100]
    assert max(ends) - min(ends) < 40


@pytest.mark.parametrize("count", [1, 5, 95, 97, 1000, 65_537])
def test_a_strip_is_as_wide_as_the_sheet_whatever_its_pages(count: int) -> None:
    grid = laid_out(np.zeros(count, np.uint8), max(96, int(np.ceil(np.sqrt(4 * count)))))
    assert (grid >= 0).sum() == count
    assert (grid < 0).sum() < grid.shape[0] <= grid.shape[1]


def test_strips_are_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [
        Strip(field, node, node_colour(id), np.arange(size) % 6)
        for field, size in (("a-field-with-a-name-of-some-length", 3), ("b", 5000), ("c", 1))
        for id, node in ((3, "before-the-wind-has-turned-round"), (4, "north"))
    ]
    sheet = strips(pages, PAGES, headline="before and north · pages of 4,096 bytes · told by page numbers")
    assert_legible(sheet, monkeypatch)
    with pytest.raises(BadRequestError, match="no pages"):
        strips([], PAGES)
    with pytest.raises(BadRequestError, match="120 strips"):
        strips(pages * 20, PAGES)


def test_tiles_share_their_scale_and_are_legible(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn("state", "what a cell is", "", (Axis("y [km]", 0, 0.25), Axis("x [km]", 0, 0.25)))
    for count, shape in ((2, (40, 40)), (5, (30, 90)), (7, (90, 30)), (12, (200, 200))):
        arrays = [np.full(shape, number % 4) for number in range(count)]
        titles = [f"{number} · wind [8, {number}] · finished" for number in range(count)]
        tiles = Tiles(drawn, arrays, titles, Scale.of("state", arrays), headline="before · state · after 60 ticks")
        assert_legible(tiles.sheet, monkeypatch)
        height, width = tiles.sheet.pixels().shape[:2]
        assert 0.3 < height / width < 2.2, (count, shape)


def test_without_matplotlib_the_error_says_what_to_install(
    plate: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    main = plate.branch("main")
    for draw in (
        lambda: draw_field(tmp_path / "a.png", main, "heat"),
        lambda: draw_difference(tmp_path / "a.png", main),
        lambda: draw_records(tmp_path / "a.png", [main]),
    ):
        with pytest.raises(UnsupportedError, match="matplotlib") as raised:
            draw()
        assert raised.value.hint.startswith("pip install matplotlib")
