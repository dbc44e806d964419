"""What is on a picture: its pixels, and whether what is written on it can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image
from snapserv_client import Server
from snapserv_client.pictures.sheets import Sheet

from ..conftest import ServerProcess

Array = np.ndarray[Any, Any]
PLATE = "tests.simulations.plate:Plate"


def pixels(path: Path) -> Array:
    """Return a picture, shape (height, width, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def frames(path: Path) -> list[Array]:
    """Return the frames of a film."""
    with Image.open(path) as film:
        found = []
        for number in range(film.n_frames):  # type: ignore[attr-defined,unused-ignore]
            film.seek(number)
            found.append(np.asarray(film.convert("RGB")).astype(int))
        return found


def amount(picture: Array, colour: str, within: int = 2) -> int:
    """Return how many pixels have a colour, by its name or its place on a map: ``viridis:1.0``."""
    name, _, place = colour.partition(":")
    wanted = np.round(255 * np.array(colormaps[name](float(place))[:3] if place else to_rgb(colour))).astype(int)
    return int((np.abs(picture - wanted).max(axis=2) <= within).sum())


def assert_legible(sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that no text lies on another one, and that none is cut off."""
    figure, written = sheet._figure, []
    with monkeypatch.context() as patched:
        draw = RendererAgg.draw_text

        def noted(renderer: Any, *args: Any, mtext: Text | None = None, **options: Any) -> None:
            written.append(mtext)
            draw(renderer, *args, mtext=mtext, **options)

        patched.setattr(RendererAgg, "draw_text", noted)
        sheet.pixels()
    shown = {id(each): each for each in written if each is not None}.values()
    boxes = [(each.get_text(), each.get_window_extent()) for each in shown]
    assert len(boxes) > 3
    for number, (text, box) in enumerate(boxes):
        for other, its in boxes[number + 1 :]:
            across = min(box.x1, its.x1) - max(box.x0, its.x0)
            assert min(across, min(box.y1, its.y1) - max(box.y0, its.y0)) < 1.5, (text, other)
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in boxes:
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text


@pytest.fixture
def plate(serve: Callable[..., ServerProcess]) -> Iterator[Server]:
    """A server of a plate: main at step 3, the snapshot ``three`` there, and ``warm`` and ``cold`` at step 8."""
    with serve(PLATE).connect() as server:
        main = server.branch("main")
        main.record(["hottest", "mean(heat)"])
        main.step(3)
        three = main.snapshot("three")
        warm, cold = three.branch(names=["warm", "cold"])
        warm.step(5, warm=2.0)
        cold.step(5, warm=-1.0)
        yield server
