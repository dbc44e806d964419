"""Beam search for firebreaks: ``python -m snapserv.examples.search.beam``.

Where is fuel to be cleared so that a fire burns the least? At each decision a crew can clear one line. The beam
keeps the plans that are best so far, as snapshots: each candidate line is a child of one of them, which looks some
way ahead, and the best children are made again and kept, one of those that come to the same. The greedy policy is a
beam of one that looks no further than its next decision.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from snapserv_client import Server, Snapshot, local, number

SIZE = 256
DECISIONS = 10
HOLD = 12
"""Ticks between two decisions."""
AHEAD = 2
"""How many decisions further a candidate of the beam looks ahead."""
HORIZON = 400
HALF = 10
"""Cells from the middle of a line to its end."""
WIND = [5.0, 2.0]

Line = list[int]
Plan = list[Line]
Found = tuple[float, Snapshot, Plan]


def candidates(decision: int) -> list[Line]:
    """Return lines across the fire's way, on three circles around its origin: as (row, column, row, column)."""
    middle, lines = SIZE // 2, []
    for radius in (12, 24, 40):
        for angle in range(0, 360, 20):
            turn = math.radians(angle)
            row, column = middle + radius * math.sin(turn), middle + radius * math.cos(turn)
            along, across = HALF * math.cos(turn), -HALF * math.sin(turn)
            ends = row - along, column - across, row + along, column + across
            lines.append([min(SIZE - 1, max(0, round(end))) for end in ends])
    return lines


def inputs(lines: Sequence[Line]) -> dict[str, Any]:
    """Return a tick's inputs."""
    return {"wind": WIND, "firebreaks": [*lines]}


def look_ahead(snapshot: Snapshot, lines: Sequence[Line], ahead: int) -> list[float]:
    """Return what will have burnt, for each line that could be cleared now."""
    plans = [[inputs([line]), *[inputs([])] * ahead] for line in lines]
    return [number(outcome["burnt_ha"]) for outcome in snapshot.expand(plans, steps=HOLD, read=["burnt_ha"])]


def beam(start: Snapshot, width: int, ahead: int) -> tuple[Plan, int]:
    """Return the lines that a beam of a width finds, and how many children were tried."""
    kept: list[Found] = [(0.0, start, [])]
    tried = 0
    for decision in range(DECISIONS):
        lines = candidates(decision)
        tried += len(kept) * len(lines)
        scored = [
            (burnt, index, line)
            for index, (_, snapshot, _) in enumerate(kept)
            for burnt, line in zip(look_ahead(snapshot, lines, ahead), lines, strict=True)
        ]
        best: list[Found] = []
        distinct = {burnt: (index, line) for burnt, index, line in sorted(scored, reverse=True)}
        for burnt in sorted(distinct)[:width]:
            index, line = distinct[burnt]
            _, snapshot, plan = kept[index]
            (outcome,) = snapshot.expand([inputs([line])], steps=HOLD, keep="all", keep_as="snapshot")
            assert outcome.node is not None, outcome.error
            best.append((burnt, outcome.node, [*plan, line]))
        for _, snapshot, plan in kept:
            if plan:
                snapshot.drop()
        kept = best
    for _, snapshot, _ in kept:
        snapshot.drop()
    return min((plan for _, _, plan in kept), key=lambda plan: burn(start, plan)), tried


def burn(start: Snapshot, plan: Plan) -> float:
    """Return what burns in the end where a plan is carried out."""
    branch = start.branch()
    for line in plan:
        branch.step(HOLD, inputs=inputs([line]))
    result = branch.step(HORIZON - HOLD * len(plan), inputs=inputs([]))
    branch.drop()
    return number(result.outputs["burnt_ha"])


def fires(server: Server, seeds: Sequence[int], width: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Fight the fire of each seed with each policy; say a row for each, the means, and how fast the search was."""
    burnt: dict[str, list[float]] = {"nothing": [], "random": [], "greedy": [], "beam": []}
    say(f"| seed | {' | '.join(burnt)} |\n| ---: |{' ---: |' * len(burnt)}")
    tried, searching = 0, 0.0
    for seed in seeds:
        main = server.create(params={"rows": SIZE, "cols": SIZE, "seed": seed, "p_h": 0.5}, name=f"fire-{seed}")
        start = main.snapshot()
        chance = random.Random(seed)
        began = time.perf_counter()
        widest, count = beam(start, width, AHEAD)
        searching += time.perf_counter() - began
        tried += count
        plans: dict[str, Plan] = {
            "nothing": [],
            "random": [chance.choice(candidates(decision)) for decision in range(DECISIONS)],
            "greedy": beam(start, 1, 0)[0],
            "beam": widest,
        }
        for policy, plan in plans.items():
            burnt[policy].append(burn(start, plan))
        say(f"| {seed} | {' | '.join(f'{found[-1]:,.0f}' for found in burnt.values())} |")
        server.node(f"{main.last.tree}/root").drop(recursive=True)
    means = " | ".join(f"**{sum(found) / len(found):,.0f}**" for found in burnt.values())
    say(f"| mean, ha | {means} |\n\n{tried:,} nodes at {tried / searching:,.0f} nodes per second")
    return burnt


def main() -> None:
    """Fight the fires that the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="fires, from seed 0 on")
    parser.add_argument("--width", type=int, default=8, help="of the beam")
    options = parser.parse_args()
    with local("snapserv.examples.wildfire:Wildfire", rows=SIZE, cols=SIZE) as server:
        fires(server, range(options.seeds), options.width, lambda text: print(text, flush=True))


if __name__ == "__main__":
    main()
