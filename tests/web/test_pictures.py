"""Fields as pictures: what colours mean, what of a field is read, and PNGs that others can read."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest
from matplotlib import image
from snapserv_client import aio
from snapserv_client.protocol import FieldInfo

from ..conftest import ServerProcess

pytest.importorskip("nicegui", reason="the page needs NiceGUI")
from snapserv_client.web import planes
from snapserv_client.web.forms import meanings, resolved
from snapserv_client.web.now import readings
from snapserv_client.web.pictures import VIRIDIS, Gallery, difference_scale, frame, labels_of, picture, scale_of


def drawn(png: bytes) -> np.ndarray:
    read = image.imread(io.BytesIO(png), format="png")
    return np.asarray((read * 255).round(), np.uint8)


def colour(text: str) -> list[int]:
    return [int(text[at : at + 2], 16) for at in (1, 3, 5)]


def test_whole_numbers_that_are_few_have_a_colour_and_a_name_each() -> None:
    values = np.array([[0, 1], [5, 1]], np.uint8)
    scale = scale_of(values, doc="0 unburnt, 1 burning, 2 burnt, 5 wet")
    assert {value: name for value, (_, name) in scale.classes.items()} == {0: "unburnt", 1: "burning", 5: "wet"}
    pixels = drawn(picture(values, scale))
    for at, value in np.ndenumerate(values):
        assert pixels[at][:3].tolist() == colour(scale.classes[value][0])
    same = scale_of(np.array([[5]], np.uint8), doc="0 unburnt, 1 burning, 2 burnt, 5 wet")
    assert same.classes[5] == scale.classes[5], "a class has its colour in every picture"


def test_other_numbers_lie_on_a_scale_and_what_is_none_is_transparent() -> None:
    values = np.array([[0.0, 10.0], [np.nan, 5.0]])
    scale = scale_of(values)
    assert (scale.low, scale.high) == (0.0, 10.0)
    pixels = drawn(picture(values, scale))
    assert pixels[0, 0][:3].tolist() == colour(VIRIDIS[0])
    assert pixels[0, 1][:3].tolist() == colour(VIRIDIS[-1])
    assert pixels[1, 0][3] == 0
    assert pixels[1, 1][3] == 255
    around = difference_scale(np.array([[-1.0, 3.0]]))
    assert (around.low, around.high) == (-3.0, 3.0)
    many = scale_of(np.arange(64, dtype=np.int32).reshape(8, 8))
    assert (many.kind, many.low, many.high) == ("range", 0.0, 63.0)


def test_a_frame_is_drawn_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    assert np.array_equal(drawn(frame(pixels))[:, :, :3], pixels)


@pytest.mark.parametrize(
    ("doc", "labels"),
    [
        ("0 none, otherwise 1 + 3 × vegetation + density", {}),
        ("1 = left; 2 = right", {1: "left", 2: "right"}),
        ("height above sea level", {}),
    ],
)
def test_names_of_values_are_found_where_a_field_is_documented(doc: str, labels: dict[int, str]) -> None:
    assert labels_of(doc) == labels


def test_the_same_picture_has_the_same_address_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapserv_client.web.pictures.KEPT_BYTES", 8)
    gallery = Gallery()
    first = gallery.put(b"12345")
    assert gallery.put(b"12345") == first
    assert gallery.get(first.removeprefix("/pictures/").removesuffix(".png")) == b"12345"
    gallery.put(b"67890")
    assert gallery.get(first.removeprefix("/pictures/").removesuffix(".png")) is None


def test_of_a_large_field_some_elements_are_read_and_of_others_means(
    fires: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planes, "MOST_PIXELS", 16)

    async def read(most_bytes: int) -> planes.Plane:
        monkeypatch.setattr(planes, "WHOLE_BYTES", most_bytes)
        async with await aio.connect(fires.endpoint) as server:
            info = next(each for each in (await server.spec()).fields if each.name == "elevation")
            return await planes.plane(await server.snapshot("root"), info, planes.first_view(info))

    with fires.connect() as client:
        whole = client.snapshot("root").read("elevation")
    strided, means = asyncio.run(read(0)), asyncio.run(read(1 << 20))
    assert (strided.stride, strided.shape, strided.exact) == (4, (128, 128), True)
    assert np.array_equal(strided.values, whole[::4, ::4])
    assert not means.exact
    assert np.allclose(means.values, whole.reshape(32, 4, 32, 4).mean(axis=(1, 3)))
    assert strided.value(0.5, 0.25)[:2] == (64, 32)
    assert strided.value(1.0, 1.0)[:2] == (127, 127)


def test_the_plane_that_is_shown_first_goes_through_the_middle() -> None:
    info = FieldInfo("box", "<f8", [4, 6, 8])
    assert planes.first_view(info) == planes.View(1, 2, (2, 0, 0))
    assert planes.can_be_drawn(info)
    assert not planes.can_be_drawn(FieldInfo("names", "<U8", [4, 6]))
    assert planes.can_be_plotted(FieldInfo("line", "|u1", [4]))


def test_what_is_to_be_recorded_is_typed_with_blanks_or_commas_between() -> None:
    assert readings("burnt_ha, mean(state) state[1, 2]") == ["burnt_ha", "mean(state)", "state[1, 2]"]
    assert readings("  ") == []


def test_schemas_are_followed_to_what_they_mean() -> None:
    root = {"$defs": {"Wind": {"type": "number"}}}
    assert resolved({"$ref": "#/$defs/Wind", "default": 1}, root) == {"type": "number", "default": 1}
    assert resolved({"anyOf": [{"type": "integer"}, {"type": "null"}]}, root) == {"type": "integer"}
    said = meanings("What acts.\n\nAttributes:\n    wind: Velocity,\n        in m/s.\n    water: Drops.")
    assert said == {"wind": "Velocity, in m/s.", "water": "Drops."}
