"""A node as it is now: a picture of a field, its past below it, and beside it the form that it is stepped with."""

from __future__ import annotations

import asyncio

import numpy as np

from .. import aio
from ..connection import Progress
from ..errors import BadRequestError, SnapservError
from ..figures import said
from ..looks import elapsed, outputs_of
from ..protocol import MethodInfo, NodeInfo, SpecResult, StepResult
from ..watching import condition
from .charts import curve
from .doing import Doing
from .fields import Chosen, Picture, about, legend
from .forms import InputsForm
from .parts import Button, Field, box, text
from .pictures import frame, scale_of
from .planes import can_be_drawn, line, plane
from .seen import Seen, said_of
from .travel import Past

RUN = ("ticks", "until", "snapshot", "record", "every")
RENDERS = "render"


class Now:
    """A node as it is now.

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
        self._spec = spec
        self._doing = doing
        self._drawn: tuple[object, ...] = ()
        self._result: StepResult | None = None
        with box("now"):
            with box("column-of"):
                self._draw_picture()
                self._past = Past(self._session, node, self._look, self._travel)
            with box("column-of"):
                self._draw_run()

    def _draw_picture(self) -> None:
        renders = next((each for each in self._spec.methods if each.name == RENDERS), None)
        if self._seen.field_of(self._spec) is None and renders is None:
            with box("card"):
                text(
                    "This simulation has no fields that can be drawn: see what its steps put out.", "soft", tag="p"
                )
            self._chosen = None
            return
        self._chosen = (
            Chosen(self._seen, self._spec, self._seen.refresh_soon) if self._seen.field_of(self._spec) else None
        )
        self._frame_place = box("column-of")
        if renders is not None:
            self._draw_frame(renders)
        if self._chosen is None:
            return
        with box("spread"):
            self._legend = box("legend")
            self._pointed = text("", "pointed")
        self._picture = Picture(self._seen, "picture of a field", self._pointed)
        self._line = box()
        self._about = text("", "soft")

    def _draw_frame(self, renders: MethodInfo) -> None:
        with self._frame_place:
            with box("row-of"):
                Button("Draw a frame", self.draw_frame, title=renders.doc).able(
                    self._session.may_change, self._session.why_not
                )
            self._frame = box("map")
            self._frame.visible = False

    async def draw_frame(self) -> None:
        """Have the environment draw itself; a snapshot does it in a branch that is dropped again."""

        async def work(_: Progress) -> str:
            node = self._session.node(self._looked_at)
            if isinstance(node, aio.Branch):
                drawn = await node.call(RENDERS)
            else:
                async with await node.branch() as tried:
                    drawn = await tried.call(RENDERS)
            self._frame.clear()
            self._frame.visible = True
            with self._frame:
                if isinstance(drawn, np.ndarray) and drawn.ndim == 3 and drawn.shape[2] >= 3:
                    box(tag="img", alt="frame", src=self._seen.gallery.put(frame(drawn)))
                else:
                    text(said(drawn) if not isinstance(drawn, str) else drawn, "mono", tag="pre")
            return f"{node.name} · step {node.last.step:,} drawn"

        await self._doing.do("render", work)

    @property
    def _looked_at(self) -> int:
        return self._past.looked_at

    async def refresh(self) -> None:
        """Draw it again where something has changed."""
        self._past.refresh()
        if hasattr(self, "_run_button"):
            self._set_running()
        info = self._session.nodes.get(self._looked_at)
        if info is None or self._chosen is None or self._chosen.field is None:
            return
        wanted = (info.id, info.step, info.parent, self._chosen.field.name, self._chosen.view)
        if wanted == self._drawn:
            return
        try:
            await self._draw(info)
            self._drawn = wanted
        except SnapservError as error:
            self._about.set_text(said_of(error))

    async def _draw(self, info: NodeInfo) -> None:
        assert self._chosen is not None
        found, view = self._chosen.field, self._chosen.view
        if found is None:
            return
        node = self._session.node(info.id)
        drawn = can_be_drawn(found) and view is not None
        self._picture.place.visible, self._line.visible = drawn, not drawn
        if view is not None:
            read = await plane(node, found, view)
            scale = await asyncio.to_thread(scale_of, read.values, doc=found.doc)
            await self._picture.show(read, scale)
            legend(self._legend, scale, found.units)
        else:
            at, values = await line(node, found)
            self._legend.clear()
            self._line.clear()
            with self._line:
                chart = curve()
            chart.draw({found.name: (at, values)}, across=(found.dims or ["index"])[0] or "index")
        self._about.set_text(about(found))

    def _look(self, _: int) -> None:
        self._seen.refresh_soon()

    async def _travel(self, step: int) -> None:
        branch = self._session.branch(self._node)

        async def work(told: Progress) -> str:
            went = await branch.goto(step, progress=told)
            self._session.learn([went.node])
            kept = "" if went.left is None else f" · what it was is {went.left.name}"
            parted = "" if went.parted is None else f" · not the same past from step {went.parted:,} on"
            return f"{branch.name} · step {went.node.step:,}{kept}{parted}"

        await self._doing.do(f"back to step {step:,}", work, stop=branch.interrupt)
        self._seen.refresh_soon()

    def _draw_run(self) -> None:
        info = self._session.nodes[self._node]
        if info.kind == "snapshot":
            with box("card column-of"):
                text("Frozen", tag="h2")
                text("A snapshot never changes. Branch it, and step the branch.", "soft", tag="p")
                if info.message:
                    text(f"“{info.message}”", tag="p")
            return
        held = self._seen.run.setdefault(info.tree, {"ticks": "10"})
        with box("card column-of"):
            text("Run", tag="h2")
            with box("form"):
                self._form = InputsForm(self._spec.inputs, self._seen.typed.setdefault(info.tree, {}), self.step)
                self._asked: dict[str, Field] = {}
                self._ask("ticks", "ticks", "1", held)
                self._ask("until", "until", "served >= 500 and mean(state) < 2", held)
                with box(tag="details"):
                    text("record, and snapshot then", "soft", tag="summary")
                    with box("form"):
                        self._ask("record", "record (outputs, mean(field))", "served mean(state)", held)
                        self._ask("every", "every so many steps", "1", held)
                        self._ask("snapshot", "snapshot when it holds, called", "half-way", held)
                self._run_button = Button("Step", self.step, key="s", classes="act first")
        self._outputs = box("card column-of")
        self._outputs.visible = False
        self._set_running()

    def _ask(self, name: str, label: str, hint: str, held: dict[str, str]) -> None:
        with box(tag="label"):
            text(label)
            self._asked[name] = Field(
                name,
                held.get(name, ""),
                placeholder=hint,
                on_enter=self.step,
                on_change=lambda value: held.__setitem__(name, value),
            )

    def _set_running(self) -> None:
        info = self._session.nodes.get(self._node)
        why = self._session.why_not or ("it is " + info.state if info else "it is gone")
        able = self._session.may_change and info is not None and info.state not in ("dead", "faulted")
        self._run_button.able(able, why)

    async def step(self) -> None:
        """Step the branch as the form says."""
        if not hasattr(self, "_form"):
            return

        async def work(progress: Progress) -> str:
            inputs = self._form.values()
            typed = {name: field.value.strip() for name, field in self._asked.items()}
            branch = self._session.branch(self._node)
            until = condition(typed["until"]) if typed["until"] else None
            if typed["snapshot"] and until is None:
                raise BadRequestError("a snapshot is taken when something holds, and nothing is said of what",
                                      hint="say until when, or take one with the button")  # fmt: skip
            result = await branch.step(
                whole("ticks", typed["ticks"] or "1"),
                inputs=inputs,
                progress=progress,
                record=readings(typed["record"]),
                every=whole("every", typed["every"] or "1"),
                until=until,
                snapshot=typed["snapshot"] or None,
            )
            self._result = result
            info = await branch.info()
            self._session.learn([info] if result.snapshot is None else [info, result.snapshot])
            self._show_outputs(result)
            stopped = (
                "" if until is None else f" · {typed['until']} {'holds' if result.stopped else 'has not held'}"
            )
            took = f"{result.ticks:,} ticks in {elapsed(result.elapsed_us)}"
            return f"{branch.name} · step {result.step:,} · {took}{stopped}"

        async def stop() -> None:
            await self._session.branch(self._node).interrupt()

        await self._doing.do(f"step {self._session.nodes[self._node].name}", work, stop=stop)
        self._seen.refresh_soon()

    def _show_outputs(self, result: StepResult) -> None:
        if self._outputs.is_deleted:
            return
        found = outputs_of(result.outputs)
        self._outputs.visible = bool(found)
        self._outputs.clear()
        with self._outputs:
            text("The last tick put out", tag="h2")
            with box("outputs", tag="dl"):
                for name, value in found.items():
                    text(name, tag="dt")
                    text(said(value), tag="dd")


def whole(name: str, said_: str) -> int:
    """Return a whole number that was typed.

    Raises:
        BadRequestError: It is none.
    """
    try:
        return int(said_.replace(",", "").replace("_", ""))
    except ValueError:
        raise BadRequestError(f"{name}: {said_!r} is not a whole number") from None


def readings(typed: str) -> list[str]:
    """Return what is to be recorded, with blanks or commas between; brackets may have blanks inside."""
    parts: list[str] = []
    depth = 0
    word = ""
    for each in f"{typed} ":
        depth += (each in "([") - (each in ")]")
        if each in " ," and not depth:
            if word:
                parts.append(word)
            word = ""
        else:
            word += each
    return parts
