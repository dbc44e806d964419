"""The tree on the page: which rows a browser is sent, as it scrolls, searches and unfolds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from ..display import subject
from ..figures import space
from ..protocol import NodeInfo
from .layout import Layout, Row
from .session import Session
from .states import state_of

MOST_SENT = 400
FIRST_SENT = 60


class RowSent(TypedDict, total=False):
    """A row as a browser gets it."""

    id: int
    name: str
    state: str
    live: bool
    step: int
    tags: list[str]
    created: float
    memory: str
    durable: bool
    pinned: bool
    message: str
    trouble: str
    automatic: bool
    held: bool
    lane: int
    colours: tuple[int, ...]
    aside: bool
    above: bool
    below: bool
    folded: int
    hidden: int


class TreeView(Element, component="tree.js"):
    """The tree of a session, as one browser sees it.

    Args:
        session: Whose nodes.
        on_choose: Called with a node that is chosen, and whether it is to be opened where there is room for one.
        on_hold: Called with a node that another is to be compared with.
        on_key: Called with a key that is pressed anywhere.

    Attributes:
        selected: The node that is chosen.
        held: The one that it is compared with.
    """

    def __init__(
        self,
        session: Session,
        on_choose: Callable[[int, bool], None],
        on_hold: Callable[[int], None],
        on_key: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._session = session
        self._on_choose = on_choose
        self._on_hold = on_hold
        self._on_key = on_key
        self._unfolded: set[int] = set()
        self._collapsed: set[int] = set()
        self._sought = ""
        self._window = (0, FIRST_SENT)
        self._version = 0
        self.selected: int | None = None
        self.held: int | None = None
        self._lay_out()
        self.on("look", self._look)
        self.on("choose", self._choose)
        self.on("hold", lambda event: self._on_hold(int(event.args)))
        self.on("unfold", self._unfold)
        self.on("close", lambda event: self._collapse(event.args, closed=True))
        self.on("open", lambda event: self._collapse(event.args, closed=False))
        self.on("pressed", lambda event: self._on_key(str(event.args)))

    def lay_out(self, *, chosen: bool = False) -> None:
        """Draw it anew: there are other nodes than there were."""
        self._lay_out()
        self._send(whole=True, chosen=chosen)

    def refresh(self) -> None:
        """Send again what is seen: nodes do other things than they did."""
        self._send()

    def choose(self, node: int | None) -> None:
        """Choose a node, and bring it into sight."""
        self.selected = node
        if self._layout.index(node) is None and node in self._session.nodes and not self._sought:
            self.lay_out(chosen=True)
        else:
            self._send(chosen=True)

    def first(self) -> None:
        """Have the page hold the first rows from the beginning, so that they are there when it is painted."""
        self._props["first"] = self._told(0, FIRST_SENT, whole=True, chosen=True)

    def seek(self, text: str) -> None:
        """Show only nodes that have a text in their name, tags, state or message; all where there is none."""
        self._sought = text.strip().lower()
        self._window = (0, FIRST_SENT)
        self.lay_out()

    @property
    def found(self) -> int:
        """How many nodes are to be seen, or would be if folds were open."""
        return sum(row.folded or 1 for row in self._layout.rows)

    def _lay_out(self) -> None:
        nodes = list(self._session.nodes.values())
        if self._sought:
            found = sorted((node for node in nodes if self._sought in _words(node)), key=lambda node: node.id)
            self._layout = Layout([])
            self._layout.take([Row(node, 0, (0,), above=False) for node in found])
        else:
            shown = {node for node in (self.selected, self.held) if node is not None}
            self._layout = Layout(nodes, unfolded=self._unfolded, collapsed=self._collapsed, shown=shown)
        self._version += 1

    def _told(self, start: int, stop: int, *, whole: bool = False, chosen: bool = False) -> dict[str, Any]:
        rows = self._layout.rows
        stop = min(stop, start + MOST_SENT, len(rows))
        return {
            "version": self._version,
            "whole": whole,
            "total": len(rows),
            "lanes": self._layout.lanes,
            "start": start,
            "rows": [self._sent(row) for row in rows[start:stop]],
            "selected": self.selected,
            "at": self._layout.index(self.selected),
            "chosen": chosen,
        }

    def _sent(self, row: Row) -> RowSent:
        lanes: RowSent = {
            "id": row.node.id,
            "lane": row.lane,
            "colours": row.colours,
            "aside": row.aside,
            "above": row.above,
            "below": row.below,
        }
        if row.folded:
            return {**lanes, "folded": row.folded}
        node = row.node = self._session.nodes.get(row.node.id, row.node)
        return {
            **lanes,
            "name": node.name,
            "state": state_of(node),
            "live": node.kind == "branch",
            "step": node.step,
            "tags": node.tags,
            "created": node.created,
            "memory": "" if node.private_bytes is None else space(node.private_bytes),
            "durable": node.durable,
            "pinned": node.pinned,
            "message": subject(node.message) if node.message else "",
            "trouble": node.death or (node.faulted or "")[:200],
            "automatic": node.automatic,
            "held": node.id == self.held,
            "hidden": row.hidden,
        }

    def _send(self, *, whole: bool = False, chosen: bool = False) -> None:
        start, stop = self._window
        if self.client.has_socket_connection:
            self.run_method("show", self._told(start, stop, whole=whole, chosen=chosen))
        else:
            self._props["first"] = self._told(start, stop, whole=True, chosen=True)

    def _look(self, event: GenericEventArguments) -> None:
        start = max(0, int(event.args["start"]))
        self._window = (start, start + max(1, int(event.args["count"])))
        self._send()

    def _choose(self, event: GenericEventArguments) -> None:
        node = event.args["node"]
        if node in self._session.nodes:
            self.selected = int(node)
            self._on_choose(int(node), bool(event.args["open"]))

    def _unfold(self, event: GenericEventArguments) -> None:
        self._unfolded.add(int(event.args))
        self.lay_out()

    def _collapse(self, node: object, *, closed: bool) -> None:
        if not isinstance(node, int):
            return
        (self._collapsed.add if closed else self._collapsed.discard)(node)
        self.lay_out()


def _words(node: NodeInfo) -> str:
    return " ".join((node.name, *node.tags, state_of(node), node.message)).lower()
