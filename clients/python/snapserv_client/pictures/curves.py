"""What was recorded, over steps: a panel for each column, a line for each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadRequestError, NotFoundError
from .colours import LINE
from .maps import label_axes, title
from .sheets import Array, Sheet, new_figure

MOST_PANELS = 12
WIDE_IN = 9.0
FEW = 60
"""Points of a line that are so few are marked."""


@dataclass(frozen=True)
class Curves:
    """What was recorded at a node.

    Attributes:
        name: What it is called.
        colour: Of its lines.
        dashes: Likewise.
        steps: Of the rows.
        columns: By name, of one number a row.
    """

    name: str
    colour: str
    dashes: str
    steps: Array
    columns: Mapping[str, Array]


def curves(nodes: Sequence[Curves], names: Sequence[str]) -> Sheet:
    """Draw columns of what was recorded at nodes over each other.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    height = max(1.7, min(3.6, 9.0 / len(names)))
    figure = new_figure(WIDE_IN, height * len(names) + 0.8, layout="constrained")
    in_order = sorted(nodes, key=lambda node: node.steps[-1] if len(node.steps) else 0)  # what is short lies on top
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=True):
        for node in reversed(in_order):
            if name in node.columns:
                values = node.columns[name]
                there = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
                marker = "." if there.sum() <= FEW else ""
                panel.plot(
                    node.steps[there], values[there], color=node.colour, linestyle=node.dashes, linewidth=1.5,
                    marker=marker, label=node.name,
                )  # fmt: skip
        title(panel, name)
        label_axes(panel, "step" if panel is panels[-1] else "", "")
        panel.grid(visible=True, color=LINE, linewidth=0.6)
        panel.margins(x=0.01)
        panel.spines[["top", "right"]].set_visible(False)
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}
    shown = [node.name for node in nodes if node.name in lines]
    figure.legend(
        [lines[name] for name in shown], shown, loc="outside lower left", ncols=_beside(shown), frameon=False,
        labelcolor="linecolor", fontsize=9.5,
    )  # fmt: skip
    return Sheet(figure)


def chosen(nodes: Sequence[Curves], wanted: Sequence[str]) -> list[str]:
    """Return the columns to draw: those that are wanted, ``NAME`` standing for all ``NAME[…]``, or all.

    Raises:
        BadRequestError: Nothing was recorded, or too much for a picture.
        NotFoundError: There is no such column.
    """
    there = list(dict.fromkeys(name for node in nodes for name in node.columns))
    if not there:
        raise BadRequestError("nothing was recorded there", hint="step with --record, or: snapserv record")
    names: list[str] = []
    for name in wanted:
        found = [each for each in there if each == name or each.startswith(f"{name}[")]
        if not found:
            raise NotFoundError(f"{name!r} was not recorded there", hint=f"there are: {', '.join(there)}")
        names += found
    names = list(dict.fromkeys(names)) if wanted else there
    if len(names) > MOST_PANELS:
        raise BadRequestError(
            f"{len(names)} columns are too many for a picture", hint=f"choose some: --column {there[0]!r}"
        )
    return names


def _beside(names: list[str]) -> int:
    """Return how many names have room side by side."""
    return max(1, min(len(names), int(WIDE_IN / (0.1 * max(map(len, names), default=0) + 0.7))))
