"""Requests to the server itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from ..errors import InternalError
from ..protocol import PROTOCOL_VERSION, Event, EventKind, HelloResult, SpecResult, StatsResult, WatchResult
from ..wire import Buffer, unpack
from .message import Request, ask, convert, understand_nothing

__all__ = ["event_of", "events_endpoint", "hello", "ping", "shutdown", "spec", "stats", "watch"]


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


def event_of(frames: Sequence[Buffer]) -> Event | None:
    """Return the event in a message of the events socket; None where it is of a kind that this version lacks.

    Raises:
        InternalError: The server sent something else.
    """
    if len(frames) < 2:
        raise InternalError("the server published something that is no event")
    said = unpack(frames[1], frames[2:])
    if isinstance(said, dict) and said.get("kind") not in get_args(EventKind):
        return None
    return convert(said, Event)


def shutdown(*, force: bool = True) -> Request[None]:
    """Ask the server to end."""
    return Request("shutdown", None, {"force": force}, understand_nothing)
