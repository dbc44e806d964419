"""One node on the page: what it is, what can be done with it, and the views of it."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from nicegui import background_tasks, ui
from nicegui.element import Element

from ..display import ago
from ..errors import SnapservError, SnapservWarning
from ..figures import space
from ..protocol import NodeInfo, SpecResult
from .about import About
from .actions import Action, Actions
from .compare import Compare
from .curves import Curves
from .doing import Doing
from .now import Now
from .owned import Owned
from .parts import Button, box, text
from .seen import Seen
from .states import MEANINGS, state_of


class Panel(Protocol):
    """A view of a node."""

    async def refresh(self) -> None:
        """Draw it again where something has changed."""


Made: TypeAlias = Callable[[Seen, int, SpecResult, Doing], Panel]
PANELS: dict[str, Made] = {"Now": Now, "Curves": Curves, "Compare": Compare, "Pages": Owned, "About": About}


class NodePane:
    """What is shown of one node.

    Args:
        seen: Who looks.
        place: Where it is shown.
        on_back: Called to go back to the tree, where there is no room for both.
    """

    def __init__(self, seen: Seen, place: Element, on_back: Callable[[], None]) -> None:
        self._seen = seen
        self._session = seen.session
        self._place = place
        self._on_back = on_back
        self._node: int | None = None
        self._tab = "Now"
        self._panel: Panel | None = None
        self._doing: Doing | None = None
        self._offered: tuple[object, ...] = ()
        self._actions: Actions | None = None
        self._drawing: asyncio.Task[None] | None = None
        self._again = False
        seen.refresh_soon = self._refresh_soon
        with place:
            self._empty = text("", "empty", tag="p")
            with box("whole") as self._whole:
                self._draw()

    def show(self, node: int | None) -> None:
        """Show a node; None shows that none is chosen."""
        if node is not None and node == self._node and node in self._session.nodes and self._panel is not None:
            self.refresh()
            return
        self._node = node
        self._panel = None
        info = self._session.nodes.get(node) if node is not None else None
        self._empty.visible = info is None
        self._whole.visible = info is not None
        if info is None:
            self._empty.set_text("Choose a node in the tree." if node is None else "The node is gone.")
            return
        self._outcome.clear()
        self._doing = Doing(self._session, self._outcome)
        self._actions = Actions(self._session, info.id, self._doing, self._seen.choose)
        self._offered = ()
        self._title.set_text(info.name)
        self._tell(info)
        self._fill(info)

    def _draw(self) -> None:
        with box("head"):
            with box("row-of"):
                Button("‹ tree", self._on_back, classes="plain back")
                self._title = text("", "title", tag="h1")
                self._chip = text("", "chip")
                self._facts = box("facts row-of")
            self._buttons = box("actions", role="toolbar", aria_label="what can be done")
            with box("tabs", role="tablist") as self._tabs:
                for number, name in enumerate(PANELS, 1):
                    tab = Button(name, lambda name=name: self.turn_to(name), classes="", title=f"key {number}")  # type: ignore[misc]
                    tab.props["role"] = "tab"
        self._outcome = box("outcome", role="status", aria_live="polite")
        self._body = box("body", role="tabpanel")

    def _tell(self, info: NodeInfo) -> None:
        state = state_of(info)
        self._chip.set_text(state)
        self._chip.classes(replace=f"chip {state}")
        self._chip.props["title"] = info.death or info.faulted or MEANINGS[state]
        self._facts.clear()
        with self._facts:
            text(f"step {info.step:,}", tag="b")
            text(f"made {ago(info.created)}")
            if info.private_bytes is not None:
                text(f"{space(info.private_bytes)} of its own")
            for said in (*(f"#{tag}" for tag in info.tags), *_special(info)):
                text(said)
        offered = (info.kind, info.pinned, bool(info.faulted), self._session.may_change)
        if offered != self._offered and self._actions is not None:
            self._offered = offered
            self._draw_buttons(self._actions.offered())

    def _draw_buttons(self, actions: list[Action]) -> None:
        able, why = self._session.may_change, self._session.why_not
        self._buttons.clear()
        with self._buttons:
            for action in actions:
                if not action.in_menu:
                    Button(action.name, action.run, key=action.key).able(able, why)
            with Button("More", lambda: None), ui.menu().props('aria-label="more to do"') as menu, box("menu"):
                for action in actions:
                    if action.in_menu:
                        looks = "danger" if action.danger else ""
                        Button(action.name, _closing(menu, action.run), key=action.key, classes=looks).able(
                            able, why
                        )
            if not able:
                text(why, "soft")

    def _fill(self, info: NodeInfo) -> None:
        """Draw the view that was looked at before; what another one was still drawing is given up."""
        if self._drawing is not None:
            self._drawing.cancel()
        self._panel = None
        for tab, name in zip(self._tabs, PANELS, strict=True):
            tab.props["aria-selected"] = "true" if name == self._tab else "false"
        self._drawing = background_tasks.create(self._filled(info), name="a view of a node")

    async def _filled(self, info: NodeInfo) -> None:
        """Draw the view, once the simulation is known."""
        try:
            spec = await self._session.spec(info.tree)
        except SnapservError as error:
            if self._doing is not None:
                self._doing.show_error(error)
            return
        if self._doing is None or info.id not in self._session.nodes:
            return
        self._body.clear()
        with self._body:
            self._panel = PANELS[self._tab](self._seen, info.id, spec, self._doing)
        await self._refreshed()

    def _refresh_soon(self) -> None:
        self._again = True
        if self._panel is not None and (self._drawing is None or self._drawing.done()):
            self._drawing = background_tasks.create(self._refreshed(), name="a view of a node, again")

    async def _refreshed(self) -> None:
        """Draw the view again, as often as something has changed meanwhile."""
        self._again = True
        while self._again and self._panel is not None:
            self._again = False
            await self._panel.refresh()

    def turn_to(self, name: str) -> None:
        """Show another view of the node."""
        self._tab = name
        info = self._session.nodes.get(self._node) if self._node is not None else None
        if info is not None:
            self._fill(info)

    def refresh(self) -> None:
        """Show what has changed."""
        if self._node is None:
            return
        info = self._session.nodes.get(self._node)
        if info is None:
            if self._session.server is not None:
                self.show(self._node)
            return
        self._tell(info)
        self._refresh_soon()

    def press(self, key: str) -> None:
        """Do what a key stands for."""
        if key.isdigit() and 0 < int(key) <= len(PANELS):
            self.turn_to(list(PANELS)[int(key) - 1])
        elif key == "c":
            self.turn_to("Compare")
        elif key == "s":
            step = getattr(self._panel, "step", None)
            if step is not None:
                self._run(step)
        elif self._actions is not None and self._node in self._session.nodes:
            for action in self._actions.offered():
                if action.key == key:
                    self._run(action.run)

    def warn(self, warning: SnapservWarning) -> None:
        """Show something that whoever asked should know."""
        if self._doing is not None:
            self._doing.warn(warning)

    def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        if not self._session.may_change:
            return

        async def run() -> None:
            with self._place:
                await work()

        background_tasks.create(run(), name="a key")


def _closing(menu: ui.menu, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        menu.close()
        await work()

    return run


def _special(info: NodeInfo) -> list[str]:
    found = ["pinned"] if info.pinned else []
    if info.durable:
        found.append("durable by replay" if info.recorded else "durable")
    if info.automatic:
        found.append("automatic")
    if info.autosnap is not None:
        found.append("takes snapshots by itself")
    return found


def tell_warnings(told: Callable[[SnapservWarning], None]) -> None:
    """Have what requests are told besides said on the page."""
    otherwise = warnings.showwarning

    def show(message: Warning | str, *args: object, **options: object) -> None:
        if isinstance(message, SnapservWarning):
            told(message)
        else:
            otherwise(message, *args, **options)  # type: ignore[arg-type]

    warnings.showwarning = show
    warnings.simplefilter("always", SnapservWarning)
