"""Who may name objects and who may remove them: any number of saves at a time, or one collection.

In a folder these are locks of the kernel, which go with whoever holds them; in an object store they are `marks`.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import time
from collections.abc import Iterator
from typing import Literal, Protocol, TypeAlias

from snapserv_client.store.blobs import Blobs
from snapserv_client.store.folder import FolderBlobs
from snapserv_client.store.keys import LOCKS

from snapserv.errors import StoreUnavailableError

from . import marks
from .waiting import wait_for

WAIT_S = 120.0
GATE, LOCK = LOCKS + "gate", LOCKS + "lock"
Purpose: TypeAlias = Literal["save", "collect"]


class Hold(Protocol):
    """That somebody holds a lock."""

    def sure(self) -> None:
        """Check that it is held still.

        Raises:
            StoreUnavailableError: That cannot be told.
        """


class _Held:
    def sure(self) -> None:
        """The kernel keeps its locks for as long as their descriptors are open."""


@contextlib.contextmanager
def held(blobs: Blobs, purpose: Purpose, wait_s: float = WAIT_S) -> Iterator[Hold]:
    """Hold the right to save or to collect.

    Whoever saves does so together with others, and nothing that is there is removed meanwhile. Whoever collects is
    alone: nobody names anything meanwhile. A collection that waits lets no more saves begin.

    Raises:
        StoreUnavailableError: Others hold it for longer than ``wait_s``; or the store cannot be reached.
    """
    folder: object = blobs
    if not isinstance(folder, FolderBlobs):
        with marks.held(blobs, purpose, wait_s) as mark:
            yield mark
        return
    kind = fcntl.LOCK_SH if purpose == "save" else fcntl.LOCK_EX
    with contextlib.ExitStack() as undo:
        numbers = [folder.open_lock(key) for key in (GATE, LOCK)]
        for number in numbers:
            undo.callback(os.close, number)
        deadline = time.monotonic() + wait_s
        for number in numbers:
            wait_for(functools.partial(_locked, number, kind), deadline, blobs.url)
        if purpose == "save":
            fcntl.flock(numbers[0], fcntl.LOCK_UN)
        yield _Held()


def _locked(number: int, kind: int) -> bool:
    try:
        fcntl.flock(number, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as cause:
        raise StoreUnavailableError(
            f"the store cannot be locked: {cause}", details={"reason": "refused"}
        ) from cause
    return True
