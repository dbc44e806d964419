"""Setting a simulation up, and what is noted of that: enough for another server to set the same one up anew."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgpack
from snapserv_client import stream

from .process import CellProcess
from .process_table import ProcessTable


async def set_up(table: ProcessTable, setup: Mapping[str, Any]) -> tuple[CellProcess, dict[str, Any]]:
    """Run a simulation's setup in a process of its own; return its cell, and all that is to be known of its tree.

    Args:
        table: Where it belongs.
        setup: ``target``, ``params``, and what `Nodes` tells every master.

    Raises:
        SnapservError: What setup met.
    """
    master, described = await table.spawn_master(setup)
    noted = {**setup, "target": _whole(setup["target"]), "params": _packed(setup["params"])}
    return master, {**described, "setup": noted}


def setup_again(described: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    """Return what the setup of a tree was told, for `set_up`, which has its fields lie where they lay, if it can.

    Args:
        described: What is known of the tree.
        path: Where modules of simulations are looked for as well.
    """
    noted, segments = described["setup"], described["segments"]
    (params,), _ = stream.values_of(noted["params"])
    arena = [segments[0][0], sum(size for _, size in segments)] if segments else None
    return {**noted, "params": params, "arena": arena, "path": list(dict.fromkeys([*noted["path"], *path]))}


def _packed(params: Mapping[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(dict(params), default=stream.plain)
    return packed


def _whole(target: str) -> str:
    """Return a target that means the same in any working folder."""
    place, colon, name = target.rpartition(":")
    return f"{os.path.abspath(place)}:{name}" if colon and place.endswith(".py") else target
