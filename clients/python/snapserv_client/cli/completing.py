"""What a shell is told while somebody types: names of nodes and servers. Quick, and quiet where there is nothing.

Names of commands and options are click's to complete, from the table of contents; see `snapserv_client.cli.group`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import click

ANSWER_WITHIN_S = 0.3
"""For how long a server is waited for: whoever types has gone on by then."""

Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[str]]


def nodes(kind: Literal["snapshot", "branch"] | None = None) -> Complete:
    """Return what completes names of nodes, and tags, at the server that the command line names so far."""

    def complete(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
        return [name for name in _names(context.params.get("endpoint"), kind) if name.startswith(begun)]

    return complete


def servers(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """Return the names of this user's servers that begin so."""
    from ..endpoint import socket_folder

    found = (path.name.removesuffix(".sock") for path in socket_folder().glob("*.sock"))
    return sorted(name for name in found if name.startswith(begun))


def _names(endpoint: str | None, kind: str | None) -> Iterator[str]:
    from ..endpoint import chosen_endpoint

    chosen = chosen_endpoint(endpoint)
    if chosen.startswith("ipc://") and not os.path.exists(chosen.removeprefix("ipc://")):
        return
    from .. import connect
    from ..errors import SnapservError

    found: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with connect(chosen, timeout_s=ANSWER_WITHIN_S, request_timeout_s=ANSWER_WITHIN_S) as server:
                found = server.tree().nodes
        except (SnapservError, OSError):
            return
    for node in found:
        if kind in (None, node.kind):
            yield node.name
            tree = node.name.rpartition("/")[0]
            yield from (f"{tree}/{tag}" if tree else tag for tag in node.tags)
