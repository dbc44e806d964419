"""Wrong uses, each of which a type checker has to find: the line after ``# wrong`` is an error, and no other is."""

from __future__ import annotations

import msgspec
import numpy as np
from snapserv_client import Best, Branch, Server, Snapshot, aio, local

from snapserv import Field, Simulation, exported


class Wrong(Simulation):
    # wrong: axes are counted or named
    rod = Field(np.float32, shape=(1.5,))
    count = Field(np.int64)

    class Inputs(msgspec.Struct):
        power: float = 1.0

    # wrong: outputs have names
    def step(self, inputs: Inputs) -> list[float]:
        # wrong: it has no such input
        return [inputs.force]

    # wrong: hooks are called with a seed
    def on_branch(self) -> None:
        # wrong: a field is an array, which has no such attribute
        self.count.append(1)


# wrong: methods are exported, and not values
exported(3)


def user(server: Server) -> None:
    # wrong: a branch is asked for by name or id
    main = server.branch(1.5)
    # wrong: ticks are counted
    main.step("10")
    # wrong: functions cannot be sent
    main.step(policy=print)
    # wrong: nor can sets
    main.call("total", {1, 2})
    # wrong: outputs are values, and not all of them numbers
    main.step().outputs["mean"] + 1
    # wrong: what is not there
    print(main.step().output)
    # wrong: arrays are of numpy or of xarray
    main.read("rod", as_="polars")
    before = main.snapshot()
    # wrong: a snapshot never steps
    before.step()
    # wrong: several are a list
    before.branch(3).step()
    # wrong: one is none
    before.branch()[0]
    # wrong: a name for one and names for several
    before.branch(name="a", names=["b", "c"])
    # wrong: a stream is the same, split, or seeded
    before.branch(rng="other")
    # wrong: nothing was kept
    before.expand([{}])[0].node.step()
    # wrong: a child that failed is no node
    before.expand([{}], keep="all")[0].node.step()
    kept = before.expand([{}], keep=Best(1, "mean"), keep_as="snapshot")[0].node
    if kept is not None:
        # wrong: it was kept as a snapshot
        kept.step()
    # wrong: what is kept is none, all or the best
    before.expand([{}], keep="most")
    # wrong: an input of an expansion is a map
    before.expand([1, 2])
    # wrong: a misspelt option
    before.expand([{}], polciy="total")
    # wrong: progress is shown, told or neither
    main.step(progress="bar")
    # wrong: a region is of indices
    main.read("position", "1:3")
    # wrong: a root has no parent
    before.parent().name
    # wrong: it is a server's method
    found: Branch = server.snapshot("before")
    # wrong: a node may be a branch
    other: Snapshot = server.node("before")
    print(found, other)
    # wrong: parameters are sent, too
    local("module:Class", size=print)


async def others(server: aio.Server) -> None:
    # wrong: it is to be awaited
    server.branch("main").step()
    main = await server.branch("main")
    # wrong: the two clients do not mix
    synchronous: Branch = main
    # wrong: async with
    with await main.branch():
        print(synchronous)
