"""What recorded actions are of: the simulation, its parameters, where they began, and the state they led to.

Actions say what was done and not to what. Done to something else they lead somewhere all the same, so a recording
says what it is of, and whoever does it again is told where that differs.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from snapserv_client.protocol import Recording, SpecResult
from snapserv_client.wire import pack

from ..errors import RecordingMismatchError
from ..nodes.nodes import Nodes
from ..nodes.process import CellProcess
from ..nodes.tree import Node
from .recorded import InThread, hashes_in

_HINT = "replay it where it was recorded, with the same simulation and parameters; or force it"


async def recording_of(nodes: Nodes, in_thread: InThread, node: Node, cell: CellProcess) -> Recording:
    """Return what the actions of a node are of, whose turn and whose root's the caller holds.

    Raises:
        SnapservError: A process died.
    """
    root = nodes.find(node.tree.root)
    began = await hashes_of(nodes, in_thread, root, await nodes.present(root)) if root.death is None else {}
    found = describe(nodes.plan(node).spec)
    found.step, found.start = root.step, began
    found.last_step, found.end = nodes.look(node), await hashes_of(nodes, in_thread, node, cell)
    return found


async def hashes_of(nodes: Nodes, in_thread: InThread, node: Node, cell: CellProcess) -> dict[str, str]:
    """Return the hash of each field in a cell of a node's tree, 32 hexadecimal digits each."""
    plan, root = nodes.plan(node), nodes.find(node.tree.root)
    base = await nodes.present(root) if plan.file_backed and root.death is None else None
    return await hashes_in(in_thread, plan, cell, base)


async def refuse_another(nodes: Nodes, in_thread: InThread, recording: Recording, start: Node) -> None:
    """Check that a recording is of what a snapshot, whose turn the caller holds, is of.

    Raises:
        RecordingMismatchError: ``details["differs"]`` says in what it is not.
    """
    here = describe(nodes.plan(start).spec)
    here.step = start.step
    differs = differing(recording, here)
    if recording.start and not differs:
        here.start = await hashes_of(nodes, in_thread, start, await nodes.present(start))
        differs += [f"start.{name}" for name in _apart(recording.start, here.start)]
    if differs:
        raise RecordingMismatchError(
            f"the recording is of something else than {start.path}: {', '.join(differs)}",
            hint=_HINT,
            details={"differs": differs, "recorded": _brief(recording), "here": _brief(here)},
        )


async def refuse_elsewhere(
    nodes: Nodes, in_thread: InThread, recording: Recording, start: Node, cell: CellProcess
) -> None:
    """Check that a cell in which a recording was done again has come to where that says it must.

    Raises:
        RecordingMismatchError: ``details["differs"]`` says in what it has not.
    """
    if recording.last_step is None:
        return
    step = nodes.processes.scoreboard[cell.slot or 0]
    differs = ["last_step"] if recording.last_step != step else []
    differs += [f"end.{name}" for name in _apart(recording.end, await hashes_of(nodes, in_thread, start, cell))]
    if differs:
        raise RecordingMismatchError(
            f"the replay did not lead to the state that was recorded: {', '.join(differs)}",
            hint="verify the node that was recorded, which says where they part; force it, to look at the branch",
            details={"differs": differs, "step": step, "recorded": _brief(recording)},
        )


def describe(spec: SpecResult) -> Recording:
    """Return what actions are of that were done in a tree."""
    params = {name: _told(value) for name, value in spec.param_values.items()}
    return Recording(spec.simulation, spec.version, spec.source, params)


def differing(recording: Recording, here: Recording) -> list[str]:
    """Return in what actions are of something else than what is here."""
    differs = [name for name in ("simulation", "version", "source", "step") if _differ(recording, here, name)]
    params = sorted(
        name
        for name in {*recording.params, *here.params}
        if recording.params.get(name, "") != here.params.get(name, "")
    )
    return [*differs, *(f"params.{name}" for name in params)]


def _told(value: Any) -> str:
    """Return a parameter's value in a few characters that differ where it does."""
    if isinstance(value, (str, int, float, bool, type(None))) and len(told := repr(value)) <= 100:
        return told
    total = 0
    for frame in pack(value):
        total = zlib.crc32(frame, total)
    return f"{type(value).__name__}:{total:08x}"


def _differ(recording: Recording, here: Recording, name: str) -> bool:
    """Return whether both say something, and something else."""
    told, found = getattr(recording, name), getattr(here, name)
    return told != found and "" not in (told, found)


def _apart(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    return sorted(name for name in recorded if recorded[name] != here.get(name))


def _brief(recording: Recording) -> dict[str, Any]:
    names = ("simulation", "version", "source", "params", "step")
    return {name: getattr(recording, name) for name in names}
