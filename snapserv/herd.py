"""The server's processes: spawning masters, cloning cells, talking to them, and knowing how each one ended.

Every cell is a direct child of the server, whoever cloned it. A cell is watched through its pidfd (its end) and
its socket (its replies); nothing here waits for either.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from snapserv_client.wire import Buffer

from .cell import CONTROL_DESCRIPTOR, SCOREBOARD_DESCRIPTOR, cannot_clone
from .errors import NodeDiedError, SnapservError, error_from_wire
from .ext import fork
from .limits import exhausted, raise_open_files
from .link import HELLO, NUMBER, PREFIX, Prefix, decode, encode
from .oom import SNAPSHOT, prefer, score
from .scoreboard import Scoreboard
from .stacks import Stacks, Stores

log = structlog.get_logger(__name__)

ONE_THREAD = {
    # Thread pools do not survive a fork; see `cell.refuse_threads`.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # Sets and dicts of strings iterate alike in every run, so a replay can be compared.
    "PYTHONHASHSEED": "0",
}

NO_SIGNAL = int(socket.MSG_NOSIGNAL)
READ_BYTES = 1 << 18
LARGE_BYTES = 1 << 16
GOODBYE_WITHIN_S = 5.0
END_WITHIN_S = 5.0
SPARED_DESCRIPTORS = 64
"""Left to clients, files and events, so that a server full of nodes still answers."""


def cell_environment() -> dict[str, str]:
    """Return the environment that cells start with: this process's, and `ONE_THREAD` where that says nothing."""
    return {**ONE_THREAD, **os.environ}


@dataclass(frozen=True)
class Ending:
    """How a process ended: ``signal`` and ``status`` are None where the other one applies."""

    signal: str | None
    status: int | None
    asked: bool
    why: str = ""

    def __str__(self) -> str:
        how = f"killed by {self.signal}" if self.signal else f"exited with status {self.status}"
        return f"{how}: {self.why}" if self.why else how


class Cell:
    """A process of the herd, seen from the server.

    ``ended`` is done when the process is reaped. ``slot`` is the place of a branch in the scoreboard.
    ``says_goodbye`` is whether its simulation has something to do before a branch is ended. ``stacks`` are the
    layers of its tree's folders, if it branches some. ``verdict`` is why the server ended it, if it did so unasked.
    """

    def __init__(self, herd: Herd, control: socket.socket) -> None:
        self.pid = 0
        self.slot: int | None = None
        self.ended: asyncio.Future[Ending] = herd.loop.create_future()
        self.on_progress: Callable[[int, int], None] | None = None
        self.clone_us = 0.0
        self.verdict: SnapservError | None = None
        self.says_goodbye = False
        self.stacks: Stacks | None = None
        self._herd = herd
        self._control = control
        self._pidfd = -1
        self._hello: asyncio.Future[None] = herd.loop.create_future()
        self._replies: deque[asyncio.Future[Any]] = deque()
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._message: tuple[Prefix, bytearray, int] | None = None
        self._small = b""
        self._number = 0
        self._asked_to_end = False
        self._waits_to_write = False
        control.setblocking(False)
        herd.loop.add_reader(control, self._on_readable)

    # ------------------------------------------------------------------------------------------- requests

    @property
    def number(self) -> int:
        """The number of the request sent last."""
        return self._number

    def ask(self, op: str, *, descriptor: socket.socket | None = None, **arguments: Any) -> asyncio.Future[Any]:
        """Send a live cell a request, and return its answer to come.

        Args:
            op: What it is asked to do; see `snapserv.cell.Cell`.
            descriptor: A socket to send along; closed here once it is on its way.
            arguments: Plain values and arrays.

        Raises, when the answer is awaited:
            NodeDiedError: The process ended before it answered.
            SnapservError: What the cell answered.
        """
        self._number += 1
        reply: asyncio.Future[Any] = self._herd.loop.create_future()
        self._replies.append(reply)
        parts = encode(fork.REQUEST, {"op": op, "number": self._number, **arguments})
        self._send(parts, [descriptor.detach()] if descriptor else [])
        if self.ended.done():
            self._fail(self._death())
        self._herd.on_work(self)
        return reply

    @property
    def working(self) -> bool:
        """Whether it lives and was asked something that it has not answered."""
        return bool(self._replies) and not self.ended.done()

    @property
    def idle(self) -> bool:
        """Whether it lives and has answered all that it was asked."""
        return bool(self.pid) and not self.ended.done() and not self._replies

    def interrupt(self, number: int) -> None:
        """Ask the cell to stop request ``number`` after the tick that it is in."""
        self._send([PREFIX.pack(fork.INTERRUPT, 0, NUMBER.size) + NUMBER.pack(number)], [])

    def ask_for_clone(self, control: socket.socket) -> None:
        """Tell a frozen cell to clone a branch that listens on ``control``, which is closed here."""
        self._send([PREFIX.pack(fork.CLONE, 0, 0)], [control.detach()])

    async def introduced(self) -> None:
        """Wait until the process has said who it is.

        Raises:
            OverBudgetError: The kernel made no process.
            NodeDiedError: Its parent died first.
        """
        await asyncio.shield(self._hello)

    def kill(self) -> None:
        """End the process now; `ended` follows."""
        self._asked_to_end = True
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        else:
            self._hang_up()

    def condemn(self, verdict: SnapservError) -> None:
        """End the process for a reason of the server's own, which whoever waits for it is told."""
        self.verdict = verdict
        self.kill()

    # ------------------------------------------------------------------------------------------ the process

    def adopt(self, pid: int) -> None:
        """Watch the process ``pid``, a child of ours that nobody has reaped.

        Raises:
            OverBudgetError: No descriptor is left to watch it with; it is killed, and reaped as a stray.
        """
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError as cause:
            os.kill(pid, signal.SIGKILL)
            raise exhausted("a process cannot be watched", cause) from cause
        self.pid = pid
        self._herd.loop.add_reader(self._pidfd, self._on_end)
        self._herd.cells[pid] = self
        self._herd.on_work(self)

    def _on_end(self) -> None:
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if result is None:
            return
        self._herd.loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        del self._herd.cells[self.pid]
        if result.si_code == os.CLD_EXITED:
            ending = Ending(None, result.si_status, self._asked_to_end)
        else:
            why = self.verdict.message if self.verdict is not None else ""
            ending = Ending(signal.Signals(result.si_status).name, None, self._asked_to_end, why)
        self.ended.set_result(ending)
        self._on_readable()  # it may have answered before it ended
        self._hang_up()
        self._fail(self._death())
        if self.stacks is not None:
            self.stacks.release(self)
        self._herd.on_end(self, ending)

    def _death(self) -> SnapservError:
        if self.verdict is not None:
            return self.verdict
        ending = self.ended.result() if self.ended.done() else None
        details: dict[str, Any] = {"pid": self.pid}
        if ending is not None:
            details |= {"signal": ending.signal, "status": ending.status}
        if self.slot is not None:
            details["step"] = self._herd.scoreboard[self.slot]
        where = f" after step {details['step']:,}" if "step" in details else ""
        return NodeDiedError(
            f"the process of this node {ending or 'ended'}{where}",
            hint="the rest of the tree is unaffected; restore or reset revives a branch",
            details=details,
        )

    def _fail(self, error: SnapservError) -> None:
        if not self._hello.done():
            self._hello.set_exception(error)
            self._hello.exception()  # looked at, so that nobody is warned where nobody waits
        while self._replies:
            reply = self._replies.popleft()
            if not reply.done():
                reply.set_exception(error)

    def _hang_up(self) -> None:
        if self._control.fileno() >= 0:
            self._herd.loop.remove_reader(self._control)
            self._herd.loop.remove_writer(self._control)
            self._control.close()
        for _, descriptors in self._outgoing:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outgoing.clear()

    def _on_hang_up(self) -> None:
        """Handle the end of the stream: the process is ending, or has closed its socket and is of no use."""
        if self.ended.done():
            self._hang_up()
            return
        if self._pidfd < 0:
            # It never said hello: its parent died with the socket in hand, or refused to clone.
            self._hang_up()
            self._fail(self._death())
            return
        self._herd.loop.remove_reader(self._control)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    # --------------------------------------------------------------------------------------------- messages

    def _send(self, parts: list[Buffer], descriptors: list[int]) -> None:
        if self._control.fileno() < 0:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        for part in parts:
            if len(part):
                self._outgoing.append((memoryview(part).cast("B"), descriptors))
                descriptors = []
        if not self._waits_to_write:
            self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            data, descriptors = self._outgoing[0]
            try:
                if descriptors:
                    sent = socket.send_fds(self._control, [data], descriptors, NO_SIGNAL)
                else:
                    sent = self._control.send(data, NO_SIGNAL)
            except BlockingIOError:
                if not self._waits_to_write:
                    self._waits_to_write = True
                    self._herd.loop.add_writer(self._control, self._flush)
                return
            except OSError:
                self._on_readable()  # a process that could not be made says so before it closes the socket
                if self._control.fileno() >= 0:
                    self._on_hang_up()
                return
            for descriptor in descriptors:
                os.close(descriptor)
            if sent < len(data):
                self._outgoing[0] = (data[sent:], [])
            else:
                self._outgoing.popleft()
        if self._waits_to_write:
            self._waits_to_write = False
            self._herd.loop.remove_writer(self._control)

    def _on_readable(self) -> None:
        while self._control.fileno() >= 0:
            try:
                if self._message is None:
                    data = self._control.recv(READ_BYTES)
                    if data:
                        self._take(self._small + data if self._small else data)
                        if len(data) < READ_BYTES:
                            return
                        continue
                else:
                    prefix, body, got = self._message
                    count = self._control.recv_into(memoryview(body)[got:])
                    if count:
                        self._message = (prefix, body, got + count)
                        if got + count == len(body):
                            self._message = None
                            self._on_message(prefix, memoryview(body))
                        continue
            except BlockingIOError:
                return
            except ConnectionResetError:
                pass
            self._on_hang_up()
            return

    def _take(self, data: bytes) -> None:
        """Split what arrived into messages; keep the start of the last one."""
        view, at = memoryview(data), 0
        while len(data) - at >= PREFIX.size:
            prefix = Prefix(*PREFIX.unpack_from(data, at))
            size = prefix.header_bytes + prefix.payload_bytes
            start = at + PREFIX.size
            if len(data) - start >= size:
                self._on_message(prefix, view[start : start + size])
                at = start + size
            elif size <= LARGE_BYTES:
                break
            else:
                body = bytearray(size)
                got = len(data) - start
                body[:got] = view[start:]
                self._message = (prefix, body, got)
                at = len(data)
        self._small = data[at:]

    def _on_message(self, prefix: Prefix, body: memoryview) -> None:
        if prefix.kind == fork.REPLY:
            if self._replies:
                reply = self._replies.popleft()
                answer = decode(body[: prefix.header_bytes], body[prefix.header_bytes :])
                if reply.done():
                    pass  # given up by whoever asked
                elif "error" in answer:
                    reply.set_exception(error_from_wire(answer["error"]))
                else:
                    reply.set_result(answer["ok"])
        elif prefix.kind == fork.FROZE:
            (clone_ns,) = struct.unpack("=q", body)
            reply = self._replies.popleft()
            if not reply.done():
                reply.set_result(clone_ns / 1000)
        elif prefix.kind == fork.PROGRESS:
            if self.on_progress is not None:
                progress = decode(body[: prefix.header_bytes], b"")
                self.on_progress(progress["done"], progress["total"])
        elif prefix.kind == fork.HELLO:
            pid, clone_ns = HELLO.unpack(body)
            self.clone_us = clone_ns / 1000
            try:
                self.adopt(pid)
            except SnapservError as error:
                self._hang_up()
                self._fail(error)
                return
            if not self._hello.done():
                self._hello.set_result(None)
        elif prefix.kind == fork.FAILED:
            (number,) = struct.unpack("=q", body)
            self._hang_up()
            self._fail(cannot_clone(OSError(number, os.strerror(number))))


class Herd:
    """All cells of a server.

    Args:
        on_end: Called with each cell that ended and how.
    """

    def __init__(self, on_end: Callable[[Cell, Ending], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.cells: dict[int, Cell] = {}
        self.on_end = on_end
        self.on_work: Callable[[Cell], None] = lambda cell: None
        self.admit: Callable[[str, Cell | None], Awaitable[None]] = _admit
        self.own_score = score()
        self._open_files = raise_open_files()
        self._file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.scoreboard, self._scoreboard_descriptor = Scoreboard.create()
        self._stores = Stores()
        self._stores.sweep()

    async def spawn_master(self, request: Mapping[str, Any]) -> tuple[Cell, dict[str, Any]]:
        """Start a fresh interpreter, have it set a simulation up, and return its cell and its description.

        Raises:
            SnapservError: What setup met; nothing is left of the process.
        """
        await self.admit("another tree", None)
        ours, theirs = self._socket_pair()
        # Moved out of the way first: one of the two may have the number that the other is to get.
        aside = min(1000, self._file_limit - 1)
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "snapserv.cell"],
                cell_environment(),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), aside),
                    (os.POSIX_SPAWN_DUP2, self._scoreboard_descriptor, SCOREBOARD_DESCRIPTOR),
                    (os.POSIX_SPAWN_DUP2, aside, CONTROL_DESCRIPTOR),
                    (os.POSIX_SPAWN_CLOSE, aside),
                ],
                setsid=True,  # Ctrl-C in the server's terminal is the server's affair
            )
        except OSError as cause:
            ours.close()
            raise cannot_clone(cause) from cause
        finally:
            theirs.close()
        cell = Cell(self, ours)
        try:
            cell.adopt(pid)
        except SnapservError:
            cell.kill()  # which hangs up
            raise
        stores = self._stores.name()
        try:
            described = await cell.ask("setup", stores=stores, open_files=self._open_files, **request)
            cell.says_goodbye = described["says_goodbye"]
            if described["folders"] is not None:
                cell.stacks = Stacks(self._stores, described["folders"], cell)
            return cell, described
        except BaseException:
            cell.kill()
            await asyncio.shield(cell.ended)
            self._stores.remove(stores)
            raise

    async def freeze(self, live: Cell) -> tuple[Cell, float]:
        """Clone a live cell into a frozen one; return it and the microseconds that its parent was held up.

        Raises:
            SnapservError: The parent has threads, the kernel made no process, or the parent died.
        """
        await self.admit("a snapshot", live)
        ours, theirs = self._socket_pair()
        frozen = Cell(self, ours)
        frozen.says_goodbye = live.says_goodbye
        stacks = frozen.stacks = live.stacks
        try:
            prepared: Any = stacks and await live.ask("prepare", folders=stacks.preparing(live))
            fork_us: float = await live.ask("freeze", descriptor=theirs)
            if stacks is not None:
                stacks.froze(live, frozen, prepared)
            await frozen.introduced()
            # From here: a frozen cell runs nothing of its own. Where it has ended, that is seen elsewhere.
            with contextlib.suppress(OSError):
                prefer(frozen.pid, SNAPSHOT, self.own_score)
        except BaseException:
            frozen.kill()
            if stacks is not None:
                stacks.release(frozen)
            raise
        return frozen, fork_us

    async def thaw(self, frozen: Cell, *, step: int, seed: int | None, silent: bool = False) -> Cell:
        """Clone a frozen cell into a live branch that stands at ``step``; ``silent`` leaves ``on_branch`` out.

        Raises:
            SnapservError: The kernel made no process, the snapshot died, or ``on_branch`` raised.
        """
        await self.admit("a branch", frozen)
        ours, theirs = self._socket_pair()
        slot = self.scoreboard.take(step)
        if slot is None:
            ours.close()
            theirs.close()
            raise exhausted("no place is left in the scoreboard", OSError(errno.EAGAIN, ""))
        branch = Cell(self, ours)
        branch.slot = slot
        branch.says_goodbye = frozen.says_goodbye
        stacks = branch.stacks = frozen.stacks
        folders = stacks.beginning(frozen, branch) if stacks is not None else None
        try:
            frozen.ask_for_clone(theirs)
            # Sent before the process exists: it waits in the socket, and the branch begins without a round trip.
            beginning = branch.ask("begin", slot=slot, seed=seed, silent=silent, folders=folders)
            try:
                await branch.introduced()
            except SnapservError:
                beginning.cancel()
                raise
            begun = await beginning
            if stacks is not None:
                stacks.began(frozen, branch, begun["folders"])
        except BaseException:
            branch.kill()
            if branch.pid:
                await asyncio.shield(branch.ended)
            elif stacks is not None:
                stacks.release(branch)
            self.scoreboard.give_back(slot)
            raise
        return branch

    def _socket_pair(self) -> tuple[socket.socket, socket.socket]:
        """Return the two ends of a cell's socket.

        Raises:
            OverBudgetError: No descriptors are left but those that are spared. The kernel gives the lowest number
                that is free, so a number says how many are taken.
        """
        try:
            ours, theirs = socket.socketpair()
        except OSError as cause:
            raise exhausted("no descriptors are left for another node", cause) from cause
        if max(ours.fileno(), theirs.fileno()) < self._file_limit - SPARED_DESCRIPTORS:
            return ours, theirs
        ours.close()
        theirs.close()
        raise exhausted("no descriptors are left for another node", OSError(errno.EMFILE, ""))

    async def end(self, cell: Cell) -> None:
        """End a cell, wait until it is reaped and free its place in the scoreboard.

        A branch whose simulation wants to say goodbye may, for a while, unless it is busy or never began.
        """
        if cell.says_goodbye and cell.slot is not None and cell.idle:
            with contextlib.suppress(SnapservError, TimeoutError):
                async with asyncio.timeout(GOODBYE_WITHIN_S):
                    await cell.ask("leave")
        cell.kill()
        if cell.pid:
            await asyncio.shield(cell.ended)
        if cell.slot is not None:
            self.scoreboard.give_back(cell.slot)
            cell.slot = None

    def reap_strays(self) -> None:
        """Reap children that are no cells: what a simulator left behind, or a clone that never said hello."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in self.cells:
                return
            log.warning("stray_process_reaped", pid=found.si_pid, status=found.si_status)
            os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)

    async def close(self) -> None:
        """End every cell and wait until all are reaped."""
        cells = list(self.cells.values())
        for cell in cells:
            cell.kill()
        if cells:
            await asyncio.wait([asyncio.shield(cell.ended) for cell in cells], timeout=END_WITHIN_S)
        self.reap_strays()
        await self.loop.run_in_executor(None, self._stores.close)
        self.scoreboard.close()
        os.close(self._scoreboard_descriptor)


async def _admit(_: str, __: Cell | None) -> None:
    """Admit everything: what a herd does that has no budget."""
