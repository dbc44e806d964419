"""A script that uses everything, as a user with a strict type checker writes it: nothing in it is an error.

It is checked by `test_types`, and run: an author's simulation, the synchronous client, the asyncio one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, assert_type

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from snapserv_client import (
    Actions,
    Best,
    Branch,
    Diff,
    InputValues,
    NodeInfo,
    Outcome,
    Outcomes,
    Outputs,
    Pages,
    Sendable,
    Server,
    SnapservError,
    Snapshot,
    StepResult,
    Tree,
    Value,
    Verification,
    aio,
    local,
    number,
)
from snapserv_client.errors import BadRequestError
from snapserv_client.protocol import (
    AutosnapInfo,
    FieldInfo,
    MarkResult,
    RewindResult,
    SpecResult,
    StatsResult,
)

from snapserv import Field, Simulation, exported


class Heat(Simulation):
    """An author's own, with parameters that have no defaults, and inputs of its own."""

    rod: Field[np.float32] = Field(np.float32, shape=("cells",), units="K", doc="temperature")
    ticks = Field(np.dtype(np.int64))
    named = Field("f8", shape=(2,))

    class Inputs(msgspec.Struct):
        power: float = 1.0
        where: int = 0

    def setup(self, cells: int, *, seed: int = 0) -> None:
        self.rod = 300.0
        self.rod[0] += self.rng.random() + seed

    def step(self, inputs: Inputs) -> dict[str, float | npt.NDArray[np.float32]]:
        self.rod[inputs.where] += inputs.power
        self.ticks += 1
        return {"hottest": float(self.rod.max()), "ends": self.rod[[0, -1]]}

    def example_inputs(self) -> dict[str, float]:
        return {"power": 2.0}

    @exported
    def policy(self) -> dict[str, float]:
        """Return the next inputs."""
        return {"power": 0.5}


class Hotter(Heat):
    def on_branch(self, seed: int | None) -> None:
        self.rod += 0 if seed is None else seed % 3


class Weather(msgspec.Struct):
    """A struct of the user's, for what comes back."""

    hottest: float


def author() -> None:
    heat = Heat.build(cells=8)
    assert_type(heat.rod, npt.NDArray[np.float32])
    assert_type(heat.ticks, npt.NDArray[np.int64])
    assert_type(heat.named, npt.NDArray[Any])
    assert_type(Heat.rod, Field[np.float32])
    assert_type(heat.policy(), dict[str, float])
    assert_type(heat.step(Heat.Inputs(power=3.0)), dict[str, float | npt.NDArray[np.float32]])
    assert_type(heat.rng, np.random.Generator)


def user(server: Server) -> None:
    main = server.branch("main")
    assert_type(main, Branch)
    result = main.step(10, power=2.0)
    assert_type(result, StepResult)
    assert_type(result.step, int)
    assert_type(result.outputs, Outputs)
    assert_type(result.outputs["hottest"], Value)
    assert_type(number(result.outputs["hottest"]) + 1, float)
    assert_type(msgspec.convert({"hottest": result.outputs["hottest"]}, Weather).hottest, float)
    main.step(inputs={"where": np.int64(1)}, atomic=True, timeout_s=10.0, progress=print)

    before = main.snapshot("before")
    assert_type(before, Snapshot)
    assert_type(before.branch(), Branch)
    assert_type(before.branch(name="one", rng="split"), Branch)
    several: list[Branch] = before.branch(3, rng=7)
    assert_type(before.branch(2)[0], Branch)
    assert_type(before.branch(names=["a", "b"])[1], Branch)
    assert_type(server.node("before"), Branch | Snapshot)
    assert_type(before.parent(), Snapshot | None)
    assert_type(before.children(), list[Branch | Snapshot])
    with before.branch() as tried, before.branch(2) as both:
        assert_type(tried, Branch)
        assert_type(both[0], Branch)
    assert_type({main: 1, **dict.fromkeys(several, 2)}, dict[Branch, int])

    tries: list[dict[str, Sendable]] = [{"power": 1.0}, {"power": 2.0, "where": 3}]
    outcomes = before.expand(tries, steps=5, sum=["hottest"])
    assert_type(outcomes, Outcomes[None])
    listed: list[Outcome[None]] = outcomes
    assert_type(listed[0], Outcome[None])
    assert_type(outcomes[0].node, None)
    assert_type(before.expand(tries, keep="all")[0].node, Branch | None)
    assert_type(before.expand(tries, keep=Best(1, "hottest"))[0].node, Branch | None)
    assert_type(before.expand(tries, keep="all", keep_as="snapshot")[0].node, Snapshot | None)
    keep: Literal["none", "all"] = "all" if len(several) > 2 else "none"
    assert_type(before.expand(tries, keep=keep)[0].node, Branch | Snapshot | None)
    before.expand([[*tries]], policy="policy", policy_steps=2, on_outcome=lambda each: print(each.index))
    before.expand(tries, progress=True)
    main.step(3, progress=True)
    best = max(outcomes, key=lambda each: number(each["hottest"]))
    as_mapping: Mapping[str, Value] = best
    assert_type(sorted(as_mapping), list[str])
    assert_type(best.error, SnapservError | None)

    rod = main.read("rod", np.s_[2:, ...] if len(best) > 9 else np.s_[:4])
    assert_type(rod, npt.NDArray[Any])
    assert_type(main.read("rod", as_="numpy"), npt.NDArray[Any])
    assert_type(main.read("rod", np.s_[:4], as_="xarray"), xr.DataArray)
    assert_type(before.to_dataset(["rod"]), xr.Dataset)
    assert_type(outcomes.to_frame(), pd.DataFrame)
    assert_type(server.tree().to_frame(), pd.DataFrame)
    main.write("rod", rod.mean(), 3)
    main.write("rod", np.zeros(4, np.float32), slice(0, 4))
    assert_type(main.call("policy"), Value)
    assert_type(main.mark(), MarkResult)
    assert_type(main.rewind(), RewindResult)
    main.restore(before, rng="split")
    main.reset()
    assert_type(main.autosnap(every_steps=100, keep=4), AutosnapInfo | None)
    main.autosnap(off=True)
    assert_type(main.interrupt(), bool)
    assert_type(main.info(), NodeInfo)
    assert_type(main.log(), list[NodeInfo])
    actions = main.actions()
    assert_type(actions, Actions)
    assert_type(actions[:0], Actions)
    assert_type(main.verify(), Verification)
    assert_type(before.diff(main), Diff)
    assert_type(main.diff()["rod"].changed, int)
    assert_type(before.pages(main), Pages)
    before.tag("golden")
    before.pin()
    before.pin(False)
    with main.direct() as direct:
        assert_type(direct.step().outputs, Outputs)
    tree = server.tree(sizes=True)
    assert_type(tree, Tree)
    assert_type([node.private_bytes for node in tree], list[int | None])
    assert_type(server.spec(), SpecResult)
    assert_type(server.spec().fields, list[FieldInfo])
    assert_type(server.stats(), StatsResult)
    assert_type(server.ping(), float)
    assert_type(server.diff(before, main), Diff)
    assert_type(server.create(params={"cells": 4}), Branch)
    try:
        server.branch("main").step(power="much")
    except BadRequestError as error:
        assert_type(error.details, dict[str, Value])
        assert_type(error.hint, str)
    assert_type(several[0].drop(), list[str])


async def others(server: aio.Server) -> None:
    main = await server.branch("main")
    assert_type(main, aio.Branch)
    before = await main.snapshot()
    assert_type(await before.branch(), aio.Branch)
    futures = await before.branch(2)
    assert_type(futures[0], aio.Branch)
    assert_type(await asyncio.gather(*(each.step(2) for each in futures)), list[StepResult])
    given: list[InputValues] = [{"power": 1.0}]
    assert_type((await before.expand(given))[0].node, None)
    assert_type((await before.expand(given, keep="all"))[0].node, aio.Branch | None)
    async for outcome in before.expand_as_completed(given, steps=2, keep="none"):
        assert_type(outcome.node, aio.Branch | aio.Snapshot | None)
    async with await before.branch() as tried, await before.branch(2) as both:
        assert_type(tried, aio.Branch)
        assert_type(both[0], aio.Branch)
        assert_type(await tried.parent(), aio.Snapshot | None)
        assert_type(await before.children(), list[aio.Branch | aio.Snapshot])
    assert_type(await main.read("rod"), npt.NDArray[Any])
    assert_type(await server.tree(), Tree)


async def main() -> None:
    async with await aio.local(Hotter, cells=16) as server:
        await others(server)


if __name__ == "__main__":
    author()
    with local(Hotter, cells=16, seed=1) as served:
        user(served)
    asyncio.run(main())
