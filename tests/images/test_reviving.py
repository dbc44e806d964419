"""A frozen process comes back from its image, in another process, as it was: bit for bit."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from snapserv.errors import InternalError, NotPortableError
from snapserv.images.looking import look
from snapserv.images.record import read_record
from snapserv.memory import backings

from ..conftest import assert_settles
from .conftest import House, Shelf, living, memory_of, tick

TICKS = 25


class Kind(NamedTuple):
    target: str
    inputs: Mapping[str, Any] = MappingProxyType({})
    params: Mapping[str, Any] = MappingProxyType({})
    backing: str | None = None


KINDS = {
    "walk": Kind("tests.simulations.walk:Walk"),
    "simpy": Kind("simpy:snapserv.examples.machine_shop:Shop"),
    "lander": Kind("gym:LunarLander-v3", {"action": 0}),
    "pendulum": Kind("gym:Pendulum-v1", {"action": [0.5]}),
    "nameless-file": Kind("tests.simulations.chance:Heap"),
    "dice": Kind("tests.simulations.chance:Dice"),
    "wildfire": Kind("snapserv.examples.wildfire:Wildfire"),
    **{
        f"gray-scott-{name}": Kind(
            "snapserv.examples.gray_scott:GrayScott", params={"rows": 128, "cols": 128}, backing=name
        )
        for name in backings.NAMES
    },
}


def kind(name: str) -> Kind:
    found = KINDS[name]
    if (
        found.backing is not None
        and not next(each for each in backings.probe() if each.name == found.backing).available
    ):
        pytest.skip(f"no {found.backing} here")
    return found


async def branch_of(house: House, frozen: Any, ticks: int, inputs: Mapping[str, Any]) -> list[str]:
    return await tick(await house.branch(frozen), ticks, inputs)


@pytest.mark.parametrize("name", KINDS)
def test_a_revived_process_and_one_that_its_relative_becomes_go_on_as_the_originals(
    shelf: Shelf, name: str
) -> None:
    target, inputs, params, backing = kind(name)

    async def work() -> None:
        async with living() as house:
            master = await house.master(target, backing=backing, **params)
            branch = await house.branch(master)
            await tick(branch, 5, inputs)
            first = await house.freeze(branch)
            await tick(branch, 3, inputs)
            second = await house.freeze(branch)
            wanted = {each: await branch_of(house, each, TICKS, inputs) for each in (master, first, second)}
            root = await shelf.take(house, master)
            one = await shelf.take(house, first, root, [master])
            two = await shelf.take(house, second, one, beside=first)
            # By pages' numbers or by their contents, it is the same, but for the stack of what has just answered.
            assert abs((await shelf.take(house, second, one)).pages - two.pages) <= 1
            assert two.new_pages < root.new_pages / 2
            if backing is None:
                assert one.new_pages < root.new_pages / 2  # only what is new was written
        async with living() as house:
            alone = await shelf.revive(house, one)
            assert await branch_of(house, alone, TICKS, inputs) == wanted[first]
            beside = await shelf.become(house, two, one, alone)
            assert await branch_of(house, beside, TICKS, inputs) == wanted[second]
            back = await shelf.become(house, root, two, beside)
            assert await branch_of(house, back, TICKS, inputs) == wanted[master]
            again = await shelf.become(house, one, root, back)
            assert await branch_of(house, again, TICKS, inputs) == wanted[first]

    asyncio.run(work())


def rich(folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return {"folder": str(folder)}


@pytest.mark.parametrize("jumps", [False, True], ids=["moved", "jumps"])
def test_files_signals_objects_and_addresses_come_back(shelf: Shelf, tmp_path: Path, jumps: bool) -> None:
    async def work() -> None:
        async with living() as house:
            master = await house.master("tests.simulations.lasting:Rich", **rich(tmp_path / "files"))
            branch = await house.branch(master)
            await tick(branch, 5)
            frozen = await house.freeze(branch)
            wanted = await branch_of(house, frozen, TICKS, {})
            taken = await shelf.take(house, frozen)
            before = memory_of(frozen.pid, taken.image)
        async with living() as house:
            revived = await shelf.revive(house, taken, jumps=jumps)
            after = memory_of(revived.pid, taken.image)
            assert before.keys() == after.keys()
            differ = [address for address in before if before[address] != after[address]]
            # The thread's control block, and what lies below the frame that waits.
            assert len(differ) <= 4, [hex(address) for address in differ]
            assert await branch_of(house, revived, TICKS, {}) == wanted

    asyncio.run(work())


def test_eight_lives_are_as_one(shelf: Shelf, tmp_path: Path) -> None:
    async def work() -> None:
        async with living() as house:
            master = await house.master("tests.simulations.lasting:Rich", **rich(tmp_path / "files"))
            wanted = await branch_of(house, master, 8 * 3, {})
            taken = await shelf.take(house, master)
        told: list[str] = []
        for _ in range(8):
            async with living() as house:
                branch = await house.branch(await shelf.revive(house, taken))
                told += await tick(branch, 3)
                taken = await shelf.take(house, await house.freeze(branch), taken)
        assert told == wanted

    asyncio.run(work())


def test_where_addresses_cannot_be_the_same_values_are(shelf: Shelf) -> None:
    async def work() -> None:
        async with living() as house:
            frozen = await house.freeze(await house.branch(await house.master("gym:LunarLander-v3")))
            wanted = await branch_of(house, frozen, TICKS, {"action": 0})
            taken = await shelf.take(house, frozen)
        async with living() as house:
            assert (
                await branch_of(house, await shelf.revive(house, taken, top=False), TICKS, {"action": 0}) == wanted
            )

    asyncio.run(work())


@pytest.mark.parametrize("what", ["pipe", "socket", "eventfd", "epoll"])
def test_what_cannot_last_is_refused_by_name_before_anything_is_written(shelf: Shelf, what: str) -> None:
    from ..simulations.lasting import OBSTACLES

    async def work() -> None:
        async with living() as house:
            master = await house.master("tests.simulations.lasting:Holding", what=what)
            with pytest.raises(NotPortableError) as caught:
                await shelf.take(house, master)
            assert [held["why"] for held in caught.value.details["held"]][:1] == [OBSTACLES[what][0]]

    asyncio.run(work())
    assert not [entry for entry in shelf.writer.blobs.entries("") if entry.key.startswith(("packs", "images"))]


def test_a_process_is_read_and_not_touched(shelf: Shelf) -> None:
    async def work() -> None:
        async with living() as house:
            master = await house.master("tests.simulations.walk:Walk")
            record = read_record(await master.describe())
            assert_settles(lambda: Path(f"/proc/{master.pid}/stat").read_text().rpartition(")")[2].split()[0], "S")
            taken = await shelf.take(house, master, record=record)
            before = memory_of(master.pid, taken.image)
            again = await shelf.take(house, master, taken, record=record)
            assert (again.new_pages, again.written_bytes) == (0, 0)
            assert memory_of(master.pid, taken.image) == before
            seen = look(master.pid, record, house.ledger.name, None)
            assert seen.obstacles == []

    asyncio.run(work())


def test_which_operation_failed_is_told(shelf: Shelf, tmp_path: Path) -> None:
    async def work() -> None:
        async with living() as house:
            master = await house.master("tests.simulations.lasting:Rich", **rich(tmp_path / "files"))
            taken = await shelf.take(house, master)
        os.remove(tmp_path / "files" / "data")
        async with living() as house:
            with pytest.raises(InternalError, match=r"opening .*files/data: No such file"):
                await shelf.revive(house, taken)
            assert not house.table.cells or all(cell.ended.done() for cell in house.table.cells.values())

    asyncio.run(work())
