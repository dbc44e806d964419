"""Which of a run's automatic snapshots stay, so that a bounded number of them reaches back as far as it ran.

The problem is that of online checkpointing: a run does not say how long it will be, and a place that was given up
cannot be had again (Bern, Greene, Raghunathan, Sudan: On-line algorithms for locating checkpoints, Algorithmica 11,
1994). What is wanted here is not even spacing, but that recent places lie dense and old ones sparse.

Places are counted: the first snapshot of a run is at 1, and the run began at 0, where its root is always there. A
place's *age* is its distance from the newest. Where one has to go, it is that which leaves the smallest gap in
proportion to the gap's age: ``(newer - older) / (age of newer + 1)``.

That bounds every gap. Let there be k + 1 places before one goes, T be the newest, and r the smallest of those
ratios. Then ``age[i-1] + 1 >= (1 + r) * (age[i+1] + 1)`` for the neighbours of each place i, and every second
place, from the newest of age 0 up to the beginning, makes a chain of these: ``T + 1 >= (1 + r) ** ((k + 1) // 2)``.
A gap only gets older, so its ratio only falls. So at any time each gap is at most ``stretch(T, k) * (age + 1)``,
and so is the way from any past moment to the next older place. With k = 2 log2(T + 1) that is one age: with 40
places for a million.
"""

from __future__ import annotations

from collections.abc import Iterable


def superfluous(places: Iterable[int], keep: int) -> list[int]:
    """Return which places go so that ``keep`` stay, in the order in which they do; the newest always stays.

    Args:
        places: Different numbers from 1 on.
        keep: At least 1.
    """
    kept = sorted(places)
    gone = []
    while len(kept) > keep:
        newest = kept[-1]

        def gap(index: int, newest: int = newest) -> float:
            older, newer = (kept[index - 1] if index else 0), kept[index + 1]
            return (newer - older) / (newest - newer + 1)

        gone.append(kept.pop(min(range(len(kept) - 1), key=gap)))
    return gone


def stretch(newest: int, keep: int) -> float:
    """Return what no gap divided by its age and 1 exceeds, once a run has come to ``newest``."""
    return max(1.0, float((newest + 1) ** (1 / ((keep + 1) // 2)) - 1))
