"""Through a branch's past: a slider over its snapshots and steps, to look at a moment, or to go back to it."""

from __future__ import annotations

from collections.abc import Callable

from ..protocol import NodeInfo
from .actions import lineage
from .parts import Button, Slider, box, text
from .session import Session


class Past:
    """The slider of one node.

    Args:
        session: Whose node.
        node: Its id.
        on_look: Called with the node that is to be looked at: a snapshot of its past, or itself.
        on_go: Called with a step that the branch is to go back to.
    """

    def __init__(
        self,
        session: Session,
        node: int,
        on_look: Callable[[int], object],
        on_go: Callable[[int], object],
    ) -> None:
        self._session = session
        self._node = node
        self._on_look = on_look
        self._on_go = on_go
        self._at: int | None = None
        with box("travel") as self.place:
            self._ticks = box("ticks", tag="svg", viewBox="0 0 1000 8", preserveAspectRatio="none")
            self._slider = Slider("step", 0, 1, 1, self._moved)
            with box("spread"):
                self._said = text("", "mono soft")
                self._go = Button("Go back", self._gone_to)
        self._known: tuple[object, ...] = ()
        self.refresh()

    @property
    def looked_at(self) -> int:
        """The node that is looked at."""
        return self._node if self._at is None else self._nearest(self._at).id

    def refresh(self) -> None:
        """Draw it for where the node stands now."""
        info = self._session.nodes.get(self._node)
        if info is None:
            return
        past = self._moments()
        known = (info.step, info.parent, len(past), self._at)
        if known == self._known:
            return
        self._known = known
        first = past[0].step if past else 0
        if self._at is None or self._at >= info.step:
            self._at = None
            self._slider.stand(first, max(info.step, first + 1), max(info.step, first))
        span = max(info.step - first, 1)
        at = sorted({round(1000 * (each.step - first) / span) for each in past})
        lines = "".join(f"M{place} 0v8" for place in at)
        self._ticks.props["innerHTML"] = f'<path d="{lines}"/>'
        self.place.visible = bool(past) and info.step > first
        self._say()

    def _moments(self) -> list[NodeInfo]:
        """Return the snapshots that the node comes of, the oldest first."""
        return [each for each in reversed(lineage(self._session, self._node)) if each.id != self._node]

    def _nearest(self, step: int) -> NodeInfo:
        """Return the last snapshot at or before a step."""
        past = self._moments()
        before = [each for each in past if each.step <= step]
        return before[-1] if before else past[0] if past else self._session.nodes[self._node]

    def _moved(self, step: int) -> object:
        info = self._session.nodes.get(self._node)
        if info is None or not self._moments():
            return None
        self._at = None if step >= info.step else step
        self._say()
        return self._on_look(self.looked_at)

    def _say(self) -> None:
        info = self._session.nodes.get(self._node)
        if info is None:
            return
        if self._at is None:
            self._said.set_text(f"step {info.step:,} · now")
        else:
            nearest = self._nearest(self._at)
            at = f"step {self._at:,} · looking at {nearest.name}"
            self._said.set_text(at if nearest.step == self._at else f"{at}, step {nearest.step:,}")
        goes = self._at is not None and info.kind == "branch"
        self._go.visible = goes
        if goes and self._at is not None:
            self._go.set_text(f"Go back to step {self._at:,}")
            self._go.able(self._session.may_change, self._session.why_not)

    def _gone_to(self) -> object:
        if self._at is None:
            return None
        step, self._at = self._at, None
        return self._on_go(step)
