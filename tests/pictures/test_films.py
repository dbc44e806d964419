"""Films of real runs, frame by frame: what they show, how many frames they have, and what stays behind."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from snapserv_client import Server, condition
from snapserv_client.errors import BadRequestError, NotFoundError, UnsupportedError
from snapserv_client.pictures import film_expansion, film_past, film_rewind, film_step
from snapserv_client.pictures.colours import field_colours, node_colour, value_colour
from snapserv_client.pictures.films import Palette, ffmpeg

from ..conftest import ServerProcess
from .conftest import PLATE, amount, frames

Serve = Callable[..., ServerProcess]
HEAT = field_colours("heat")


def test_a_film_of_a_step_has_a_frame_at_each_multiple_and_at_the_end(plate: Server, tmp_path: Path) -> None:
    main = plate.branch("main")
    path = tmp_path / "new" / "step.gif"
    done = film_step(path, main, 12, every=5, of="heat", record="hottest", limits=(3, 15))
    assert (done.step, done.ticks) == (15, 12)
    assert done.records.steps.tolist() == [5, 10, 15] == done.records["hottest"].tolist()
    assert main.info().step == 15
    film = frames(path)  # steps 3, 5, 10 and 15
    assert len(film) == 4
    assert len({frame.shape for frame in film}) == 1
    hot = [amount(frame, f"{HEAT}:1.0", 8) for frame in film]
    assert hot[-1] > 20_000 > 5_000 > max(hot[:-1])
    assert amount(film[2], f"{HEAT}:{7 / 12}", 8) > 20_000
    assert all(amount(frame, "#ffffff", 0) > 5_000 for frame in film)
    assert all(amount(frame, node_colour(main.id), 0) > 50 for frame in film)
    with Image.open(path) as film_:
        assert film_.info["loop"] == 0
        assert film_.info["duration"] == 100
        film_.seek(3)
        assert film_.info["duration"] == 1600
    assert path.stat().st_size < 60_000


def test_where_nothing_is_named_it_shows_what_changes(plate: Server, tmp_path: Path) -> None:
    path = tmp_path / "step.gif"
    film_step(path, plate.branch("main"), 3)
    colours = [[amount(frame, value_colour(value), 0) > 20_000 for value in (1, 2)] for frame in frames(path)]
    assert colours == [[False, False]] * 4, "it is heat: fixed comes first, and does not change"
    assert amount(frames(path)[-1], f"{HEAT}:1.0", 8) > 20_000
    film_step(path, plate.branch("main"), 2, of="kind")
    assert [amount(frame, value_colour(1), 0) > 20_000 for frame in frames(path)] == [False, True, False]
    film_step(path, plate.branch("main"), 2, of="cube[2,:,10:20]")
    assert len(frames(path)) == 3
    film_step(path, plate.branch("main"), 2, of="rod")
    assert amount(frames(path)[0], node_colour(plate.branch("main").id), 20) > 300
    for of, kind in (("cold", NotFoundError), ("cube", BadRequestError), ("label", BadRequestError)):
        with pytest.raises(kind):
            film_step(path, plate.branch("main"), 2, of=of)
    assert plate.branch("main").info().step == 12


def test_a_film_ends_where_the_run_does(serve: Serve, tmp_path: Path) -> None:
    with serve(PLATE, params={"lasts": 7}).connect() as server:
        main = server.branch("main")
        done = film_step(tmp_path / "a.gif", main, 10, every=2, until=condition("hottest >= 3"), snapshot="warm")
        assert (done.step, done.ticks, done.stopped) == (3, 3, True)
        assert done.snapshot is not None
        assert len(frames(tmp_path / "a.gif")) == 3  # steps 0, 2 and 3
        done = film_step(tmp_path / "b.gif", main, 10, every=2)
        assert (done.step, done.ticks) == (7, 4)
        assert len(frames(tmp_path / "b.gif")) == 4  # steps 3, 4, 6 and 7
        with pytest.raises(BadRequestError, match="finished"):
            film_step(tmp_path / "c.gif", main, 10)
        main.restore("root")
        film_step(tmp_path / "c.gif", main, 7)
        assert len(frames(tmp_path / "c.gif")) == 8


def test_what_renders_is_filmed_and_the_branch_does_not_notice(serve: Serve, tmp_path: Path) -> None:
    with serve("tests.simulations.plate:Rendered").connect() as server:
        main = server.branch("main")
        film_step(tmp_path / "frames.gif", main, 10, every=5)
        film = frames(tmp_path / "frames.gif")
        assert [int(np.median(frame[100:-100, 200:-200, 0])) for frame in film] == pytest.approx(
            [0, 100, 200], abs=8
        )
        assert main.call("rendered") == 0
        assert len(main.actions()) == 2  # steps of 5, twice, and that call
        assert {node.name for node in server.tree()} == {"root", "main"}
        film_step(tmp_path / "frames.gif", main, 2, of="heat")
        assert amount(frames(tmp_path / "frames.gif")[-1], f"{HEAT}:1.0", 8) > 20_000


def test_children_of_an_expansion_go_on_side_by_side(plate: Server, tmp_path: Path) -> None:
    three = plate.snapshot("three")
    before = [node.name for node in plate.tree()]
    inputs = [{"warm": 1.0}, {"warm": "far"}, [{"warm": 0.0}, {"warm": 2.0}], {"warm": -1.0}]
    path = tmp_path / "children.gif"
    outcomes = film_expansion(path, three, inputs, steps=4, every=3, of="heat", sum=["hottest"])
    plain = three.expand(inputs, steps=4, sum=["hottest"])
    assert [node.name for node in plate.tree()] == before
    assert [each.ok for each in outcomes] == [each.ok for each in plain] == [True, False, True, True]
    for one, other in zip(outcomes, plain, strict=True):
        assert (one.index, one.step, one.ticks, one.finished) == (
            other.index,
            other.step,
            other.ticks,
            other.finished,
        )
        assert (one.outputs, one.totals) == (other.outputs, other.totals)
    assert outcomes.to_frame()["hottest"].equals(plain.to_frame()["hottest"])
    film = frames(path)
    assert len(film) == 4  # 0, 3, 6 and 8 ticks
    assert amount(film[-1], f"{HEAT}:1.0", 8) > 10_000 > amount(film[0], f"{HEAT}:1.0", 8)
    low = [amount(frame, f"{HEAT}:0.0", 8) for frame in film]
    assert low[-1] > low[0]


def test_children_keep_the_streams_that_they_were_given(plate: Server, tmp_path: Path) -> None:
    main = plate.branch("main")
    before = [node.name for node in plate.tree()]
    outcomes = film_expansion(tmp_path / "a.gif", main, [{}] * 3, steps=6, every=2, of="heat", rng="split")
    assert len({outcome["drawn"] for outcome in outcomes}) == 3
    seeded = film_expansion(tmp_path / "a.gif", main, [{}], steps=6, every=4, of="heat", rng=7)
    assert seeded[0]["drawn"] == main.expand([{}], steps=6, rng=7)[0]["drawn"]
    same = film_expansion(tmp_path / "a.gif", main, [{}], steps=6, every=4, of="heat")
    assert same[0]["drawn"] == main.expand([{}], steps=6)[0]["drawn"] == main.step(6).outputs["drawn"]
    assert [node.name for node in plate.tree()] == before


def test_a_past_is_its_snapshots_and_a_rewind_shows_the_way(plate: Server, tmp_path: Path) -> None:
    main = plate.branch("main")
    main.step(3)
    six = main.snapshot("six")
    main.step(3)
    past = film_past(tmp_path / "past.gif", main, of="heat")
    assert [node.name for node in past] == ["root", "three", "six", "main"]
    film = frames(tmp_path / "past.gif")
    assert [amount(frame, node_colour(info.id), 0) > 30 for frame, info in zip(film, past, strict=True)] == [
        True
    ] * 4
    with Image.open(tmp_path / "past.gif") as film_:
        assert film_.info["duration"] == 600
    assert len(film_past(tmp_path / "past.gif", plate.snapshot("three"))) == 2
    main.restore("three")
    main.mark()
    main.step(2)
    main.snapshot("five")
    main.step(2)
    gone = film_rewind(tmp_path / "back.gif", main, of="heat", limits=(3, 7))
    assert (gone.step, main.info().step) == (3, 3)
    film = frames(tmp_path / "back.gif")
    assert len(film) == 3
    for frame, share in zip(film, (1.0, 0.5, 0.0), strict=True):
        assert amount(frame, f"{HEAT}:{share}", 8) > 20_000
    assert amount(film[1], node_colour(plate.snapshot("five").id), 0) > 30
    assert six.info().step == 6


def test_what_cannot_be_filmed_is_refused_before_anything_is_done(
    plate: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = plate.branch("main")
    for path, ticks, every, says in (
        ("a.avi", 3, 1, "no film"),
        ("a.gif", 10_000, 1, "10,001 frames"),
        ("a.gif", 3, 0, "every 0"),
    ):
        with pytest.raises(BadRequestError, match=says):
            film_step(tmp_path / path, main, ticks, every=every)
    with pytest.raises(BadRequestError, match="children"):
        film_expansion(tmp_path / "a.gif", main, [])
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(UnsupportedError, match="ffmpeg") as raised:
        film_step(tmp_path / "a.mp4", main, 3)
    assert "apt install ffmpeg" in raised.value.hint
    assert main.info().step == 3
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadRequestError, match="no mark"):
        film_rewind(tmp_path / "a.gif", main)


def test_an_mp4_has_the_same_frames(plate: Server, tmp_path: Path) -> None:
    try:
        program = ffmpeg()
    except UnsupportedError:
        pytest.skip("ffmpeg is not installed")
    path = tmp_path / "step.mp4"
    film_step(path, plate.branch("main"), 12, every=5, of="heat")
    said = subprocess.run(
        [program, "-hide_banner", "-i", path, "-map", "0:v", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert b"h264" in said.stderr
    (width, height), *_ = [
        tuple(map(int, each.split("x")))
        for each in said.stderr.decode().replace(",", " ").split()
        if _is_size(each)
    ]
    film = np.frombuffer(said.stdout, np.uint8).reshape(-1, height, width, 3).astype(int)
    assert len(film) == 4 + 15  # the last one is held
    assert amount(film[-1], f"{HEAT}:1.0", 12) > 20_000 > amount(film[0], f"{HEAT}:1.0", 12)


def _is_size(text: str) -> bool:
    width, x, height = text.partition("x")
    return bool(x) and width.isdigit() and height.isdigit() and int(width) > 100


def test_a_palette_has_what_stands_for_something_as_it_is() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    palette = Palette([noise])
    assert palette.colours.shape == (256, 3)
    exact = [tuple(bytes.fromhex(colour[1:])) for colour in (node_colour(3), value_colour(2), "#ffffff")]
    found = palette.colours[palette.indices(np.array([exact], np.uint8))][0]
    assert [tuple(each) for each in found] == exact
    apart = np.abs(palette.colours[palette.indices(noise)].astype(int) - noise).mean()
    assert apart < 20
