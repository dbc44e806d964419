"""``expand``: one round trip for many children, beside the same done one by one."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from snapserv_client import local

CHILDREN = 64
TICKS = 20
MANY = 1000


def measure(rounds: int) -> dict[str, Any]:
    """Return seconds, p50, of `CHILDREN` children of a lunar lander, and of `MANY` of an arena simulation."""
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
    with local("examples.wildfire:Wildfire", rows=1024, cols=1024) as server:
        main = server.branch("main")
        main.step(20)
        before = main.snapshot()
        many = []
        for _ in range(rounds):
            began = time.perf_counter()
            assert all(outcome.ok for outcome in before.expand([{}] * MANY))
            many.append(time.perf_counter() - began)
    rows = [
        {"what": f"expand of {CHILDREN}, LunarLander-v3, {TICKS} steps each", "s": float(np.median(together))},
        {"what": "branch, step, read and drop, one by one", "s": float(np.median(one_by_one))},
        {"what": f"expand of {MANY:,}, wildfire of 1024 x 1024, one step each", "s": float(np.median(many))},
    ]
    return {"rows": rows, "ratio": rows[1]["s"] / rows[0]["s"], "many s": rows[2]["s"]}
