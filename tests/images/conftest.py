"""Cells without a server: masters, branches and snapshots of a table of processes, and their images."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from snapserv_client.store.format import Image

from snapserv.archiver.bases import BaseFiles, PlacesHere
from snapserv.errors import InternalError, SnapservError
from snapserv.images import reviving
from snapserv.images.machine import Files
from snapserv.images.probing import find_top
from snapserv.images.record import read_record
from snapserv.images.taking import Process, Taken, Taker
from snapserv.nodes.bringing import revive
from snapserv.nodes.ledger import Ledger
from snapserv.nodes.process import CellProcess
from snapserv.nodes.process_table import ProcessTable
from snapserv.store.writing import StoreWriter

ROOT = Path(__file__).resolve().parents[2]


class House:
    """A table of processes, as a server has one; when it is closed, all of them have ended."""

    def __init__(self) -> None:
        self.ledger = Ledger.create()
        self.table = ProcessTable(
            lambda cell, ending: None, lambda cell: None, self.ledger, adoption="/nowhere", orphan_grace_s=0
        )

    async def master(self, target: str, *, backing: str | None = None, **params: Any) -> CellProcess:
        setup = {"backing": backing, "path": [str(ROOT)], "branch_dirs": [], "allow": []}
        cell, _ = await self.table.spawn_master({**setup, "target": target, "params": params})
        return cell

    async def branch(self, frozen: CellProcess, step: int = 0) -> CellProcess:
        return await self.table.thaw(frozen, step=step, seed=None)

    async def freeze(self, branch: CellProcess) -> CellProcess:
        return (await self.table.freeze(branch))[0]

    async def close(self) -> None:
        await self.table.close()
        self.ledger.close()


class Shelf:
    """A store, with what takes images into it and brings them out again."""

    def __init__(self, folder: Path) -> None:
        self.writer = StoreWriter(folder)
        self.store = self.writer.store
        self.taker = Taker(self.store)
        self.bases = BaseFiles(self.store)
        self.files = Files()

    async def take(
        self,
        house: House,
        cell: CellProcess,
        relative: Taken | None = None,
        others: Sequence[CellProcess] = (),
        beside: CellProcess | None = None,
        record: Mapping[str, Any] | None = None,
        embed: bool = False,
    ) -> Taken:
        """Take the image of a cell; its ``record``, if it has answered already."""
        with contextlib.ExitStack() as closing:
            processes = []
            for each in (cell, *others):
                memory = os.open(f"/proc/{each.pid}/mem", os.O_RDONLY)
                closing.callback(os.close, memory)
                told = record if record is not None and each is cell else read_record(await each.describe())
                processes.append(Process(each.pid, memory, told, house.ledger.name))
            was = None if relative is None else relative.sha256
            with self.writer.saving() as saving:
                pid = beside.pid if beside is not None else 0
                return self.taker.take(
                    *(processes[0], saving), relative=was, relative_pid=pid, others=processes[1:], embed=embed
                )

    async def revive(self, house: House, taken: Taken, *, jumps: bool = False, top: bool = True) -> CellProcess:
        found = find_top() if top else None
        ready = reviving.revive(taken.image, self.store, self._places(taken), top=found, jumps=jumps)
        return await revive(house.table, ready.descriptor, ready.above, explain(ready.told), None)

    async def become(self, house: House, taken: Taken, was: Taken, relative: CellProcess) -> CellProcess:
        ready = reviving.become(taken.image, was.image, self.store, self._places(taken))
        return await revive(house.table, ready.descriptor, ready.above, explain(ready.told), relative)

    def _places(self, taken: Taken) -> PlacesHere:
        return PlacesHere(self.bases, self.files.find_changed(taken.image.files))


def explain(told: Sequence[str]) -> Callable[[int, int], SnapservError]:
    def what(number: int, operation: int) -> SnapservError:
        return InternalError(f"{told[operation]}: {os.strerror(number)}", details={"operation": operation})

    return what


async def tick(branch: CellProcess, count: int, inputs: Mapping[str, Any] | None = None) -> list[str]:
    """Return what each of some ticks puts out."""
    outputs = []
    for _ in range(count):
        told = await branch.ask("step", ticks=1, inputs=dict(inputs or {}))
        outputs.append(repr(told["outputs"]))
    return outputs


def memory_of(pid: int, image: Image) -> dict[int, bytes]:
    """Return every page of what a process has mapped, but for the kernel's and the server's."""
    pages: dict[int, bytes] = {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for area in image.areas:
            if area.kind in ("vdso", "vvar", "ledger") or not area.protection & mmap.PROT_READ:
                continue
            with contextlib.suppress(OSError):  # behind the end of a file
                for address in range(area.start, area.end, 4096):
                    pages[address] = os.pread(memory.fileno(), 4096, address)
    return pages


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "store")


@contextlib.asynccontextmanager
async def living() -> AsyncIterator[House]:
    """A house, in which all processes have ended when the block is left."""
    house = House()
    try:
        yield house
    finally:
        await house.close()


def run(work: Any) -> Any:
    """Run a coroutine in a loop of its own."""
    return asyncio.run(work)
