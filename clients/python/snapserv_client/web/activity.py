"""What the server does: requests and how long they take, memory against its budget, deaths, and what happened."""

from __future__ import annotations

import html

from nicegui import ui
from nicegui.element import Element

from ..activity import Activity
from ..display import describe
from ..figures import counted, duration, moment, space
from ..protocol import Event
from .charts import curve
from .parts import box, listed, text
from .session import Session

SHOWN_EVENTS = 200
BAD = ("died", "faulted", "evicted", "not_saved")


class ActivityPage:
    """The page of what a server does.

    Args:
        session: The server.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last_event = 0
        with box("activity") as self.place:
            self._numbers = [self._number(name) for name in ("requests a second", "steps a second", "memory")]
            with box("card column-of"):
                text("Requests and steps a second", tag="h2")
                self._rates = curve(small=True)
            with box("card column-of"):
                text("Latency, ms", tag="h2")
                self._latency = curve(small=True)
            with box("card column-of"):
                text("Memory, MiB", tag="h2")
                self._memory = curve(small=True)
            with box("card column-of"):
                text("By verb", tag="h2")
                self._verbs = box()
            with box("card column-of"):
                text("Used last", tag="h2")
                self._nodes = box()
            with box("card column-of"):
                text("What happened", tag="h2")
                self._log = ui.html(
                    "<div class=soft>nothing since the page was started</div>", sanitize=False
                ).classes("log")
        self.refresh()
        self.show_events()

    def _number(self, name: str) -> tuple[Element, Element, Element]:
        with box("card third column-of"):
            text(name, "soft")
            big = box()
            small = box("soft")
            used = box()
        return big, small, used

    def refresh(self) -> None:
        """Draw what is known now."""
        history = list(self._session.activity)
        if not history:
            return
        now = history[-1][1]
        self._draw_numbers(now)
        at = [when for when, _ in history]
        self._rates.draw(
            {
                "requests": (at, [each.requests_per_s for _, each in history]),
                "steps": (at, [each.steps_per_s for _, each in history]),
            },
            time=True,
        )
        busiest = [each.verb for each in now.verbs if each.verb != "stats"][:3] or ["stats"]
        latency = {
            verb: (
                at,
                [next((v.p99_ms for v in each.verbs if v.verb == verb), float("nan")) for _, each in history],
            )
            for verb in busiest
        }
        self._latency.draw({f"{verb} p99": points for verb, points in latency.items()}, time=True)
        mib = 1 << 20
        self._memory.draw(
            {
                "base images": (at, [each.stats.memory.base_bytes / mib for _, each in history]),
                "snapshots": (at, [each.stats.memory.snapshot_bytes / mib for _, each in history]),
                "branches": (at, [each.stats.memory.branch_bytes / mib for _, each in history]),
            },
            time=True,
        )
        self._verbs.clear()
        with self._verbs:
            rows = [
                (v.verb, f"{v.per_s:,.1f}", f"{v.errors_per_s:,.1f}", f"{v.p50_ms:,.2f}", f"{v.p99_ms:,.2f}")
                for v in now.verbs
            ]
            listed(("verb", ">a second", ">errors", ">p50 ms", ">p99 ms"), rows)
        self._nodes.clear()
        with self._nodes:
            used = [
                (n.name, n.state, f"{n.step:,}", "" if n.steps_per_s is None else f"{n.steps_per_s:,.1f}")
                for n in now.nodes
            ]
            listed(("node", "state", ">step", ">steps/s"), used)

    def _draw_numbers(self, now: Activity) -> None:
        stats, memory = now.stats, now.stats.memory
        deaths = ", ".join(f"{count:,} {signal}" for signal, count in sorted(stats.deaths.items())) or "no deaths"
        states = " · ".join(f"{count:,} {state}" for state, count in sorted(stats.states.items()))
        told = (
            (f"{now.requests_per_s:,.1f}", f"{stats.requests:,} in all · {counted(stats.errors, 'error')} · "
             f"{stats.in_flight:,} in flight · up {duration(stats.uptime_s)}"),
            (f"{now.steps_per_s:,.0f}", f"{stats.steps:,} in all · {states} · {deaths}"),
            (space(memory.charged_bytes), f"of {space(memory.limit_bytes)} · {memory.evictions:,} evicted, "
             f"{memory.stopped:,} stopped · server {space(stats.resident_bytes)}"),
        )  # fmt: skip
        for (big, small, used), (number, more) in zip(self._numbers, told, strict=True):
            for place, said, looks in ((big, number, "big"), (small, more, "")):
                place.clear()
                with place:
                    text(said, looks)
            used.clear()
        limit = max(memory.limit_bytes, 1)
        with self._numbers[-1][2], box("used"):
            for part, colour in (
                (memory.base_bytes, "var(--lane-0)"),
                (memory.master_bytes + memory.other_bytes, "var(--lane-7)"),
                (memory.snapshot_bytes, "var(--lane-2)"),
                (memory.branch_bytes, "var(--lane-1)"),
            ):
                box().style(f"width: {100 * part / limit:.2f}%; background: {colour}")

    def show_events(self) -> None:
        """Draw what happened, the latest first."""
        if not self._session.events or self._session.events[-1].sequence == self._last_event:
            return
        self._last_event = self._session.events[-1].sequence
        lines = [_line(each) for each in list(self._session.events)[-SHOWN_EVENTS:]]
        self._log.set_content("".join(reversed(lines)))


def _line(event: Event) -> str:
    what = describe(event.node) if event.node else ""
    looks = "bad" if event.kind in BAD else "kind"
    said = html.escape(f"{what} {event.text}".strip())
    clock = moment(event.time).partition(" ")[2]
    return f'<div><span class="soft">{clock}</span> <span class="kind {looks}">{event.kind}</span> {said}</div>'
