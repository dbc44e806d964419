"""Curves of what was recorded, of several nodes over each other."""

from __future__ import annotations

import asyncio

from .. import aio
from ..connection import Progress
from ..errors import SnapservError
from ..plain import Array
from ..protocol import SpecResult
from ..records import Records
from .charts import COLOURS, curve
from .doing import Doing
from .now import readings, whole
from .parts import Button, Choice, Field, Picked, box, listed, text
from .planes import is_of_numbers
from .seen import Seen, said_of

MOST_NODES = 8
MOST_CURVES = 48
EMPTY = "Nothing was recorded at it. Record something as it is stepped, or from now on:"


class Curves:
    """Records of a node, and of others beside it.

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
        self._doing = doing
        self._known: tuple[object, ...] = ()
        self._records: dict[int, Records] = {}
        with box("column-of"):
            self._beside = box("row-of")
            self._columns = box("row-of")
            self._empty = text(EMPTY, "soft", tag="p")
            self._empty.visible = False
            self._chart = curve()
            self._last = box()
            self._draw_recording()
        self._draw_beside()

    async def refresh(self) -> None:
        """Draw it again where something has changed."""
        nodes = [self._node, *(each for each in self._seen.beside if each in self._session.nodes)]
        known = tuple((each, self._session.nodes[each].step) for each in nodes if each in self._session.nodes)
        if known == self._known:
            return
        try:
            found = await asyncio.gather(*(self._session.node(each).records() for each, _ in known))
        except SnapservError as error:
            self._empty.set_text(said_of(error))
            self._empty.visible = True
            return
        self._known = known
        self._records = dict(zip((each for each, _ in known), found, strict=True))
        self._draw()

    def _draw(self) -> None:
        flat = {node: dict(records.flat()) for node, records in self._records.items()}
        names = list(dict.fromkeys(name for columns in flat.values() for name in columns))
        chosen = self._seen.columns.get(self._spec.simulation) or set(names[:1])
        self._columns.clear()
        with self._columns:
            if names:
                text("columns", "soft")
                Picked(names[:MOST_CURVES], chosen, self._pick, label="columns that are drawn")
        several = len(flat) > 1
        curves: dict[str, tuple[Array, Array]] = {}
        colours: dict[str, str] = {}
        dashes: dict[str, bool] = {}
        for number, (node, columns) in enumerate(flat.items()):
            for place, name in enumerate(each for each in names if each in chosen):
                if name not in columns or len(curves) >= MOST_CURVES:
                    continue
                said = self._session.nodes[node].name if node in self._session.nodes else str(node)
                label = f"{said} · {name}" if several and len(chosen) > 1 else said if several else name
                curves[label] = (self._records[node].steps, columns[name])
                colours[label] = COLOURS[(number if several else place) % len(COLOURS)]
                dashes[label] = several and place % 2 == 1
        self._empty.visible = not names
        self._empty.set_text(EMPTY)
        self._chart.visible = bool(curves)
        units = next(iter(chosen)) if len(chosen) == 1 else ""
        self._chart.draw(curves, across="step", units=units if several else "", dashes=dashes, colours=colours)
        self._last.clear()
        if curves:
            with self._last:
                rows = [
                    (label, f"{len(at):,}", f"{int(at[0]):,}", f"{int(at[-1]):,}", f"{values[-1]:,.6g}")
                    for label, (at, values) in curves.items()
                    if len(at)
                ]
                listed(("curve", ">points", ">from", ">to", ">last"), rows)

    def _pick(self, name: str) -> None:
        flat = [name for records in self._records.values() for name, _ in records.flat()]
        chosen = set(self._seen.columns.get(self._spec.simulation) or flat[:1])
        chosen ^= {name}
        self._seen.columns[self._spec.simulation] = chosen or {name}
        self._draw()

    def _draw_beside(self) -> None:
        """Draw which nodes are laid over this one, and how to lay another."""
        self._beside.clear()
        nodes = self._session.nodes
        tree = nodes[self._node].tree
        self._seen.beside = [each for each in self._seen.beside if each in nodes and each != self._node]
        free = sorted(
            (n for n in nodes.values() if n.tree == tree and n.id != self._node and n.id not in self._seen.beside),
            key=lambda n: (n.kind != "branch", -n.step),
        )
        with self._beside:
            text("over it", "soft")
            for each in self._seen.beside:
                Button(f"{nodes[each].name} ×", lambda each=each: self._remove(each), classes="plain mono")  # type: ignore[misc]
            options = {"": "another node…", **{str(n.id): f"{n.name} · step {n.step:,}" for n in free[:300]}}
            if len(self._seen.beside) < MOST_NODES and free:
                Choice("another node", options, on_change=self._add).style("width: 220px")

    def _add(self, node: str) -> None:
        if node:
            self._seen.beside.append(int(node))
            self._draw_beside()
            self._seen.refresh_soon()

    def _remove(self, node: int) -> None:
        self._seen.beside.remove(node)
        self._draw_beside()
        self._seen.refresh_soon()

    def _draw_recording(self) -> None:
        info = self._session.nodes[self._node]
        if info.kind != "branch":
            return
        held = self._seen.run.setdefault(info.tree, {"ticks": "10"})
        reduced = next(
            (f"mean({each.name})" for each in self._spec.fields if is_of_numbers(each) and each.shape), ""
        )
        with box("card row-of"):
            text("Record from now on", "soft")
            self._what = Field(
                "what", held.get("record", ""), placeholder=f"an output {reduced}", on_enter=self._record
            )
            self._what.style("width: 280px")
            text("every", "soft")
            self._every = Field("every", "1", on_enter=self._record).style("width: 60px")
            Button("Record", self._record).able(self._session.may_change, self._session.why_not)

    async def _record(self) -> None:
        async def work(_: Progress) -> str:
            branch: aio.Branch = self._session.branch(self._node)
            what, every = readings(self._what.value), whole("every", self._every.value or "1")
            await branch.record(what, every=every)
            return f"{branch.name} · records {', '.join(what) or 'nothing'}"

        await self._doing.do("record", work)
