from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snapserv.cli.fires import draw_fires
from snapserv.errors import BadRequestError, UnsupportedError
from snapserv.ext.kernels import wildfire

Array = np.ndarray[Any, Any]


def pixels(path: Path) -> Array:
    from matplotlib.image import imread

    return np.round(imread(path)[:, :, :3] * 255).astype(int)


def near(picture: Array, colour: tuple[int, int, int]) -> int:
    """Count the pixels of about this colour."""
    return int((np.abs(picture - np.array(colour)).max(axis=2) < 12).sum())


def hills(rows: int, cols: int) -> Array:
    row, col = np.indices((rows, cols))
    heights: Array = (200 * np.sin(row / 40) * np.cos(col / 55)).astype(np.float32)
    return heights


def test_each_fire_is_drawn_and_its_edge_survives_shrinking(tmp_path: Path) -> None:
    elevation = hills(1500, 2100)
    calm, burning = np.zeros((1500, 2100), np.uint8), np.zeros((1500, 2100), np.uint8)
    burning[300:900, 400:1200] = wildfire.BURNT
    burning[300, 400:1200] = wildfire.BURNING  # one cell wide, and a pixel is three
    burning[200:1400, 1801] = wildfire.FIREBREAK
    before = np.zeros_like(calm)
    before[500:800, 600:1000] = wildfire.BURNT
    path = tmp_path / "new" / "folder" / "fires.png"
    draw_fires(
        path,
        elevation,
        {"calm": calm, "wind": burning},
        {"wind": "48 ha"},
        title="two futures",
        before=before,
        winds={"calm": (0.0, 0.0), "wind": (3.0, -4.0)},
        cell_m=7.3,
    )
    picture = pixels(path)
    left, right = np.array_split(picture, 2, axis=1)
    glow = (255, 210, 63)
    assert near(left, glow) == 0
    assert near(right, glow) > 200
    line = (np.abs(right - np.array((255, 251, 232))).max(axis=2) < 12).sum(axis=0).max()
    assert line > 0.35 * right.shape[0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3000), (64, 64)])
def test_a_map_of_any_shape_is_drawn(tmp_path: Path, shape: tuple[int, int]) -> None:
    state = np.full(shape, wildfire.BURNT, np.uint8)
    draw_fires(tmp_path / "a.png", hills(*shape), {"only": state}, before=state, cell_m=10)
    assert pixels(tmp_path / "a.png").size > 0


def test_fires_of_another_shape_or_none_are_refused(tmp_path: Path) -> None:
    elevation = hills(8, 8)
    with pytest.raises(BadRequestError, match="east"):
        draw_fires(tmp_path / "a.png", elevation, {"east": np.zeros((8, 9), np.uint8)})
    with pytest.raises(BadRequestError):
        draw_fires(tmp_path / "a.png", elevation, {})
    assert not (tmp_path / "a.png").exists()


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="pip install matplotlib"):
        draw_fires(tmp_path / "a.png", hills(8, 8), {"east": np.zeros((8, 8), np.uint8)})
