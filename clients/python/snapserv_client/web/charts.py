"""Curves, in colours that can be told apart on light and on dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nicegui.element import Element
from nicegui.elements import echart

from ..plain import Array

COLOURS = ("#3f83e0", "#e07b39", "#3aa76d", "#a86bd6", "#d0a02a", "#d9588a", "#2fa3b8", "#8a94a3")
SOFT = "#8b95a4"
FAINT = "rgba(128, 138, 152, 0.22)"
MOST_POINTS = 2000
LIBRARY = echart.EChart
"""What brings ECharts along, which `chart.js` draws with."""


class Curve(Element, component="chart.js"):
    """Curves over one axis; those of more points than a screen has are thinned out."""

    def __init__(self, *, small: bool = False) -> None:
        self._small = small
        super().__init__()
        self.props["options"] = self._plain()
        self.classes("chart small" if small else "chart")

    def draw(
        self,
        curves: Mapping[str, tuple[Sequence[float] | Array, Sequence[float] | Array]],
        *,
        across: str = "",
        units: str = "",
        dashes: Mapping[str, bool] | None = None,
        colours: Mapping[str, str] | None = None,
        time: bool = False,
    ) -> None:
        """Draw curves.

        Args:
            curves: By name, places and values.
            across: What the places are.
            units: What the values are in.
            dashes: Which are dashed, by name.
            colours: Of those that are to have one of their own.
            time: Whether places are seconds since 1970.
        """
        options = self._plain()
        options["xAxis"] |= {"name": across, "type": "time" if time else "value"}
        options["yAxis"] |= {"name": units}
        options["series"] = [
            {
                "type": "line",
                "name": name,
                "showSymbol": len(at) == 1,
                "symbolSize": 5,
                "lineStyle": {"width": 1.6, "type": "dashed" if (dashes or {}).get(name) else "solid"},
                "itemStyle": {"color": (colours or {}).get(name) or COLOURS[number % len(COLOURS)]},
                "data": _points(at, values, 1000.0 if time else 1.0),
                "animation": False,
                "emphasis": {"disabled": True},
            }
            for number, (name, (at, values)) in enumerate(curves.items())
        ]
        options["legend"]["show"] = len(curves) > 1
        self.props["options"] = options

    def _plain(self) -> dict[str, Any]:
        axis = {
            "nameTextStyle": {"color": SOFT},
            "axisLabel": {"color": SOFT, "fontSize": 11, "hideOverlap": True},
            "axisLine": {"lineStyle": {"color": FAINT}},
            "splitLine": {"lineStyle": {"color": FAINT}},
        }
        small = self._small
        return {
            "grid": {
                "left": 8,
                "right": 16,
                "top": 30 if small else 40,
                "bottom": 4 if small else 26,
                "containLabel": True,
            },
            "tooltip": {"trigger": "axis", "confine": True},
            "legend": {
                "top": 0 if small else 4,
                "textStyle": {"color": SOFT, "fontSize": 11},
                "type": "scroll",
                "itemHeight": 8,
            },
            "xAxis": {"type": "value", "scale": True, "nameLocation": "middle", "nameGap": 26, **axis},
            "yAxis": {"type": "value", "scale": not small, **axis},
            "dataZoom": [] if small else [{"type": "inside"}],
            "series": [],
        }


def curve(*, small: bool = False) -> Curve:
    """Return an empty chart of curves."""
    return Curve(small=small)


def _points(at: Sequence[float] | Array, values: Sequence[float] | Array, times: float) -> list[list[float | None]]:
    """Return points as JSON has them: where there are many, the least and the greatest of each few."""
    places = np.asarray(at, np.float64) * times
    there = np.asarray(values, np.float64)
    if len(there) > MOST_POINTS:
        each = -(-len(there) // (MOST_POINTS // 2))
        rows = len(there) // each * each
        blocks = np.where(np.isnan(there[:rows]), 0, there[:rows]).reshape(-1, each)
        starts = np.arange(0, rows, each)
        chosen = np.unique(np.concatenate([starts + blocks.argmin(1), starts + blocks.argmax(1), [len(there) - 1]]))
        places, there = places[chosen], there[chosen]
    return [[float(x), float(y) if np.isfinite(y) else None] for x, y in zip(places, there, strict=True)]
