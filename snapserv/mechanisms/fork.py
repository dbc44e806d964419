"""``fork``: a snapshot is a process that stands still. What snapserv itself does, for one region of memory.

The region lives in a process of its own, the *holder* (`holder.py`), because a fork copies only the thread
that asks for it, and whoever uses a region may have several. A snapshot is the holder cloned into a frozen sibling;
a copy of a snapshot is another holder, cloned from the frozen process. All of them are children of this process, by
CLONE_PARENT (clone(2)): none needs another to live. Bytes are read from outside through /proc/PID/mem, which wakes
nobody; they are changed by requests over a Unix socket.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import Any

import numpy as np

from snapserv.cell.link import FAILURE, HELLO, NUMBER, PREFIX, Prefix, decode, encode
from snapserv.errors import NodeDiedError, OverBudgetError, UnsupportedError, error_from_wire
from snapserv.ext import fork, memory
from snapserv.mechanisms.holder import CONTROL_DESCRIPTOR

from .base import Bytes, Mechanism, Place, Region, Snapshot

WRITE_BYTES = 1 << 20
"""At most so much is written by one request: the holder keeps it in its heap meanwhile, and forks that too."""
_NO_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Fork(Mechanism):
    """A frozen copy of the process that holds the region, by clone3(2)."""

    name = "fork"
    summary = "a frozen copy of the process that holds the region: what snapserv does"
    copies_of_copies = True
    shares_pages = True
    on_a_base = True
    needs = "clone3 with CLONE_PARENT (Linux 5.5), and leave to read its own children's memory"

    @classmethod
    def why_not(cls) -> str:
        """Return why not: where cells would be forked twice, somebody would have to adopt the orphans."""
        mode, reason = fork.mode()
        return reason if mode == "fork" else ""

    @classmethod
    def make(cls, size: int, *, backing: str | None = None) -> Region:
        """Return a region in a process of its own.

        Args:
            size: In bytes.
            backing: What its memory stands on, one of `snapserv.memory.backings.NAMES`; by default the arena's own.

        Raises:
            BadRequestError: Not a positive size, or no such backing.
            NodeDiedError: The process ended before it was ready.
            OverBudgetError: More than the machine has memory or processes for.
            UnsupportedError: The mechanism or the backing cannot be had here; says why.
        """
        cls.admit(size)
        holder = _spawn()
        try:
            made = holder.ask("make", size=size, backing=backing)
        except BaseException:
            holder.end()
            raise
        return ForkRegion(size, holder, made["address"], made["backing"])


class ForkRegion(Region):
    """A live region, in its holder. ``backing`` is what its memory stands on."""

    def __init__(self, size: int, holder: _Process, address: int, backing: str) -> None:
        super().__init__(size)
        self.backing = backing
        self._holder = holder
        self._address = address

    @property
    def place(self) -> Place:
        """Where the bytes are: in another process."""
        return Place(self._holder.pid, self._address)

    @property
    def array(self) -> Bytes | None:
        """None: the bytes are another process's."""
        return None

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of some bytes."""
        self._check(offset, size)
        return self._holder.read(self._address + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Have the holder change some bytes."""
        self._check(offset, len(data))
        given = np.frombuffer(data, np.uint8)
        for start in range(0, len(given), WRITE_BYTES):
            self._holder.ask("write", offset=offset + start, data=given[start : start + WRITE_BYTES])

    def touch(self, offsets: np.ndarray[Any, np.dtype[np.int64]]) -> float:
        """Have the holder add one to a byte at each of the offsets; return the seconds that it took there."""
        self._check(0, 0)
        return float(self._holder.ask("touch", offsets=np.asarray(offsets, np.int64)))

    def snapshot(self) -> ForkSnapshot:
        """Clone the holder into a frozen sibling.

        Raises:
            OverBudgetError: The kernel made no process; nothing has changed.
            NodeDiedError: The holder ended.
        """
        self._check(0, 0)
        frozen, held_up_us = self._holder.freeze()
        return ForkSnapshot(self, frozen, self._address, held_up_us)

    def restore(self, snapshot: Snapshot) -> None:
        """Clone the snapshot into a new holder, and end the one that there was. A dead one lives again."""
        self._check_own(snapshot)
        assert isinstance(snapshot, ForkSnapshot)
        holder = snapshot.clone()
        self._holder.end()
        self._holder = holder

    def _release(self) -> None:
        self._holder.end()


class ForkSnapshot(Snapshot):
    """A frozen process.

    Attributes:
        clone_us: Microseconds from before the clone until the new process ran.
        held_up_us: Microseconds that the clone took in the holder, which could do nothing else meanwhile.
    """

    def __init__(self, origin: ForkRegion, frozen: _Process, address: int, held_up_us: float) -> None:
        super().__init__(origin)
        self.clone_us = frozen.clone_us
        self.held_up_us = held_up_us
        self._backing = origin.backing
        self._frozen = frozen
        self._address = address

    @property
    def place(self) -> Place:
        """Where the bytes are: in another process."""
        return Place(self._frozen.pid, self._address)

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of some bytes; the process goes on sleeping."""
        self._check(offset, size)
        return self._frozen.read(self._address + offset, size)

    def copy(self) -> ForkRegion:
        """Clone the frozen process into a holder.

        Raises:
            OverBudgetError: The kernel made no process.
            NodeDiedError: The frozen process ended.
        """
        self._check(0, 0)
        return ForkRegion(self.size, self.clone(), self._address, self._backing)

    def clone(self) -> _Process:
        """Return a new holder whose memory is the snapshot's; the caller ends it."""
        return self._frozen.thaw()

    def _release(self) -> None:
        self._frozen.end()


class _Process:
    """A child of ours, live or frozen: its pid, its pidfd and its socket. Requests may come from any thread.

    Args:
        control: Our end of its socket.
        pid: The process; by default it says hello on the socket, which this waits for.
    """

    def __init__(self, control: socket.socket, pid: int | None = None) -> None:
        self.clone_us = 0.0
        self._control = control
        self._lock = threading.Lock()
        self._ending: str | None = None
        if pid is None:
            try:
                pid = self._introduced()
            except BaseException:
                control.close()
                raise
        self.pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError as cause:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            control.close()
            raise _no_descriptor(cause) from cause

    def _introduced(self) -> int:
        try:
            prefix, body = _receive(self._control)
        except EOFError as cause:
            raise NodeDiedError("a process ended before it was cloned, or its clone at once") from cause
        if prefix.kind == fork.FAILED:
            number, _ = FAILURE.unpack(body)
            raise OverBudgetError(
                f"the kernel made no process: {os.strerror(number)}",
                hint="raise the limit on processes (ulimit -u, pids.max, kernel.pid_max) or close snapshots",
                details={"errno": number},
            )
        pid, clone_ns = HELLO.unpack(body)
        self.clone_us = clone_ns / 1000
        return int(pid)

    # ------------------------------------------------------------------------------------------- requests

    def ask(self, op: str, descriptor: int | None = None, **arguments: Any) -> Any:
        """Send a live holder a request and return its answer; that of ``freeze`` is nanoseconds.

        Raises:
            NodeDiedError: The process ended.
            SnapservError: What the holder answered.
        """
        with self._lock:
            self._check_alive()
            parts = encode(fork.REQUEST, {"op": op, **arguments})
            try:
                _send(self._control, parts, descriptor)
                prefix, body = _receive(self._control)
            except (EOFError, OSError) as cause:
                raise self._died() from cause
        if prefix.kind == fork.FROZE:
            return NUMBER.unpack(body)[0]
        answer = decode(body[: prefix.header_bytes], body[prefix.header_bytes :])
        if "error" in answer:
            raise error_from_wire(answer["error"])
        return answer["ok"]

    def freeze(self) -> tuple[_Process, float]:
        """Return a frozen clone of a live holder, and the microseconds that the clone took in the holder."""
        ours, theirs = _pair()
        try:
            with theirs:
                held_up_ns: int = self.ask("freeze", theirs.fileno())
        except BaseException:
            ours.close()
            raise
        return _Process(ours), held_up_ns / 1000

    def thaw(self) -> _Process:
        """Return a live clone of a frozen process."""
        ours, theirs = _pair()
        try:
            with self._lock, theirs:
                self._check_alive()
                _send(self._control, [PREFIX.pack(fork.CLONE, 0, 0)], theirs.fileno())
        except OSError as cause:
            ours.close()
            raise self._died() from cause
        except BaseException:
            ours.close()
            raise
        return _Process(ours)

    def read(self, address: int, size: int) -> bytes:
        """Return a copy of some of the process's bytes."""
        self._check_alive()
        into = np.empty(size, np.uint8)
        try:
            memory.read_process(self.pid, np.array([address], np.uint64), size, into)
        except ProcessLookupError as cause:
            raise self._died() from cause
        except PermissionError as cause:
            raise UnsupportedError(
                "this user may not read the memory of its own child processes",
                hint="allow process_vm_readv in the seccomp profile, or set kernel.yama.ptrace_scope to 1",
            ) from cause
        return into.tobytes()

    # ---------------------------------------------------------------------------------------------- its end

    def end(self) -> None:
        """Kill and reap it, and close what belongs to it. Twice is as good as once."""
        if self._ending is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._reap()

    def _reap(self) -> None:
        self._ending = "ended"
        try:
            how = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        except ChildProcessError:
            how = None  # somebody else's waitpid(-1) was faster, or SIGCHLD is ignored
        if how is not None and how.si_code == os.CLD_EXITED:
            self._ending = f"exited with status {how.si_status}"
        elif how is not None:
            self._ending = f"was killed by {signal.Signals(how.si_status).name}"
        os.close(self._pidfd)
        self._control.close()

    def _check_alive(self) -> None:
        if self._ending is not None:
            raise self._died()

    def _died(self) -> NodeDiedError:
        """End a process that hung up, which is of no use even if it lives, and return what to say of it."""
        self.end()
        return NodeDiedError(
            f"the process that holds these bytes {self._ending}",
            hint="restore the region to a snapshot: each is a process of its own",
            details={"pid": self.pid},
        )


def _spawn() -> _Process:
    """Start a holder: a fresh interpreter with one thread."""
    ours, theirs = _pair()
    try:
        with theirs:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "snapserv.mechanisms.holder"],
                {**os.environ, **dict.fromkeys(_NO_THREADS, "1")},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL_DESCRIPTOR)],
                setsid=True,  # Ctrl-C in the terminal is for whoever uses the region
            )
    except OSError as cause:
        ours.close()
        raise OverBudgetError(f"no process for the region: {cause.strerror}", hint="raise ulimit -u") from cause
    return _Process(ours, pid)


def _pair() -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair()
    except OSError as cause:
        raise _no_descriptor(cause) from cause


def _no_descriptor(cause: OSError) -> OverBudgetError:
    return OverBudgetError(
        f"no descriptor for another process: {cause.strerror}",
        hint="raise ulimit -n or close snapshots: each holds two",
        details={"errno": cause.errno},
    )


def _send(control: socket.socket, parts: list[Any], descriptor: int | None) -> None:
    first, *rest = parts
    sent = 0
    if descriptor is not None:
        sent = socket.send_fds(control, [first], [descriptor], socket.MSG_NOSIGNAL)
    control.sendall(memoryview(first)[sent:])
    for part in rest:
        control.sendall(part)


def _receive(control: socket.socket) -> tuple[Prefix, memoryview]:
    """Wait for a message; return its prefix and the rest of it.

    Raises:
        EOFError: The other side is gone.
    """
    prefix = Prefix(*PREFIX.unpack(_exactly(control, PREFIX.size)))
    return prefix, _exactly(control, prefix.header_bytes + prefix.payload_bytes)


def _exactly(control: socket.socket, size: int) -> memoryview:
    data = memoryview(bytearray(size))
    got = 0
    while got < size:
        try:
            count = control.recv_into(data[got:], 0, socket.MSG_WAITALL)
        except ConnectionResetError as cause:
            raise EOFError from cause
        if not count:
            raise EOFError
        got += count
    return data
