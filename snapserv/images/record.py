"""What a frozen process says of itself that the kernel tells nobody else: ``ext/cells/record.h``, read."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import NotPortableError
from ..ext import fork

CELLS = 2
"""The version of what frozen cells and their server say to each other: a cell's own code is in its image."""

_U64, _U32, _I32 = np.uint64, np.uint32, np.int32
RECORD = np.dtype(
    [
        *((name, _U64) for name in ("registers", "resume", "fs", "gs", "tid_address", "robust_list")),
        *((name, _U64) for name in ("robust_size", "rseq")),
        *((name, _U32) for name in ("rseq_size", "rseq_signature")),
        *((name, _U64) for name in ("brk", "blocked", "alternate_stack", "alternate_size")),
        *((name, _U32) for name in ("alternate_flags", "umask")),
        *((name, _I32) for name in ("control", "ledger", "nice")),
        *((name, _U32) for name in ("personality", "interval_timers", "is_subreaper")),
        *((name, _U64) for name in ("timer_slack", "note", "note_size")),
        ("limits", _U64, (16, 2)),
        ("actions", _U64, (65, 4)),
    ],
    align=True,
)


def read_record(data: bytes | memoryview) -> dict[str, Any]:
    """Return what a cell has answered to SNAPSERV_DESCRIBE, by name: numbers, and lists of them.

    Raises:
        NotPortableError: It is of another architecture than images can be taken of.
    """
    assert RECORD.itemsize == fork.RECORD_BYTES  # the C structure, as it was compiled
    found = np.frombuffer(data, RECORD)[0]
    record = {name: found[name].tolist() for name in RECORD.names or ()}
    if not record["resume"] or not record["tid_address"]:
        raise NotPortableError(
            "frozen processes cannot be brought back on this machine",
            hint="images are of x86-64, and need a kernel with CONFIG_CHECKPOINT_RESTORE",
            details={"held": [{"why": "architecture", "what": "this processor or this kernel"}]},
        )
    return record
