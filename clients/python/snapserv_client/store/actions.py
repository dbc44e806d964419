"""What a store has of what was done to a node, as `Server.replay` takes it."""

from __future__ import annotations

import msgspec

from .. import stream
from ..errors import SnapservError, StoreDamagedError
from ..history import Actions
from ..protocol import Action


def actions_of(node: str, content: bytes) -> Actions:
    """Return the actions of a stream.

    Args:
        node: What the node is called.
        content: The stream; see `snapserv_client.stream`.

    Raises:
        StoreDamagedError: It is none.
    """
    found, step = [], 0
    try:
        for repeat, packed in stream.runs(content):
            action, _ = stream.action_of(packed)
            found.append({**action, "step": step, "repeat": repeat})
            step += stream.ticks_of(packed) * repeat
        return Actions(node, msgspec.convert(found, list[Action]))
    except (ValueError, TypeError, IndexError, msgspec.ValidationError, SnapservError) as cause:
        raise StoreDamagedError(f"what was done to {node} is no stream of actions: {cause}") from cause
