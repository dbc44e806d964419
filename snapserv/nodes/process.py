"""A cell's process, seen from the server: what it is asked and answers, and how it ends.

It is watched through its pidfd (its end) and its socket (its replies), a frozen one through its socket alone;
nothing here waits for either.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from snapserv_client.wire import Buffer

from ..cell.link import FAILURE, HELLO, NUMBER, PREFIX, SETTLEMENT, Prefix, encode
from ..cell.scoreboard import Scoreboard
from ..errors import NodeDiedError, SnapservError
from ..ext import fork
from ..machine.endings import Ending, ending_of
from ..machine.limits import exhausted
from .answers import Answer, Answered, failure, resolve
from .inbox import GarbledError, Inbox, answer_of, progress_of
from .stacks import Stacks
from .temporaries import Temporaries

NO_SIGNAL = int(socket.MSG_NOSIGNAL)
CLONING = ("freeze", "remember")
"""Requests that are answered from C where they succeed."""

RequestKey: TypeAlias = tuple[bytes, int]
"""A client and its request: what a cell that has done it remembers until the server asks it something else."""


class Table(Protocol):
    """What a process knows of the table that it is in; see `snapserv.nodes.process_table`."""

    loop: asyncio.AbstractEventLoop
    cells: dict[int, CellProcess]
    answers: dict[RequestKey, Answer]
    scoreboard: Scoreboard
    stalled_after_s: float
    on_end: Callable[[CellProcess, Ending], None]
    on_work: Callable[[CellProcess], None]

    def watch(self, what: socket.socket | int, then: Callable[[], None], *, writable: bool = False) -> None:
        """Have the loop call ``then`` whenever a descriptor is ready, on nobody's behalf."""


class CellProcess:
    """A cell, seen from the server.

    ``ended`` is done when the process is reaped. ``slot`` is the place of a branch in the scoreboard.
    ``has_on_drop`` is whether its simulation has something to do before a branch is ended. ``stacks`` are the
    layers of its folders, if it branches some, and ``temporaries`` its tree's folders for temporary files, if there
    are any. ``verdict`` is why the server ended it, if it did so unasked.
    A cell of an earlier server is without a ``control`` socket until it connects; what it is sent waits.
    """

    def __init__(self, table: Table, control: socket.socket | None) -> None:
        self.pid = 0
        self.slot: int | None = None
        self.ended: asyncio.Future[Ending] = table.loop.create_future()
        self.on_progress: Callable[[int, int], None] | None = None
        self.clone_us = 0.0
        self.verdict: SnapservError | None = None
        self.has_on_drop = False
        self.begun: Mapping[str, Any] = {}
        """What it answered when it began: of a branch, what was reseeded."""
        self.stacks: Stacks | None = None
        self.temporaries: Temporaries | None = None
        self.shares_with: list[CellProcess] = []
        """The one that it was cloned of, and the last one that was cloned of it: while all of them live."""
        self.runs_code = False
        """Whether a simulation runs in it, which may start processes: a frozen one never does."""
        self.child = True
        """Whether it is this server's own, which alone can reap it: what is cloned of it is too."""
        self.explain: Callable[[int, int], SnapservError] = failure
        """What it means that there could be no process: the error's number, and what it was about."""
        self.table = table
        self._control = control
        self._pidfd = -1
        self._hello: asyncio.Future[None] = table.loop.create_future()
        self._replies: deque[tuple[str, Answered]] = deque()
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._inbox = Inbox(self._on_message, self._on_answer)
        self._number = 0
        self._asked_to_end = False
        self._hung_up = False
        self._waits_to_write = False
        if control is not None:
            self.connect(control)

    # ------------------------------------------------------------------------------------------- requests

    @property
    def number(self) -> int:
        """The number of the request sent last."""
        return self._number

    def ask(
        self,
        op: str,
        *,
        key: RequestKey | None = None,
        descriptor: socket.socket | None = None,
        **arguments: Any,
    ) -> asyncio.Future[Any]:
        """Send a live cell a request, and return its answer to come.

        Args:
            op: What it is asked to do; see `snapserv.cell.loop.Cell`.
            key: Of what changes something: whose request it is. What was done for an earlier server, and not told,
                is the answer, and not done again.
            descriptor: A socket to send along; closed here once it is on its way.
            arguments: Plain values and arrays.

        Raises, when the answer is awaited:
            SnapservError: What the cell answered, or NodeDiedError: the process ended before.
        """
        reply: asyncio.Future[Any] = self.table.loop.create_future()
        if key is not None:
            answer = self.table.answers.get(key)
            if answer is not None and not answer.given:
                answer.given = True
                resolve(reply, answer.reply)
                return reply
            arguments["key"] = key
        self.ask_for(reply, op, arguments, descriptor)
        return reply

    def ask_for(self, reply: Answered, op: str, arguments: Any, descriptor: socket.socket | None = None) -> None:
        """Do what `ask` does where it is new, and have ``reply`` told; what cannot be sent raises, and none is."""
        self._number += 1
        parts = encode(fork.REQUEST, {"op": op, "number": self._number, **arguments})
        self._replies.append((op, reply))
        self._send(parts, [descriptor.detach()] if descriptor else [])
        if self.ended.done():
            self._fail(self._death())
        self.table.on_work(self)

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

    def describe(self) -> asyncio.Future[bytes]:
        """Ask a frozen cell what the kernel holds for it; return its answer to come, a ``snapserv_record``."""
        reply: asyncio.Future[bytes] = self.table.loop.create_future()
        self._replies.append(("describe", reply))
        self._send([PREFIX.pack(fork.DESCRIBE, 0, 0)], [])
        if self.ended.done():
            self._fail(self._death())
        return reply

    def ask_to_become(self, control: socket.socket, script: int, above: int) -> None:
        """Tell a frozen cell to clone what a script says, which listens on ``control``; both are closed here."""
        message = PREFIX.pack(fork.BECOME, 0, NUMBER.size) + NUMBER.pack(above)
        self._send([message], [control.detach(), script])

    def settle(self, adoption: str, grace_s: float) -> None:
        """Tell a frozen cell that was brought back where it finds this server's successor."""
        told = SETTLEMENT.pack(int(grace_s * 1e9), os.fsencode(adoption))
        self._send([PREFIX.pack(fork.SETTLE, 0, len(told)) + told], [])

    async def introduced(self) -> None:
        """Wait until the process has said who it is.

        Raises:
            OverBudgetError: The kernel made no process.
            NodeDiedError: Its parent died first.
        """
        await asyncio.shield(self._hello)

    def greet(self) -> None:
        """Take note that the process has said hello."""
        if not self._hello.done():
            self._hello.set_result(None)

    def kill(self) -> None:
        """End the process now; `ended` follows."""
        self._asked_to_end = True
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        elif self.pid:
            if not self.ended.done():
                os.kill(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        else:
            self._hang_up()

    def condemn(self, verdict: SnapservError) -> None:
        """End the process for a reason of the server's own, which whoever waits for it is told."""
        self.verdict = verdict
        self.kill()

    # ------------------------------------------------------------------------------------------ the process

    def connect(self, control: socket.socket) -> None:
        """Talk to the process through ``control``, which is the cell's from now on."""
        control.setblocking(False)
        self._control = control
        self.table.watch(control, self._on_readable)
        self._flush()

    @property
    def connected(self) -> bool:
        """Whether there is, or was, a socket to it."""
        return self._control is not None

    def adopt(self, pid: int) -> None:
        """Watch the process ``pid``: a child that nobody has reaped, or a cell of an earlier server.

        Raises:
            OverBudgetError: No descriptor is left to watch it with; it is killed, and reaped as a stray.
        """
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError as cause:
            os.kill(pid, signal.SIGKILL)
            raise exhausted("a process cannot be watched", cause) from cause
        self.pid = pid
        self.table.watch(self._pidfd, self._on_end)
        self.table.cells[pid] = self
        self.table.on_work(self)

    def rest(self) -> None:
        """Give the pidfd of a frozen process back: one descriptor a snapshot is enough.

        Nobody but the process itself holds the other end of its socket, and it starts nobody who could. So its end
        is seen there, and the pidfd is opened again to reap it. One whose end was seen already keeps it, and so
        does one that is no child of ours, whose number may become another's.
        """
        if self._pidfd >= 0 and not self._hung_up and self.child:
            self.table.loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _on_end(self) -> None:
        why = self.verdict.message if self.verdict is not None else ""
        ending = ending_of(self.pid, self._pidfd, asked=self._asked_to_end, why=why)
        if ending is None:
            return
        self.table.loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        del self.table.cells[self.pid]
        self.ended.set_result(ending)
        self._on_readable()  # it may have answered before it ended
        self._hang_up()
        self._fail(self._death())
        self.let_go()
        self.table.on_end(self, ending)

    def let_go(self) -> None:
        """Let go of all folders that only this process has used: it has ended, or was never made."""
        for books in (self.stacks, self.temporaries):
            if books is not None:
                books.release(self)

    def _death(self) -> SnapservError:
        if self.verdict is not None:
            return self.verdict
        ending = self.ended.result() if self.ended.done() else None
        details: dict[str, Any] = {"pid": self.pid}
        if ending is not None:
            details |= {"signal": ending.signal, "status": ending.status}
        details |= self._whereabouts()
        where = f" after step {details['step']:,}" if "step" in details else ""
        return NodeDiedError(
            f"the process of this node {ending or 'ended'}{where}",
            hint="the rest of the tree is unaffected; restore or reset revives a branch",
            details=details,
        )

    def _whereabouts(self) -> dict[str, Any]:
        """Return which step a branch has completed last."""
        return {} if self.slot is None else {"step": self.table.scoreboard[self.slot]}

    def _fail(self, error: SnapservError) -> None:
        if not self._hello.done():
            self._hello.set_exception(error)
            self._hello.exception()  # looked at, so that nobody is warned where nobody waits
        while self._replies:
            _, reply = self._replies.popleft()
            if not reply.done():
                reply.set_exception(error)

    def _hang_up(self) -> None:
        if self._control is not None and self._control.fileno() >= 0:
            self.table.loop.remove_reader(self._control)
            self.table.loop.remove_writer(self._control)
            self._control.close()
        for _, descriptors in self._outgoing:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outgoing.clear()

    def _on_hang_up(self) -> None:
        """Handle the end of the stream: the process is ending, or has closed its socket and is of no use."""
        self._hung_up = True
        if self.ended.done():
            self._hang_up()
            return
        if self.pid and self._pidfd < 0:
            self._hang_up()  # first, so that there is a descriptor for what follows
            self._pidfd = os.pidfd_open(self.pid)
            self.table.watch(self._pidfd, self._on_end)
        elif self._pidfd < 0:
            # It never said hello: its parent died with the socket in hand, or refused to clone.
            self._hang_up()
            self._fail(self._death())
            return
        if self._control is not None and self._control.fileno() >= 0:
            self.table.loop.remove_reader(self._control)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    # --------------------------------------------------------------------------------------------- messages

    def _send(self, parts: list[Buffer], descriptors: list[int]) -> None:
        if len(parts) == 1 and not descriptors and not self._outgoing and self._control is not None:
            try:
                sent = self._control.send(parts[0], NO_SIGNAL)
            except OSError:
                sent = 0  # what it means is seen when it is tried again
            if sent == len(parts[0]):
                return  # nearly always
            parts = [memoryview(parts[0])[sent:]]
        if self._control.fileno() < 0 if self._control is not None else self.ended.done():
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
        while self._outgoing and self._control is not None:
            data, descriptors = self._outgoing[0]
            try:
                if descriptors:
                    sent = socket.send_fds(self._control, [data], descriptors, NO_SIGNAL)
                else:
                    sent = self._control.send(data, NO_SIGNAL)
            except BlockingIOError:
                if not self._waits_to_write:
                    self._waits_to_write = True
                    self.table.watch(self._control, self._flush, writable=True)
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
        if self._waits_to_write and self._control is not None:
            self._waits_to_write = False
            self.table.loop.remove_writer(self._control)

    def _on_readable(self) -> None:
        if self._control is None or self._control.fileno() < 0:
            return
        try:
            if not self._inbox.read(self._control):
                self._on_hang_up()
        except GarbledError as cause:
            self._on_garbled(str(cause))

    def _on_garbled(self, what: str) -> None:
        """End a process that has sent what is none of our messages: what it will answer, and to what, is unsure."""
        self.verdict = NodeDiedError(
            f"the control socket of this node carried {what}, and so its process was ended",
            hint="the simulation writes to a descriptor that is not its own; restore or reset revives a branch",
            details={"pid": self.pid, "signal": None, "status": None} | self._whereabouts(),
        )
        self._on_hang_up()
        self._hang_up()  # nothing more of it is read

    def _on_message(self, prefix: Prefix, body: memoryview) -> None:
        if prefix.kind == fork.REPLY:
            self._on_answer(answer_of(body[: prefix.header_bytes], body[prefix.header_bytes :]))
        elif prefix.kind == fork.FROZE:
            (clone_ns,) = struct.unpack("=q", body)
            reply = self._asked_for("the answer to a freeze", *CLONING)
            if not reply.done():
                reply.set_result(clone_ns / 1000)
        elif prefix.kind == fork.RECORD:
            reply = self._asked_for("a record", "describe")
            if not reply.done():
                reply.set_result(bytes(body))
        elif prefix.kind == fork.PROGRESS:
            progress = progress_of(body)
            if self.on_progress is not None:
                self.on_progress(*progress)
        elif prefix.kind == fork.HELLO:
            if self.pid:  # of an earlier server, or a new process of ours: it was known who comes
                self.greet()
                return
            pid, clone_ns = HELLO.unpack(body)
            self.clone_us = clone_ns / 1000
            try:
                self.adopt(pid)
            except SnapservError as error:
                self._hang_up()
                self._fail(error)
                return
            self.greet()
        elif prefix.kind == fork.FAILED:
            if self.pid and self._hello.done():
                raise GarbledError("the word that it could not be made")
            number, descriptor = FAILURE.unpack(body)
            self._hang_up()
            self._fail(self.explain(number, descriptor))

    def _on_answer(self, answer: Mapping[str, Any]) -> None:
        resolve(self._asked_for("an answer"), answer)

    def _asked_for(self, what: str, *ops: str) -> Answered:
        """Take the reply that is waited for next, to one of ``ops`` or to anything."""
        if not self._replies or (ops and self._replies[0][0] not in ops):
            raise GarbledError(f"{what} that nobody has asked for")
        return self._replies.popleft()[1]
