"""Fields of a node as pictures: which field, which plane of it, what the colours mean, and the value at a place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from nicegui import events
from nicegui.element import Element

from ..figures import said
from ..protocol import FieldInfo, SpecResult
from .parts import Choice, Picked, Slider, box, text
from .pictures import Scale, picture
from .planes import Plane, View, can_be_drawn
from .seen import Seen, shown_fields

POINTED = "(e) => emit([e.offsetY / e.target.clientHeight, e.offsetX / e.target.clientWidth])"


class Picture:
    """A picture of a plane, with the value that is pointed at.

    Args:
        seen: Who looks.
        label: What it is of, for those who cannot see it.
        pointed: Where the value goes that is pointed at.
    """

    def __init__(self, seen: Seen, label: str, pointed: Element | None = None) -> None:
        self._seen = seen
        self._plane: Plane | None = None
        self._pointed = text("", "pointed") if pointed is None else pointed
        with box("map cross") as self.place:
            self._image = box(tag="img", alt=label)
        self._image.on("mousemove", self._point, js_handler=POINTED, throttle=0.08)
        self._label = label

    async def show(self, plane: Plane, scale: Scale) -> None:
        """Show a plane in the colours of a scale."""
        png = await asyncio.to_thread(picture, plane.values, scale)
        self._plane = plane
        self._image.props["src"] = self._seen.gallery.put(png)
        rows, columns = plane.shape
        self._image.style(f"aspect-ratio: {columns} / {rows}")
        self.place.style(f"--ratio: {columns / rows:.4f}")

    def _point(self, event: events.GenericEventArguments) -> None:
        if self._plane is None or not isinstance(event.args, list):
            return
        down, right = (min(max(float(each or 0), 0.0), 1.0) for each in event.args)
        row, column, value = self._plane.value(down, right)
        if hasattr(self._pointed, "set_text"):
            self._pointed.set_text(f"[{row:,}, {column:,}] {value}")


def legend(place: Element, scale: Scale, units: str) -> None:
    """Write what the colours of a picture mean."""
    place.clear()
    with place:
        if scale.kind == "classes":
            for value, (colour, meaning) in sorted(scale.classes.items()):
                with box(tag="span"):
                    box(tag="i").style(f"background: {colour}")
                    text(meaning or str(value))
            return
        low, high = scale.ends()
        text(low, "mono")
        box("ramp").style(f"background: {scale.gradient()}")
        text(f"{high} {units}".rstrip(), "mono")


class Chosen:
    """Which field is shown, and which plane of it: buttons for fields, and sliders where there are more axes.

    Args:
        seen: Who looks.
        spec: The simulation.
        on_change: Called when another is to be shown.
    """

    def __init__(self, seen: Seen, spec: SpecResult, on_change: Callable[[], object]) -> None:
        self._seen = seen
        self._spec = spec
        self._on_change = on_change
        info = seen.field_of(spec)
        with box("column-of"):
            self._picked = Picked(
                shown_fields(spec), [info.name] if info else [], self._pick, label="field that is shown"
            )
            self._axes = box("row-of")
        self._draw_axes()

    @property
    def field(self) -> FieldInfo | None:
        """The field."""
        return self._seen.field_of(self._spec)

    @property
    def view(self) -> View | None:
        """The plane; None of what has none."""
        info = self.field
        return None if info is None or not can_be_drawn(info) else self._seen.view_of(self._spec, info)

    def _pick(self, name: str) -> object:
        self._seen.fields[self._spec.simulation] = name
        self._picked.show([name])
        self._draw_axes()
        return self._on_change()

    def _draw_axes(self) -> None:
        """Draw how to choose a plane, where a field has more than two axes."""
        self._axes.clear()
        info, view = self.field, self.view
        if info is None or view is None or len(info.shape) < 3:
            return
        names = axis_names(info)
        others = [axis for axis in range(len(info.shape)) if axis not in (view.down, view.right)]
        with self._axes:
            if len(info.shape) == 3:
                text("cut across", "soft")
                Choice(
                    "axis that is cut across",
                    {str(axis): names[axis] for axis in range(3)},
                    str(others[0]),
                    on_change=lambda axis: self._cut(info, int(axis)),
                ).style("width: 90px")
            for axis in others:
                self._slider(info, view, axis, names[axis])

    def _slider(self, info: FieldInfo, view: View, axis: int, name: str) -> None:
        size = info.shape[axis]
        shown = text(f"{name} {view.at[axis]:,} of {size:,}", "mono soft")

        def move(place: int) -> object:
            known = self.view or view
            at = tuple(place if each == axis else old for each, old in enumerate(known.at))
            self._keep(info, View(known.down, known.right, at))
            shown.set_text(f"{name} {place:,} of {size:,}")
            return self._on_change()

        Slider(f"place on {name}", 0, size - 1, view.at[axis], move).classes("grow")

    def _cut(self, info: FieldInfo, axis: int) -> object:
        down, right = (each for each in range(3) if each != axis)
        self._keep(info, View(down, right, tuple(size // 2 for size in info.shape)))
        self._draw_axes()
        return self._on_change()

    def _keep(self, info: FieldInfo, view: View) -> None:
        self._seen.planes[self._spec.simulation, info.name] = view


def axis_names(info: FieldInfo) -> Sequence[str]:
    """Return what the axes of a field are called."""
    dims = info.dims or [""] * len(info.shape)
    return [name or f"axis {axis}" for axis, name in enumerate(dims)]


def about(info: FieldInfo) -> str:
    """Return a field on a line: what it is, its shape, and what it means."""
    from ..figures import dtype_name

    parts = [f"{dtype_name(info.dtype)} {said(info.shape)}", info.units, info.doc]
    return " · ".join(part for part in parts if part)
