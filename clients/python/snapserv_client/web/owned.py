"""Whose memory is whose: the pages of a node's fields, by who else has them."""

from __future__ import annotations

import numpy as np

from ..errors import SnapservError
from ..figures import space
from ..pages import MEANINGS, Pages, squeezed
from ..protocol import PAGE_CLASSES, SpecResult
from .doing import Doing
from .parts import Button, Choice, box, listed, text
from .pictures import Scale, picture
from .seen import Seen, said_of

COLOURS = {
    "absent": "#00000000",
    "base": "#8fb0d6",
    "shared": "#4fa866",
    "elsewhere": "#dcb43c",
    "unproven": "#a986c9",
    "private": "#e0483a",
}
STRIP_WIDTH = 256
STRIP_ROWS = 24


class Owned:
    """The pages of a node.

    Args:
        seen: Who looks.
        node: Its id.
        spec: Its simulation.
        doing: Where it is said what is done.
    """

    def __init__(self, seen: Seen, node: int, spec: SpecResult, doing: Doing) -> None:
        self._seen = seen
        self._session = seen.session
        self._node = node
        self._known: tuple[object, ...] = ()
        nodes = self._session.nodes
        others = {"": "no other node"}
        tree = nodes[node].tree
        for each in sorted(nodes.values(), key=lambda each: -each.id)[:300]:
            if each.tree == tree and each.id != node:
                others[str(each.id)] = f"{each.name} · step {each.step:,}"
        first = seen.held if seen.held is not None and seen.held != node else nodes[node].parent
        with box("column-of"):
            with box("row-of"):
                text("compared with", "soft")
                self._other = Choice(
                    "the other node", others, str(first or ""), on_change=lambda _: seen.refresh_soon()
                )
                self._other.style("width: 320px")
                Button("Look again", self._again)
            self._title = text("", "soft", tag="p")
            with box("legend"):
                for name in PAGE_CLASSES:
                    with box(tag="span"):
                        box(tag="i").style(f"background: {COLOURS[name]}")
                        text(f"{name}: {MEANINGS[name]}")
            self._strips = box("column-of")
            self._table = box()

    async def refresh(self) -> None:
        """Look where the node has gone on."""
        info = self._session.nodes.get(self._node)
        known = None if info is None else (info.step, info.parent, self._other.value)
        if info is None or known == self._known:
            return
        self._known = known or ()
        try:
            other = self._session.nodes.get(int(self._other.value)) if self._other.value else None
            found = await self._session.node(self._node).pages(
                None if other is None else self._session.node(other.id)
            )
        except SnapservError as error:
            self._title.set_text(said_of(error))
            return
        self._draw(found)

    def _again(self) -> None:
        self._known = ()
        self._seen.refresh_soon()

    def _draw(self, found: Pages) -> None:
        self._title.set_text(found.title)
        self._strips.clear()
        scale = Scale("classes", classes={place: (COLOURS[name], name) for place, name in enumerate(PAGE_CLASSES)})
        with self._strips:
            for field in found.fields:
                if field.stop - field.first < 2:
                    continue
                for of_other, (node, counts) in enumerate(found.sides(field)):
                    strip = squeezed(found.classes(field.name, of_other=bool(of_other)), STRIP_WIDTH * STRIP_ROWS)
                    rows = -(-len(strip) // STRIP_WIDTH)
                    width = min(len(strip), STRIP_WIDTH)
                    laid = np.zeros(rows * width, np.uint8)
                    laid[: len(strip)] = strip
                    with box("figure"):
                        text(
                            f"{field.name} · {node} · {space(found.own_bytes(counts))} not the base image's",
                            tag="h2",
                        )
                        png = picture(laid.reshape(rows, width), scale)
                        box("strip", tag="img", alt="", src=self._seen.gallery.put(png)).style(
                            f"height: {rows * 7}px"
                        )
        heads, *rows_of = found.rows()
        self._table.clear()
        with self._table:
            listed([head if head in ("field", "node") else f">{head}" for head in heads], rows_of)
