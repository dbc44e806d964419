"""``top``: what a server does, live in the terminal."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from snapserv_client.figures import space

from ..activity import Activity, between
from .console import results
from .options import Endpoint, Json, connected
from .output import EXIT_CTRL_C, counted, duration, plain, show, table
from .parameters import Option

if TYPE_CHECKING:
    from .. import Server

LEAVING = (b"q", b"Q", b"\x1b", b"\x04", b"")
"""What the keyboard says: q, Escape alone, Ctrl-D; or that there is no keyboard any more."""
MOST_OF_A_KEY = 64
STATE_STYLES = {"busy": "green", "idle": "dim", "faulted": "yellow", "dead": "red", "stored": "blue"}


def top(
    interval: Annotated[float, Option("--interval", "-i", min=0.1, help="Seconds from look to look.")] = 1.0,
    once: Annotated[bool, Option("--once", help="Show one interval, and end.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Show requests, nodes, forks and deaths as they happen; q leaves. With --json one document a line.

    Examples:
        snapserv top
        snapserv top --once
    """
    with connected(endpoint, as_json=as_json) as server:
        try:
            if once:
                activity = next(_looks(server, interval))
                show(activity, as_json=as_json, people=lambda: _page(activity, server.endpoint))
            elif as_json:
                for activity in _looks(server, interval):
                    print(json.dumps(plain(activity)), flush=True)
            else:
                _watch(server, interval)
        except KeyboardInterrupt as cause:
            raise click.exceptions.Exit(EXIT_CTRL_C) from cause  # the usual end of watching: nothing to say


def _looks(server: Server, interval_s: float) -> Iterator[Activity]:
    """Yield what happens in each interval, until a key says that it is enough."""
    before, looked = server.stats(), time.monotonic()
    while not _waited_for_key(looked + interval_s):
        after, now = server.stats(), time.monotonic()
        yield between(before, after, now - looked)
        before, looked = after, now


def _watch(server: Server, interval_s: float) -> None:
    if not results.is_terminal:
        for activity in _looks(server, interval_s):
            results.print(_page(activity, server.endpoint))
        return
    with _keys(), Live(Text("looking", "dim"), console=results, screen=True, auto_refresh=False) as live:
        for activity in _looks(server, interval_s):
            live.update(_page(activity, server.endpoint), refresh=True)


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Have keys come at once and unseen, if there is a keyboard; as it was before, at the end."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _waited_for_key(until_s: float) -> bool:
    """Wait until a time of the monotonic clock; return whether a key says to leave."""
    while (left_s := until_s - time.monotonic()) > 0:
        if not sys.stdin.isatty():
            time.sleep(left_s)
        elif select.select([sys.stdin], [], [], left_s)[0] and _read_key() in LEAVING:
            return True
    return False


def _read_key() -> bytes:
    return os.read(sys.stdin.fileno(), MOST_OF_A_KEY)  # past Python's buffer, which select(2) cannot see


def _page(activity: Activity, endpoint: str) -> Any:
    return Group(_summary(activity, endpoint), _verbs(activity), _nodes(activity))


def _summary(activity: Activity, endpoint: str) -> Any:
    stats = activity.stats
    rows = table("snapserv", endpoint)
    states = " · ".join(f"{count:,} {state}" for state, count in sorted(stats.states.items()))
    nodes = f"{counted(stats.snapshots, 'snapshot')}, {counted(stats.branches, 'branch')}"
    rows.add_row("nodes", f"{nodes}: {states}")
    queue = f"{stats.in_flight:,} in flight, {stats.longest_lane:,} in the longest queue"
    rows.add_row("requests", f"{activity.requests_per_s:,.1f}/s · {activity.errors_per_s:,.1f} errors/s · {queue}")
    rows.add_row("steps", f"{activity.steps_per_s:,.1f}/s · {stats.steps:,} in all")
    p50, p99 = stats.fork_us_p50 / 1000, stats.fork_us_p99 / 1000
    forks = f"p50 {p50:.2f} ms · p99 {p99:.2f} ms of the last ones"
    rows.add_row("forks", f"{activity.forks_per_s:,.1f}/s · {stats.forks:,} in all · {forks}")
    deaths = ", ".join(f"{count:,} {signal}" for signal, count in sorted(stats.deaths.items()))
    rows.add_row("deaths", Text(deaths or "none", "red" if deaths else ""))
    memory = stats.memory
    charged = f"{space(memory.charged_bytes)} of {space(memory.limit_bytes)} charged"
    held = f"snapshots {space(memory.snapshot_bytes)}, branches {space(memory.branch_bytes)}"
    rows.add_row("memory", f"{charged} · {held} · {memory.evictions:,} evicted, {memory.stopped:,} stopped")
    size = f"{space(stats.resident_bytes)} · {stats.descriptors:,} descriptors · {stats.threads} threads"
    rows.add_row("server", f"up {duration(stats.uptime_s)} · {counted(stats.clients, 'client')} · {size}")
    if activity.restarted:
        rows.add_row("", Text("the server was restarted", "yellow"))
    return rows


def _verbs(activity: Activity) -> Any:
    rows = table("verb", ">a second", ">errors", ">p50 ms", ">p99 ms")
    for verb in activity.verbs:
        numbers = (verb.per_s, verb.errors_per_s, verb.p50_ms, verb.p99_ms)
        rows.add_row(verb.verb, *(f"{number:,.2f}" for number in numbers))
    return rows


def _nodes(activity: Activity) -> Any:
    rows = table("~used last", "kind", "state", ">step", ">steps/s", ">pid")
    for node in activity.nodes:
        steps = "" if node.steps_per_s is None else f"{node.steps_per_s:,.1f}"
        state = Text(node.state, STATE_STYLES[node.state])
        rows.add_row(node.name, node.kind, state, f"{node.step:,}", steps, str(node.pid or ""))
    return rows
