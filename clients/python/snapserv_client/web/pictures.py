"""Arrays as pictures: PNGs with a colour for each value, and what their colours mean.

matplotlib is not needed for that: a page makes many pictures, and each is a table of colours and bytes.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..figures import number
from ..plain import Array

FEW_VALUES = 12
"""A field of whole numbers with no more values than this has a colour for each."""
SAMPLED = 4096
KEPT_BYTES = 64 << 20
VIRIDIS = (
    "#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c",
    "#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725",
)  # fmt: skip
DIVERGING = (
    "#164a8c", "#2b6cb0", "#5b95cf", "#9cc1e4", "#d3e3f1", "#f3f3f1",
    "#f8ddcb", "#f0b08d", "#dd7a55", "#bf4530", "#8e1c1c",
)  # fmt: skip
DISTINCT = (
    "#a9bd8c", "#f26b21", "#3a332f", "#7f9fb5", "#f3e3a2", "#3f8fc4",
    "#8c6bb1", "#c94f6d", "#5aa469", "#b98b5e", "#d0d3d8", "#20639b",
)  # fmt: skip
NOTHING = "#00000000"
LABELS = re.compile(r"(-?\d+)\s*[=:]?\s+([a-z][a-z -]*?)(?=,|;|$|\.)", re.IGNORECASE)


@dataclass(frozen=True)
class Scale:
    """What the colours of a picture mean.

    Attributes:
        kind: Whether values have a colour each, or lie between two ends.
        low: The value of the first colour.
        high: The value of the last.
        stops: Colours from the lowest value to the highest.
        classes: By value, a colour and what the value means.
    """

    kind: Literal["classes", "range", "difference"]
    low: float = 0.0
    high: float = 1.0
    stops: tuple[str, ...] = VIRIDIS
    classes: dict[int, tuple[str, str]] = field(default_factory=dict)

    def gradient(self) -> str:
        """Return the colours as CSS writes them."""
        return f"linear-gradient(to right, {', '.join(self.stops)})"

    def ends(self) -> tuple[str, str]:
        """Return the lowest and the highest value as people read them."""
        return number(float(f"{self.low:.4g}")), number(float(f"{self.high:.4g}"))


def labels_of(doc: str) -> dict[int, str]:
    """Return what values mean, where a field's documentation says it, as in ``0 unburnt, 1 burning``."""
    found = {int(value): text.strip() for value, text in LABELS.findall(doc)}
    return found if len(found) > 1 else {}


def scale_of(*arrays: Array, doc: str = "") -> Scale:
    """Return one scale for all of some arrays."""
    there = [np.asarray(each) for each in arrays if each.size]
    if there and all(each.dtype.kind in "biu" for each in there):
        values = np.unique(np.concatenate([_few(each) for each in there]))
        labels = labels_of(doc)
        if len(values) <= FEW_VALUES:
            named = sorted({*labels, *map(int, values)}) if len(labels) <= FEW_VALUES else [*map(int, values)]
            places = {value: place for place, value in enumerate(named)}
            classes = {
                int(value): (DISTINCT[places[int(value)] % len(DISTINCT)], labels.get(int(value), ""))
                for value in values
            }
            return Scale("classes", classes=classes)
    low, high = _ends(there)
    return Scale("range", low, high)


def difference_scale(difference: Array) -> Scale:
    """Return a scale around 0."""
    low, high = _ends([difference])
    far = max(abs(low), abs(high)) or 1.0
    return Scale("difference", -far, far, DIVERGING)


def _few(array: Array) -> Array:
    """Return the values of an array, at most one more than are few."""
    if array.dtype.itemsize == 1 and array.dtype.kind in "bu":
        found: Array = np.flatnonzero(np.bincount(array.view(np.uint8).ravel(), minlength=256))
    else:
        found = np.unique(array.ravel()[:: max(1, array.size // SAMPLED)])
        found = found if len(found) > FEW_VALUES else np.unique(array)
    return found[: FEW_VALUES + 1].astype("O")


def _ends(arrays: list[Array]) -> tuple[float, float]:
    lows, highs = [], []
    for each in arrays:
        finite = each if each.dtype.kind in "biu" else each[np.isfinite(each)]
        if finite.size:
            lows.append(float(finite.min()))
            highs.append(float(finite.max()))
    return (min(lows), max(highs)) if lows else (0.0, 1.0)


def picture(array: Array, scale: Scale) -> bytes:
    """Return a 2-D array of numbers as a PNG; what is no number is transparent."""
    if scale.kind == "classes":
        values = sorted(scale.classes)
        palette = [scale.classes[value][0] for value in values]
        places = np.searchsorted(np.array(values, np.int64), array.astype(np.int64))
        return _png(places.clip(0, len(values) - 1).astype(np.uint8), palette)
    span = (scale.high - scale.low) or 1.0
    with np.errstate(all="ignore"):
        parts = (array.astype(np.float64) - scale.low) / span
    known = np.isfinite(parts)
    places = np.where(known, 1 + np.clip(np.nan_to_num(parts), 0, 1) * 254, 0).astype(np.uint8)
    return _png(places, [NOTHING, *_table(scale.stops, 255)])


def frame(array: Array) -> bytes:
    """Return a picture of bytes, shape (rows, columns, 3), as a PNG."""
    pixels = np.ascontiguousarray(array[:, :, :3], np.uint8)
    return _chunks(pixels.shape[1], pixels.shape[0], 2, b"", b"", pixels.reshape(len(pixels), -1))


def _table(stops: tuple[str, ...], count: int) -> list[str]:
    """Return so many colours between some."""
    known = np.array([[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in stops], float)
    at = np.linspace(0, len(stops) - 1, count)
    mixed = np.stack([np.interp(at, np.arange(len(stops)), known[:, each]) for each in range(3)], axis=1)
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in mixed.round().astype(int)]


def _png(places: Array, palette: list[str]) -> bytes:
    """Return a PNG of indices into a palette."""
    colours = b"".join(bytes.fromhex(each[1:7]) for each in palette)
    clear = bytes(int(each[7:9], 16) if len(each) > 7 else 255 for each in palette)
    return _chunks(places.shape[1], places.shape[0], 3, colours, clear, np.ascontiguousarray(places))


def _chunks(width: int, height: int, kind: int, palette: bytes, clear: bytes, lines: Array) -> bytes:
    rows = np.empty((height, lines.shape[1] + 1), np.uint8)
    rows[:, 0] = 0  # no filter
    rows[:, 1:] = lines
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    parts += [(b"PLTE", palette)] if palette else []
    parts += [(b"tRNS", clear)] if clear and min(clear) < 255 else []
    parts += [(b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b"")]
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


class Gallery:
    """Pictures that browsers fetch, by a checksum of what they are; the oldest go."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def put(self, png: bytes) -> str:
        """Keep a picture, and return its address."""
        name = hashlib.sha256(png).hexdigest()[:32]
        if name not in self._held:
            self._held[name] = png
            self._size += len(png)
            while self._size > KEPT_BYTES and len(self._held) > 1:
                self._size -= len(self._held.popitem(last=False)[1])
        self._held.move_to_end(name)
        return f"/pictures/{name}.png"

    def get(self, name: str) -> bytes | None:
        """Return a picture; None where there is none of that name any more."""
        return self._held.get(name)
