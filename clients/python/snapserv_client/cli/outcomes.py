"""What came of an expansion, for people: a row a child, and a column for each of what it put out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..expansion import Best, Outcome
from ..figures import said
from ..looks import outputs_of
from .output import table

LONGEST_VALUE = 120
LONGEST_INPUTS = 32
"""What is longer is cut; ``--json`` has all of it."""


def outcomes_table(outcomes: Sequence[Outcome[Any]], inputs: Sequence[Any], best: Best | None) -> Any:
    """Return a table of children: the best first, and those that failed last, each with why.

    Args:
        outcomes: What came of them, in order of their inputs.
        inputs: These, a map or an array of maps for each.
        best: What is best; where it is not said they stay in that order.
    """
    from rich.console import Group
    from rich.text import Text

    from .console import results

    values = {outcome.index: values_of(outcome) for outcome in outcomes if outcome.ok}
    names = list(dict.fromkeys(name for each in values.values() for name in each))
    if best is not None and best.by in names:
        names = [best.by, *(name for name in names if name != best.by)]
    rows = in_order(outcomes, best, values)
    shown, given = list(names), True
    while True:
        made = _table(rows, inputs if given else (), shown, values, best if best and best.by in shown else None)
        if made.least_width() <= results.width or not (given or shown):
            break
        if given:  # they are what was typed
            given = False
        else:
            shown.pop()
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    notes = [Text(f"child {each.index}: {each.error.code}, {each.error.message}") for each in failed if each.error]
    if left := names[len(shown) :]:
        notes.append(Text(f"there is no room for {', '.join(left)}: a wider terminal or --json has all", "dim"))
    return Group(made, *notes) if notes else made


def values_of(outcome: Outcome[Any]) -> dict[str, Any]:
    """Return what a child put out, its sums and its fields, by name; a sum hides the output that it is of."""
    return {**outputs_of(outcome.outputs), **outcome.fields, **outcome.totals}


def in_order(
    outcomes: Sequence[Outcome[Any]], best: Best | None, values: dict[int, dict[str, Any]]
) -> list[Outcome[Any]]:
    """Return outcomes, the best first; those that have nothing to compare are behind, those that failed last."""

    def place(outcome: Outcome[Any]) -> tuple[int, float, int]:
        if not outcome.ok:
            return 2, 0.0, outcome.index
        rank = None if best is None else _rank(values[outcome.index].get(best.by), best)
        return (1, 0.0, outcome.index) if rank is None else (0, rank, outcome.index)

    return sorted(outcomes, key=place)


def _rank(value: Any, best: Best) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else -number if best.largest else number


def _table(
    rows: Sequence[Outcome[Any]],
    inputs: Sequence[Any],
    names: Sequence[str],
    values: dict[int, dict[str, Any]],
    best: Best | None,
) -> Any:
    ended = any(outcome.finished or not outcome.ok for outcome in rows)
    kept = any(outcome.node is not None for outcome in rows)
    numbers = {name for name in names if all(_is_number(each.get(name)) for each in values.values())}
    signs = {name: ">" if name in numbers else "" for name in names}
    title = f"best first: the {'largest' if best.largest else 'smallest'} {best.by}" if best else None
    heads = [">child", *(["inputs"] if inputs else []), ">step", *(f"{signs[name]}{name}" for name in names)]
    made = table(*heads, *([""] if ended else []), *(["~kept as"] if kept else []), title=title)
    for outcome in rows:
        found = values.get(outcome.index, {})
        cells = [_cut(said(found[name]), LONGEST_VALUE) if name in found else "" for name in names]
        step = f"{outcome.step:,}" if outcome.ok else ""
        ending = [outcome.error.code if outcome.error else "finished" if outcome.finished else ""] if ended else []
        node = [outcome.node.name if outcome.node is not None else ""] if kept else []
        given = [_cut(_inputs(inputs[outcome.index]), LONGEST_INPUTS)] if inputs else []
        made.add_row(str(outcome.index), *given, step, *cells, *ending, *node)
    return made


def _is_number(value: Any) -> bool:
    return value is None or (not getattr(value, "shape", ()) and isinstance(_plain(value), int | float))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _inputs(given: Any) -> str:
    maps = given if isinstance(given, list) else [given]
    return "; ".join(", ".join(f"{name} {said(value, 1)}" for name, value in each.items()) for each in maps)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
