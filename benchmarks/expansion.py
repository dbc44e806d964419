"""``expand``: one round trip for many children, beside the same done one by one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from snapserv_client import local

CHILDREN = 64
TICKS = 20
MANY = 1000
PAGES = 1 << 18
"""Of the arena of children that do nothing: 1 GiB."""


def measure(rounds: int) -> dict[str, Any]:
    """Return seconds, p50, of `CHILDREN` children of a lunar lander, and of `MANY` of an arena simulation.

    Those of the arena simulation are made both ways, turn about: taken back from one to the next, and cloned.
    `MANY` more do nothing: what is left is the way back and the messages.
    """
    with local("gym:LunarLander-v3") as server:
        main = server.branch("main")
        main.call("reset", seed=1)
        before = main.snapshot()
        inputs = [{"action": number % 4} for number in range(CHILDREN)]
        together, one_by_one = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            outcomes = before.expand(inputs, steps=TICKS)
            together.append(time.perf_counter() - began)
            began = time.perf_counter()
            for each, outcome in zip(inputs, outcomes, strict=True):
                branch = before.branch()
                result = branch.step(TICKS, inputs=each)
                branch.call("observe")
                branch.drop()
                assert np.array_equal(result.outputs["observation"], outcome["observation"])
            one_by_one.append(time.perf_counter() - began)
    fires = ("examples.wildfire:Wildfire", "benchmarks.simulations:ClonedWildfire")
    many: dict[str, list[float]] = {fire: [] for fire in fires}
    with local(fires[0], rows=1024, cols=1024) as taken_back, local(fires[1], rows=1024, cols=1024) as cloned:
        snapshots = []
        for server in (taken_back, cloned):
            main = server.branch("main")
            main.step(20)
            snapshots.append(main.snapshot())
        for _ in range(rounds):
            burning = []
            for fire, before in zip(fires, snapshots, strict=True):
                began = time.perf_counter()
                burning.append([outcome["burning_ha"] for outcome in before.expand([{}] * MANY)])
                many[fire].append(time.perf_counter() - began)
            assert burning[0] == burning[1]
    idle = []
    with local("benchmarks.simulations:Pages", pages=PAGES) as server:
        before = server.branch("main").snapshot()
        for _ in range(rounds):
            began = time.perf_counter()
            before.expand([{}] * MANY)
            idle.append(time.perf_counter() - began)
    rows = [
        {"what": f"expand of {CHILDREN}, LunarLander-v3, {TICKS} steps each", "s": float(np.median(together))},
        {"what": "branch, step, read and drop, one by one", "s": float(np.median(one_by_one))},
        *(
            {"what": f"expand of {MANY:,}, wildfire of 1024 x 1024, one step each, {how}", "s": float(np.median(s))}
            for how, s in zip(("taken back", "cloned"), many.values(), strict=True)
        ),
        {"what": f"expand of {MANY:,} that do nothing, 1 GiB", "s": float(np.median(idle))},
    ]
    return {"rows": rows, "ratio": rows[1]["s"] / rows[0]["s"], "many s": rows[2]["s"], "idle s": rows[4]["s"]}
