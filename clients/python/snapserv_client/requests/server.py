"""Requests to the server itself."""

from __future__ import annotations

from ..protocol import PROTOCOL_VERSION, HelloResult, SpecResult, StatsResult, WatchResult
from .message import Request, ask, understand_nothing

__all__ = ["events_endpoint", "hello", "ping", "shutdown", "spec", "stats", "watch"]


def hello(client: str) -> Request[HelloResult]:
    """Ask who is there."""
    return ask(HelloResult, "hello", client=client, protocol=PROTOCOL_VERSION)


def ping() -> Request[None]:
    """Ask for an answer."""
    return Request("ping", None, {}, understand_nothing)


def spec(tree: str | None) -> Request[SpecResult]:
    """Ask what a tree's simulation is."""
    return ask(SpecResult, "spec", tree=tree)


def stats() -> Request[StatsResult]:
    """Ask for the counters."""
    return ask(StatsResult, "stats")


def watch() -> Request[WatchResult]:
    """Ask where events are published."""
    return ask(WatchResult, "watch")


def events_endpoint(endpoint: str, events: str) -> str:
    """Return where to subscribe: for TCP, the server's port on the host that this client reaches it by."""
    if not endpoint.startswith("tcp://"):
        return events
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    return f"tcp://{host}:{events.rpartition(':')[2]}"


def shutdown() -> Request[None]:
    """Ask the server to end."""
    return Request("shutdown", None, {}, understand_nothing)
