"""What was done to a node since its tree's root: kept in the node's own memory, and so forked with it.

An action is a request that may have changed state, kept as two msgpack values in one bytes object: how it ended,
and what was asked. Equal actions in a row are one run with a count, so that ten thousand equal steps take a few
bytes. What the actions put out is kept as a *trail*: a running hash, and what it was at some moments on the way. So
two histories of one tree can be compared, and the first output that differs be found, without keeping outputs.

Hashes here are Python's own: they need nothing that a cell does not have already, and all cells of a tree share
their key. They mean nothing outside of the tree.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgpack
import msgspec
import numpy as np
from snapserv_client.arrays import plain_or_array
from snapserv_client.stream import BEGIN, CALL, STEP, WRITE, action_of, plain, ticks_of
from snapserv_client.wire import MAX_BUFFERS, MAX_HEADER_BYTES

from ..errors import TooLargeError

__all__ = ["BEGIN", "CALL", "STEP", "WRITE", "History", "Moment", "Trail", "run_of"]

MOST_MARKS = 1024
"""Marks of a trail: two pages of memory, and the first output that differs is exact within as many actions."""
LARGE_BYTES = 1 << 16
_PAGE_HEADER_BYTES = MAX_HEADER_BYTES // 4
_PAGE_ARRAY_BYTES = 1 << 28
_PAGE_ARRAYS = MAX_BUFFERS // 2
_NAMES_BYTES = 100
"""What the names of an action's parts take in a message."""
_HASH = struct.Struct("=q")


class Trail:
    """A running hash of everything that was put out, and what it was after every ``stride`` actions.

    There are at most `MOST_MARKS` marks: when they are full, every second one goes, and the stride doubles.
    ``said`` is how many actions put out anything, and ``last`` the hash of what the last step did; None where none
    has.
    """

    __slots__ = ("count", "last", "marks", "running", "said", "stride")

    def __init__(self) -> None:
        self.count = 0
        self.last: int | None = None
        self.said = 0
        self.running = 0
        self.stride = 1
        self.marks = bytearray()

    def add(self, told: bytes, ticks: int = 0) -> None:
        """Take note of what one action put out, of a step with how many ticks it had."""
        self.running = running = hash((self.running, ticks, told))
        self.count = count = self.count + 1
        if count % self.stride == 0:
            self.marks += _HASH.pack(running)
            if len(self.marks) == MOST_MARKS * _HASH.size:
                self.marks = bytearray(
                    b"".join(bytes(self.marks[at : at + 8]) for at in range(8, len(self.marks), 16))
                )
                self.stride *= 2

    def copy(self) -> Trail:
        """Return a trail that goes on by itself."""
        other = Trail()
        other.count, other.running, other.stride = self.count, self.running, self.stride
        other.last, other.said = self.last, self.said
        other.marks = self.marks[:]
        return other


class Moment(NamedTuple):
    """A place in a history, for `History.rewind`."""

    runs: int
    last: bytes
    repeat: int
    trail: Trail


class History:
    """The actions of one node, in order. ``trail`` is of what they put out; its count is how many there were."""

    def __init__(self) -> None:
        self.trail = Trail()
        self._runs: list[bytes] = []
        self._last = b""
        self._repeat = 0
        self._soon: tuple[int, bytes, int, Any] | None = None
        self._packer = msgpack.Packer(default=_plain)
        self._seen = msgpack.Packer(default=_visible)

    def pack(self, asked: Any) -> bytes:
        """Return what was asked, packed: before it is done, since whoever does it may change it."""
        packed: bytes = self._packer.pack(asked)
        if len(packed) > LARGE_BYTES:
            self._packer = msgpack.Packer(default=_plain)  # it keeps as much memory as it ever needed
        return packed

    def add(self, kind: int, asked: bytes, *, ticks: int = 0, raised: bool = False, told: Any = None) -> None:
        """Append an action.

        Args:
            kind: STEP, WRITE, CALL or BEGIN.
            asked: What was asked, packed: the inputs; field, region and value; method, args and kwargs; the seed.
            ticks: Of a step, how many were completed.
            raised: Whether the author's code raised.
            told: What it put out.
        """
        if self._soon is not None:
            self.catch_up()
        packed = self._packer.pack((kind, ticks, raised)) + asked
        if packed == self._last:
            self._repeat += 1
        else:
            self._close_run()
            self._last, self._repeat = packed, 1
        try:
            seen: bytes = self._seen.pack(told)
        except (ValueError, TypeError, OverflowError):
            seen = b""  # it cannot be sent either, so nobody sees it
        self.trail.add(seen, ticks)
        if told is not None:
            self.trail.said += 1
            if kind == STEP:
                self.trail.last = hash(seen)
        if len(seen) > LARGE_BYTES:
            self._seen = msgpack.Packer(default=_visible)

    def add_soon(self, kind: int, asked: bytes, ticks: int, told: Any) -> None:
        """Append an action by `catch_up`, which is to be called before anything else is: once its caller knows."""
        if self._soon is not None:
            self.catch_up()
        self._soon = kind, asked, ticks, told

    def catch_up(self) -> None:
        """Append what was to be appended soon."""
        if self._soon is not None:
            kind, asked, ticks, told = self._soon
            self._soon = None
            self.add(kind, asked, ticks=ticks, told=told)

    def moment(self) -> Moment:
        """Return this moment, to go back to."""
        return Moment(len(self._runs), self._last, self._repeat, self.trail.copy())

    def rewind(self, moment: Moment) -> None:
        """Forget what was done since ``moment``."""
        del self._runs[moment.runs :]
        self._last, self._repeat = moment.last, moment.repeat
        self.trail = moment.trail.copy()

    def page(self, start: int) -> dict[str, Any]:
        """Return as many actions as fit in a message, as plain values, and where the next page starts.

        Args:
            start: How many actions to leave out; each time that one was repeated counts.

        Raises:
            TooLargeError: One action alone does not fit.
        """
        actions: list[dict[str, Any]] = []
        header = arrays = array_bytes_ = at = step = 0
        for packed, repeat in self._all():
            skipped = min(repeat, max(0, start - at))
            at += repeat
            if skipped == repeat:
                step += ticks_of(packed) * repeat
                continue
            action, sizes = action_of(packed)
            action["step"] = step + action.get("ticks", 0) * skipped
            action["repeat"] = repeat - skipped
            step += action.get("ticks", 0) * repeat
            header += len(packed) - sum(sizes) + _NAMES_BYTES
            arrays += len(sizes)
            array_bytes_ += sum(sizes)
            if header > _PAGE_HEADER_BYTES or arrays > _PAGE_ARRAYS or array_bytes_ > _PAGE_ARRAY_BYTES:
                if actions:
                    return {"actions": actions, "next": at - repeat + skipped}
                if header > MAX_HEADER_BYTES // 2 or arrays > MAX_BUFFERS:
                    raise TooLargeError(
                        f"action {at - repeat} alone is more than one reply may hold",
                        hint=f"list what follows from {at} on; branch a later snapshot instead of replaying",
                    )
            actions.append(action)
        return {"actions": actions, "next": None}

    def stream(self, most: int) -> dict[str, Any]:
        """Return all actions as a stream (see `snapserv_client.stream`), and what is known of what they put out.

        Args:
            most: How many bytes ``actions`` may have; where there are more, it is None.
        """
        last = [self._packer.pack(self._repeat) + self._last] if self._repeat else []
        size = sum(map(len, self._runs)) + sum(map(len, last))
        actions = np.frombuffer(b"".join([*self._runs, *last]), np.uint8) if size <= most else None
        trail = self.trail
        return {"actions": actions, "size": size, "count": trail.count, "said": trail.said, "told": trail.running}

    def tell_trail(self, at: Sequence[int] | None) -> dict[str, Any]:
        """Return what there is of outputs, with the digests after so many of them; by default after all."""
        trail = self.trail
        return {
            "count": trail.count,
            "running": trail.running,
            "stride": trail.stride,
            "marks": bytes(trail.marks),
            "last": trail.last,
            "said": trail.said,
            "digests": self.digests([trail.count] if at is None else at),
        }

    def digests(self, counts: Sequence[int]) -> list[int | None]:
        """Return a hash of the first so many actions, for each of ``counts``; None where there are fewer."""
        found: dict[int, int] = {}
        wanted = sorted(set(counts))
        at = digest = 0
        for packed, repeat in self._all():
            while wanted and wanted[0] <= at + repeat:
                count = wanted.pop(0)
                found[count] = hash((digest, packed, count - at)) if count > at else digest
            at += repeat
            digest = hash((digest, packed, repeat))
        if 0 in wanted:
            found[0] = 0
        return [found.get(count) for count in counts]

    def path(self) -> dict[str, int | None]:
        """Return what tells a history that begins like this one, see `within`, however requests have cut it.

        ``raised`` is the step at which something has raised last.
        """
        digest = last = amount = step = 0
        raised = None
        for stretch, more, ticks, did_raise in self._stretches():
            if stretch != last:
                digest, last, amount = hash((digest, last, amount)), stretch, 0
            amount += more
            step += ticks
            raised = step if did_raise else raised
        return {"digest": digest, "last": last, "amount": amount, "raised": raised}

    def within(self, path: Mapping[str, int]) -> tuple[int, int] | None:
        """Return how many actions are done, and how many ticks of the next one, where another history ends.

        Args:
            path: What the other one's `path` has said.

        Returns:
            None where this one does not begin like that.
        """
        digest = last = amount = count = 0
        wanted = path["digest"], path["last"]
        for (stretch, more, _, _), (_, repeat) in zip(self._stretches(), self._all(), strict=True):
            if (digest, last) == wanted and amount == path["amount"]:
                return count, 0
            if stretch != last:
                digest, last, amount = hash((digest, last, amount)), stretch, 0
            if (digest, last) == wanted and amount < path["amount"] <= amount + more:
                whole, ticks = divmod(path["amount"] - amount, more // repeat)
                return count + whole, ticks
            amount += more
            count += repeat
        return (count, 0) if (digest, last) == wanted and amount == path["amount"] else None

    def onward(self, path: Mapping[str, int]) -> dict[str, Any]:
        """Return where another history ends within this one, see `within`, and how this one goes on from there."""
        found = self.within(path)
        if found is None:
            return {"found": None}
        return {"found": found, "page": self.page(found[0]), "trail": self.tell_trail([found[0]])}

    def _stretches(self) -> Iterator[tuple[int, int, int, bool]]:
        """Yield of each run a hash of what was done, how much of it, how many ticks that were, and if it raised."""
        for packed, repeat in self._all():
            unpacker = msgpack.Unpacker()
            unpacker.feed(packed[:16])
            kind, ticks, raised = unpacker.unpack()
            if kind == STEP and not raised and ticks:
                yield hash((STEP, packed[unpacker.tell() :])), ticks * repeat, ticks * repeat, False
            else:
                yield hash(packed), repeat, ticks * repeat, raised

    def _all(self) -> Iterator[tuple[bytes, int]]:
        for run in self._runs:
            repeat, packed = run_of(run)
            yield packed, repeat
        if self._repeat:
            yield self._last, self._repeat

    def _close_run(self) -> None:
        if self._repeat:
            self._runs.append(self._packer.pack(self._repeat) + self._last)


def run_of(run: bytes) -> tuple[int, bytes]:
    """Return how often an action was done in a row, and the action as it was packed."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(run[:9])  # a count takes no more
    repeat: int = unpacker.unpack()
    return repeat, run[unpacker.tell() :]


def _plain(value: Any) -> Any:
    return plain(value) if isinstance(value, np.ndarray | np.generic | complex) else _visible(value)


def _visible(value: Any) -> Any:
    """Return a value in a form that can be packed, quickly, and that differs where the value does."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.generic | complex):
        said = plain_or_array(value)
        return _visible(said) if isinstance(said, np.ndarray) else said
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be packed")
