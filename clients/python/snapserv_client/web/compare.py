"""Two nodes side by side, and their difference: a field in one scale of colours, and all fields in numbers."""

from __future__ import annotations

import asyncio

import numpy as np
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from ..display import by_how_much, where
from ..errors import SnapservError
from ..plain import Array
from ..protocol import NodeInfo, SpecResult
from .charts import curve
from .doing import Doing
from .fields import Chosen, Picture, legend
from .parts import Choice, box, listed, text
from .pictures import Scale, difference_scale, scale_of
from .planes import Plane, line, plane
from .seen import Seen, said_of


class Compare:
    """A node beside another one.

    Args:
        seen: Who looks.
        node: The node's id.
        spec: Its simulation.
        doing: Where it is said what is done.
    """

    def __init__(self, seen: Seen, node: int, spec: SpecResult, doing: Doing) -> None:
        self._seen = seen
        self._session = seen.session
        self._node = node
        self._spec = spec
        self._known: tuple[object, ...] = ()
        with box("column-of"):
            with box("row-of"):
                text("beside", "soft")
                self._other = Choice("the other node", self._others(), str(self._held or ""), on_change=self._hold)
                self._other.style("width: 320px")
                text("shift-click on one in the tree does the same", "soft")
            self._chosen = Chosen(seen, spec, seen.refresh_soon) if seen.field_of(spec) else None
            self._said = text("", "soft", tag="p")
            self._pointed = text("", "pointed")
            with box("side") as self._side:
                self._figures = [self._figure(title) for title in ("A", "B", "B − A")]
            self._legend = box("legend")
            self._line = box()
            self._table = box()

    def _figure(self, title: str) -> tuple[TextElement, Picture, Element]:
        with box("figure"):
            said = text(title, tag="h2")
            shown = Picture(self._seen, title, self._pointed)
            below = box("legend")
        return said, shown, below

    @property
    def _held(self) -> int | None:
        """The node that this one is compared with: the one that was chosen, or the one that it comes of."""
        nodes = self._session.nodes
        if self._seen.held in nodes and self._seen.held != self._node:
            return self._seen.held
        parent = nodes[self._node].parent if self._node in nodes else None
        if parent in nodes:
            return parent
        tree = nodes[self._node].tree if self._node in nodes else ""
        return next((each.id for each in nodes.values() if each.id != self._node and each.tree == tree), None)

    def _others(self) -> dict[str, str]:
        nodes = self._session.nodes
        tree = nodes[self._node].tree
        others = [each for each in nodes.values() if each.tree == tree and each.id != self._node]
        others.sort(key=lambda each: (each.id != self._held, each.kind != "branch", -each.step))
        return {str(each.id): f"{each.name} · step {each.step:,}" for each in others[:500]}

    def _hold(self, node: str) -> None:
        self._seen.held = int(node)
        self._seen.refresh_soon()

    async def refresh(self) -> None:
        """Draw it again where something has changed."""
        nodes, held = self._session.nodes, self._held
        if held is None or self._node not in nodes:
            self._said.set_text("There is no other node yet: branch this one.")
            self._side.visible = False
            return
        one, other = nodes[self._node], nodes[held]
        field = None if self._chosen is None else self._chosen.field
        view = None if self._chosen is None else self._chosen.view
        known = (one.id, one.step, other.id, other.step, field.name if field else "", view)
        if known == self._known:
            return
        try:
            await self._draw(one, other)
            self._known = known
        except SnapservError as error:
            self._said.set_text(said_of(error))

    async def _draw(self, one: NodeInfo, other: NodeInfo) -> None:
        first, second = self._session.node(one.id), self._session.node(other.id)
        field = None if self._chosen is None else self._chosen.field
        view = None if self._chosen is None else self._chosen.view
        drawn = field is not None and view is not None
        self._side.visible, self._line.visible = drawn, field is not None and not drawn
        if field is not None and view is not None:
            a, b = await asyncio.gather(plane(first, field, view), plane(second, field, view))
            shared = await asyncio.to_thread(scale_of, a.values, b.values, doc=field.doc)
            apart, scale = _apart(a, b, shared)
            for (said, shown, below), info, each, colours in zip(
                self._figures, (one, other, None), (a, b, apart), (shared, shared, scale), strict=True
            ):
                title = "B − A" if info is None else f"{info.name} · step {info.step:,}"
                said.set_text(title if info is not None or shared.kind != "classes" else "where they differ")
                await shown.show(each, colours)
                legend(below, colours, field.units)
        elif field is not None:
            (at, values), (at_other, others) = await asyncio.gather(line(first, field), line(second, field))
            self._line.clear()
            with self._line:
                chart = curve()
            chart.draw({one.name: (at, values), other.name: (at_other, others)}, across=field.name)
        found = await first.diff(second)
        sentences = list(found.sentences())
        self._said.set_text(" · ".join(sentences))
        self._table.clear()
        rows = [
            (each.name, f"{each.changed:,}", f"{each.total:,}", *by_how_much(each), where(each))
            for each in found.fields
        ]
        with self._table:
            if rows:
                listed(("field", ">changed", ">of", ">at most", ">on average", "where"), rows)


def _apart(a: Plane, b: Plane, shared: Scale) -> tuple[Plane, Scale]:
    """Return how two planes differ: of classes, whether they do."""
    if shared.kind == "classes":
        differs: Array = (a.values != b.values).astype(np.uint8)
        classes = {0: ("#9aa3b033", "the same"), 1: ("#e0483a", "different")}
        return Plane(differs, a.stride, a.shape, a.exact), Scale("classes", classes=classes)
    difference: Array = b.values.astype(np.float64) - a.values.astype(np.float64)
    return Plane(difference, a.stride, a.shape, a.exact), difference_scale(difference)
