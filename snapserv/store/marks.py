"""Locks of an object store, which has none: objects that say that somebody saves or collects.

Everybody writes a mark of their own first and looks for those of others then. What is written is listed at once, so
of two that meet at least one sees the other, and never do both go on. A mark counts for `LEASE_S` from when it was
written last, by the object store's clock alone. Whoever holds one writes it anew every `REFRESHED_S`, and stops
trusting it where that has not worked for `TRUSTED_S`, by a clock that goes on while the machine sleeps.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator

from snapserv_client.store.blobs import Blobs
from snapserv_client.store.keys import LOCKS

from snapserv.errors import SnapservError, StoreUnavailableError

from .waiting import wait_for

LEASE_S = 600.0
TRUSTED_S = LEASE_S / 2
REFRESHED_S = LEASE_S / 10


class Mark:
    """A mark of one's own.

    Args:
        blobs: The object store.
        purpose: What for: ``save`` or ``collect``.
    """

    def __init__(self, blobs: Blobs, purpose: str) -> None:
        self._blobs = blobs
        self._key = f"{LOCKS}{purpose}-{secrets.token_hex(16)}"
        self._ended = threading.Event()
        self._written = _now()
        self._write()

    def others(self, purpose: str) -> bool:
        """Return whether there is somebody else's mark for that, which counts still."""
        waited = _now() - self._written
        entries = {entry.key: entry for entry in self._blobs.entries(LOCKS)}
        if self._key not in entries:
            raise self._lost()  # it was taken for one of a process that is no more
        now = entries.pop(self._key).modified + waited
        return any(
            entry.key.startswith(LOCKS + purpose) and now - entry.modified < LEASE_S for entry in entries.values()
        )

    def sure(self) -> None:
        """Check that others heed it still.

        Raises:
            StoreUnavailableError: It was not written for so long that they may not.
        """
        if _now() - self._written > TRUSTED_S:
            raise self._lost()

    def remove(self) -> None:
        """Take it away; where that fails it counts for `LEASE_S` more."""
        with contextlib.suppress(SnapservError):
            self._blobs.delete(self._key)

    @contextlib.contextmanager
    def refreshed(self) -> Iterator[None]:
        """Write it anew, in a thread, ever so often."""
        thread = threading.Thread(target=self._refresh, name="snapserv-store-mark", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _refresh(self) -> None:
        while not self._ended.wait(REFRESHED_S):
            with contextlib.suppress(SnapservError):  # `sure` tells, if it goes on
                self._write()

    def _write(self) -> None:
        began = _now()
        if began - self._written > TRUSTED_S:
            return  # once it is not to be trusted, it never is again
        self._blobs.put(self._key, b"")
        self._written = began

    def _lost(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self._blobs.url} was out of reach for long: others may have removed what this needs",
            hint="do it again",
            details={"reason": "network"},
        )


@contextlib.contextmanager
def held(blobs: Blobs, purpose: str, wait_s: float) -> Iterator[Mark]:
    """Hold the right to save or to collect; see `locks.held`."""
    deadline = time.monotonic() + wait_s
    mark = _for_a_save(blobs, deadline) if purpose == "save" else Mark(blobs, purpose)
    try:
        with mark.refreshed():
            if purpose == "collect":
                if mark.others("collect"):  # they look for ours as well: one of the two goes on, or none
                    wait_for(lambda: False, time.monotonic(), blobs.url)
                wait_for(lambda: not mark.others("save"), deadline, blobs.url)
            yield mark
    finally:
        mark.remove()


def _for_a_save(blobs: Blobs, deadline: float) -> Mark:
    """Return a mark beside which nobody collects; one that waits makes way for who collects."""
    found: list[Mark] = []

    def free() -> bool:
        mark = Mark(blobs, "save")
        try:
            if mark.others("collect"):
                mark.remove()
                return False
        except BaseException:
            mark.remove()
            raise
        found.append(mark)
        return True

    wait_for(free, deadline, blobs.url)
    return found[0]


def _now() -> float:
    """Return the seconds since the machine started, also those that it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
