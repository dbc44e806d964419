"""All that there is to know of a node: relatives, what it costs, why it is faulted, and what was done to it."""

from __future__ import annotations

import asyncio

from ..display import describe
from ..errors import SnapservError
from ..figures import moment, said, space
from ..looks import parts_of
from ..protocol import (
    Action,
    BeginAction,
    CallAction,
    ShowResult,
    SpecResult,
    StepAction,
    WriteAction,
)
from .actions import lineage
from .doing import Doing
from .parts import Button, box, listed, text
from .seen import Seen, said_of
from .states import state_of

MOST_ACTIONS = 300
MOST_ANCESTORS = 100


class About:
    """All that there is to know of a node.

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
        self._known: tuple[object, ...] = ()
        with box("column-of"):
            self._facts = box("card")
            self._past = box("card column-of")
            self._history = box("card column-of")
            with box("card column-of"):
                text(f"{spec.tree} · {spec.simulation}", tag="h2")
                listed(("what", "name", "type", "meaning"), [tuple(map(str, part)) for part in parts_of(spec)])

    async def refresh(self) -> None:
        """Look again where the node is another than it was."""
        info = self._session.nodes.get(self._node)
        known = (
            ()
            if info is None
            else (
                info.step,
                info.parent,
                state_of(info) in ("dead", "faulted"),
                tuple(info.tags),
                info.pinned,
                info.durable,
            )
        )
        if info is None or known == self._known:
            return
        self._known = known
        try:
            node = self._session.node(self._node)
            shown, actions = await asyncio.gather(node.show(), node.actions())
        except SnapservError as error:
            self._facts.clear()
            with self._facts:
                text(said_of(error), "bad")
            return
        self._session.learn([shown.node])
        self._draw(shown)
        self._draw_history(list(actions))

    def _draw(self, shown: ShowResult) -> None:
        node = shown.node
        facts = [
            ("made", moment(node.created)),
            ("process", f"{node.pid:,}".replace(",", "") if node.pid else "none"),
            ("private", "" if node.private_bytes is None else space(node.private_bytes)),
            ("charged", "" if shown.charged_bytes is None else space(shown.charged_bytes)),
            ("in the store", "" if shown.stored_bytes is None else space(shown.stored_bytes)),
            ("taken of", shown.taken_of),
            ("children", ", ".join(shown.children) + (f" and {shown.more:,} more" if shown.more else "")),
            ("tags", ", ".join(node.tags)),
            ("ended", node.death or ""),
            ("shared", ", ".join(node.shared)),
            ("said of it", node.message),
        ]
        self._facts.clear()
        with self._facts, box("outputs left", tag="dl"):
            for name, value in facts:
                if value:
                    text(name, tag="dt")
                    text(value, tag="dd")
        if shown.fault is not None:
            with self._facts, box("outcome bad-news"):
                text("faulted", tag="code")
                text(f"at step {shown.fault.step:,}: {shown.fault.message}", "grow")
                text(shown.fault.traceback.rstrip(), tag="pre")
        self._past.clear()
        with self._past:
            text("What it comes of", tag="h2")
            for each in lineage(self._session, self._node)[1:MOST_ANCESTORS]:
                Button(describe(each), lambda each=each: self._seen.choose(each.id), classes="link")  # type: ignore[misc]

    def _draw_history(self, actions: list[Action]) -> None:
        self._history.clear()
        with self._history:
            text(f"What was done to it · {sum(each.repeat for each in actions):,}", tag="h2")
            rows = [
                (f"{each.step:,}", *_told(each), f"× {each.repeat:,}" if each.repeat > 1 else "")
                for each in actions
            ]
            listed((">from step", "what", "with", ">"), rows[-MOST_ACTIONS:])


def _told(action: Action) -> tuple[str, str]:
    """Return an action in two cells: what, and with what."""
    if isinstance(action, StepAction):
        what = f"step {action.ticks:,}" + (", and raised" if action.raised else "")
        return what, said(action.inputs) if action.inputs else ""
    if isinstance(action, WriteAction):
        return f"write {action.field}", said(action.value)
    if isinstance(action, CallAction):
        return f"call {action.method}", said([*action.args, action.kwargs] if action.kwargs else action.args)
    assert isinstance(action, BeginAction)
    return "begin", "" if action.seed is None else f"seed {action.seed}"
