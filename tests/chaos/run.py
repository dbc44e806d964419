"""One run: everything is set up, the schedule is carried out, and what is left is compared with the model."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from pathlib import Path

from snapserv_client import requests
from snapserv_client.aio import Server, connect

from . import house, leaks, perils, work
from .client import CONNECT_WITHIN_S, Client
from .house import House
from .model import Model, ModelNode, State
from .proxy import Proxy
from .report import FaultFoundError, Report
from .schedule import CLIENTS, OPERATIONS_PER_S, Event, Operation, Schedule
from .vandal import Vandal

PARTS = (work, perils)
"""Where the operations are, which register themselves."""
COMMON_SNAPSHOTS = 4
REAP_EVERY_S = 0.2
FINISH_WITHIN_S = 120.0
DOOMED_STEPS = 1 << 20


class Run:
    """A run of a schedule.

    Args:
        schedule: What to do.
        folder: Where the server's keys, sockets and log are; nobody else's.
    """

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        self.schedule = schedule
        self.report = Report(schedule.seed, schedule.seconds, schedule.digest)
        self._mark = secrets.token_hex(8)
        self._house = House(folder, self._mark)
        self._model = Model()
        self._commons: list[ModelNode] = []
        self._clients: list[Client] = []
        self._proxy = Proxy(lambda: self._house.port, self._tampered)
        self._nurse: Client | None = None
        self._doomed: tuple[asyncio.subprocess.Process, ModelNode] | None = None
        self._operations = 0
        self._began = 0.0

    async def go(self) -> Report:
        """Carry all of it out; return the account."""
        leaks.adopt_orphans(True)
        reaping = asyncio.create_task(self._reap())
        self._began = time.monotonic()
        try:
            await self._carry_out()
        except FaultFoundError as found:
            self.report.fault(found.fault, str(found))
        finally:
            self._house.abandon()
            self.report.elapsed_s = time.monotonic() - self._began
            reaping.cancel()
            leaks.adopt_orphans(False)
        return self.report

    async def _carry_out(self) -> None:
        await self._house.start()
        await self._restart()  # what an adopted server has open is compared with what another one has
        await self._proxy.open()
        try:
            async with await self._connect() as observer:
                await self._all_connected(observer)
                before = leaks.descriptors(self._house.pid)
                await self._settle_in(observer)
                await self._work()
                await self._compare(observer)
                await self._clear(observer)
                self._count_leftover(
                    "descriptors", await leaks.settled(lambda: leaks.descriptors(self._house.pid), before)
                )
        finally:
            await self._proxy.close()
        await self._end()

    # --------------------------------------------------------------------------------------------------- before

    async def _connect(self) -> Server:
        keys = self._house.bundle(house.OWNER)
        return await connect(self._house.endpoint, keys=keys, timeout_s=CONNECT_WITHIN_S, request_timeout_s=None)

    async def _all_connected(self, observer: Server) -> None:
        """Wait until both cells that were taken in have connected: main is read in its turn, and root cloned."""
        await observer._run(requests.read("main", "count", None))
        made = await observer._run(requests.branch("root", 1, ["probe"], "same"))
        await observer._run(requests.drop(made.nodes[0].id, recursive=False, force=False))

    async def _settle_in(self, observer: Server) -> None:
        """Note what there is, make what all may use, and connect the clients, every second one by the proxy."""
        root, main = (await observer.tree()).nodes
        first = self._model.add(root, "snapshot", None, State.first(), 0)
        branch = self._model.add(main, "branch", first.id, State.first(), 0)
        self._commons.append(first)
        for number in range(COMMON_SNAPSHOTS):
            await observer._run(requests.step(branch.id, 3, {"pattern": number}, progress=False))
            self._model.stepped(branch, 3, number)
            taken = await observer._run(requests.snapshot(branch.id, f"common{number}"))
            self._commons.append(self._model.snapshot(branch, taken.node))
        keys = self._house.bundle(house.OWNER)
        for number in range(CLIENTS):
            endpoint = self._proxy.endpoint if number % 2 else self._house.endpoint
            self._clients.append(
                await Client.connect(f"c{number}", endpoint, keys, self._model, self.report, self._commons)
            )
        for client in self._clients:
            client.others = [other for other in self._clients if other is not client]
        self._nurse = await Client.connect("n", self._house.endpoint, keys, self._model, self.report, self._commons)

    # -------------------------------------------------------------------------------------------------- meanwhile

    async def _work(self) -> None:
        """Have all clients do what they are to do, and everything happen that is to happen meanwhile."""
        vandal = Vandal(self._house.endpoint, self._house.bundle(house.READER))
        try:
            async with asyncio.timeout(self.schedule.seconds * 5 + FINISH_WITHIN_S):
                lives = [
                    asyncio.create_task(self._live(client, operations))
                    for client, operations in zip(self._clients, self.schedule.clients, strict=True)
                ]
                events = asyncio.create_task(self._happen(vandal))
                try:
                    await asyncio.gather(*lives, events)
                    await self._end_doomed()
                finally:
                    for task in (*lives, events):
                        task.cancel()
                    await asyncio.gather(*lives, events, return_exceptions=True)
        except TimeoutError:
            raise FaultFoundError("surprise", "the run does not come to its end") from None
        finally:
            vandal.close()
            for client in (*self._clients, self._nurse):
                if client is not None:
                    await client.server.close()
            if self._doomed is not None:
                self._doomed[0].kill()
                await self._doomed[0].wait()

    async def _live(self, client: Client, operations: list[Operation]) -> None:
        began = time.monotonic()
        for number, wanted in enumerate(operations):
            await asyncio.sleep(max(0.0, began + number * CLIENTS / OPERATIONS_PER_S - time.monotonic()))
            await client.do(wanted)
            self._operations += 1
            self.report.done["operations"] += 1

    async def _happen(self, vandal: Vandal) -> None:
        for event in self.schedule.events:
            while self._operations < event.after:
                await asyncio.sleep(0.01)
            await self._happens(event, vandal)

    async def _happens(self, event: Event, vandal: Vandal) -> None:
        match event.kind:
            case "restart":
                await self._restart()
            case "vandalism":
                self.report.done["messages corrupted"] += await vandal.vandalise(event)
            case "tamper":
                self._proxy.tamper(event)
            case "doom":
                await self._doom()

    async def _restart(self) -> None:
        await self._house.restart()
        self.report.done["servers killed"] += 1

    def _tampered(self, how: str) -> None:
        self.report.done["messages corrupted"] += 1
        self.report.done[f"streams tampered with: {how}"] += 1

    # ------------------------------------------------------------------------------------- clients that are killed

    async def _doom(self) -> None:
        """Kill the client that the last one of these events has started, and start another."""
        assert self._nurse is not None
        if self._doomed is not None:
            await self._end_doomed()
        victim = await self._nurse.make_branch(self._commons[0])
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.doomed",
            self._house.endpoint,
            str(self._nurse.keys),
            str(victim.id),
            cwd=house.ROOT,
            env=self._house.environment,
            stdout=asyncio.subprocess.PIPE,
        )
        self._doomed = process, victim

    async def _end_doomed(self) -> None:
        """Kill it while it steps; its branch has made whole ticks, each of them once."""
        assert self._nurse is not None
        assert self._doomed is not None
        process, victim = self._doomed
        assert process.stdout is not None
        told = await process.stdout.readline()
        process.kill()
        await process.wait()
        self._doomed = None
        self._nurse.check(told == b"stepping\n", "a client in a process of its own did not step")
        self.report.done["clients killed"] += 1
        await perils.check_ticks(self._nurse, victim, 1, range(1, DOOMED_STEPS))
        await self._nurse.drop(victim, force=True)

    # ------------------------------------------------------------------------------------------------------ after

    async def _compare(self, observer: Server) -> None:
        """Compare every node, and every byte of those that live, with the model."""
        lost, wrong = self._model.differences(await observer.tree())
        for text in lost:
            self.report.fault("lost", text)
        for text in wrong:
            self.report.fault("surprise", text)
        for node in self._model.nodes.values():
            if node.dead or any(text.startswith(f"{node.name} ") for text in lost):
                continue
            cloth = await observer._run(requests.read(node.id, "cloth", None))
            count = await observer._run(requests.read(node.id, "count", None))
            if not node.state.same_bytes(cloth, count):
                self.report.fault("wrong bytes", f"{node.name} at step {count}")
            self.report.done["nodes compared"] += 1

    async def _clear(self, observer: Server) -> None:
        """Drop all but the root and main."""
        for told in reversed((await observer.tree()).nodes):
            if told.name not in ("root", "main"):
                if told.pinned:
                    await observer._run(requests.pin(told.id, pinned=False))
                await observer._run(requests.drop(told.id, recursive=False, force=True))

    async def _end(self) -> None:
        status = await self._house.end()
        if status != 0:
            self.report.fault("surprise", f"the server ended with {status}: {self._house.log.read_text()[-2000:]}")
        self._count_leftover("processes", await leaks.settled(lambda: len(leaks.marked(self._mark))))
        self._count_leftover("zombies", await leaks.settled(lambda: len(leaks.zombies())))
        self._count_leftover("mapped tmpfs files", leaks.shared_files(leaks.marked(self._mark)))
        self._count_leftover("sockets and files", sum(not path.is_dir() for path in self._house.runtime.rglob("*")))

    def _count_leftover(self, what: str, count: int) -> None:
        self.report.leftovers[what] = count
        if count:
            self.report.fault("leaked", f"{count} {what}")

    async def _reap(self) -> None:
        """Reap the cells of killed servers, whose parent this process is now."""
        while True:
            known = {self._house.pid}
            if self._doomed is not None:
                known.add(self._doomed[0].pid)
            leaks.reap(known)
            await asyncio.sleep(REAP_EVERY_S)
