"""Nodes and outcomes as frames of pandas: a row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from .errors import SnapservError
from .extras import need
from .plain import InputValues, Value
from .protocol import NodeInfo

if TYPE_CHECKING:
    import pandas as pd


class Outcome(Protocol):
    """An `expansion.Outcome`, which imports this module."""

    index: int
    error: SnapservError | None
    step: int
    ticks: int
    outputs: dict[str, Value]
    totals: dict[str, Value]
    fields: dict[str, Value]
    finished: bool
    stopped: bool | None
    elapsed_s: float

    @property
    def node(self) -> object:
        """What it was kept as."""

    @property
    def ok(self) -> bool:
        """Whether it has played to the end."""


OF_A_NODE = (
    "name", "tree", "kind", "state", "step", "created", "tags", "message", "pinned", "automatic", "durable",
    "recorded", "private_bytes", "death", "faulted", "pid",
)  # fmt: skip
OWN = ("step", "ticks", "finished", "stopped", "elapsed_s", "node", "error")
"""Columns that a child has whatever it puts out."""


def frame_of_nodes(nodes: Sequence[NodeInfo], simulations: Mapping[str, str]) -> pd.DataFrame:
    """Return a row for each node, by its id.

    Args:
        nodes: The nodes.
        simulations: By the name of a tree, what it runs.

    Raises:
        UnsupportedError: pandas is not installed.
    """
    need("pandas", "records")
    import pandas as pd

    columns = {name: [getattr(node, name) for node in nodes] for name in OF_A_NODE}
    frame = pd.DataFrame(columns, index=pd.Index([node.id for node in nodes], name="id", dtype="int64"))
    frame["created"] = pd.to_datetime(frame["created"].astype("float64"), unit="s", utc=True)
    frame["private_bytes"] = frame["private_bytes"].astype("Int64")
    frame.insert(2, "simulation", [simulations.get(node.tree, "") for node in nodes])
    frame.insert(3, "parent", pd.Series([node.parent for node in nodes], frame.index, dtype="Int64"))
    return frame


def frame_of_outcomes(
    outcomes: Sequence[Outcome], inputs: Sequence[InputValues | Sequence[InputValues]]
) -> pd.DataFrame:
    """Return a row for each child, by the place of its inputs.

    Args:
        outcomes: What came of the children.
        inputs: What they were given, by their ``index``; nothing where that is not known.

    Raises:
        UnsupportedError: pandas is not installed.
    """
    need("pandas", "records")
    import pandas as pd

    rows = [{**_given(inputs, outcome.index), **_own(outcome), **_put_out(outcome)} for outcome in outcomes]
    names = dict.fromkeys(name for row in rows for name in row)
    ahead = [name for name in names if name.startswith("input.")]
    wanted = [*ahead, *OWN[:5], *(name for name in names if name not in {*ahead, *OWN}), *OWN[5:]]
    if all(outcome.stopped is None for outcome in outcomes):
        wanted.remove("stopped")
    if all(outcome.node is None for outcome in outcomes):
        wanted.remove("node")
    index = pd.Index([outcome.index for outcome in outcomes], name="child", dtype="int64")
    return pd.DataFrame({name: [row.get(name) for row in rows] for name in wanted}, index=index)


def _given(inputs: Sequence[InputValues | Sequence[InputValues]], index: int) -> dict[str, object]:
    if index >= len(inputs):
        return {}
    given = inputs[index]
    if isinstance(given, Mapping):
        return {f"input.{name}": value for name, value in given.items()}
    names = dict.fromkeys(name for each in given for name in each)
    return {f"input.{name}": [each.get(name) for each in given] for name in names}


def _own(outcome: Outcome) -> dict[str, object]:
    error, node = outcome.error, outcome.node
    return {
        "step": outcome.step if outcome.ok else None,
        "ticks": outcome.ticks if outcome.ok else None,
        "finished": outcome.finished,
        "stopped": outcome.stopped,
        "elapsed_s": outcome.elapsed_s,
        "node": getattr(node, "name", None),
        "error": None if error is None else f"{error.code}: {error.message}",
    }


def _put_out(outcome: Outcome) -> dict[str, Value]:
    if not outcome.ok:
        return {}
    found = {**outcome.outputs, **outcome.fields, **outcome.totals}
    return {f"output.{name}" if name in OWN else name: value for name, value in found.items()}
