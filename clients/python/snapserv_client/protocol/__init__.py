"""The protocol: every verb with its arguments, its result and its errors, declared once, a module for each subject.

Both sides come in here, and cells too: it uses msgspec, and never ZeroMQ. ``docs/protocol.md`` follows from it.
Frames and arrays are packed by `snapserv_client.wire`.
"""

from __future__ import annotations

from . import keep, look, run, server, store, tree
from .keep import *
from .limits import *
from .look import *
from .readings import *
from .run import *
from .server import *
from .store import *
from .tree import *
from .values import *
from .verb import *
from .verb import Verb

_IN_THE_REFERENCE = [
    "hello",
    "ping",
    "spec",
    "stats",
    "tree",
    "watch",
    "shutdown",
    "create",
    "show",
    "log",
    "replay",
    "verify",
    "step",
    "run",
    "record",
    "records",
    "reset",
    "mark",
    "rewind",
    "goto",
    "read",
    "write",
    "call",
    "direct",
    "snapshot",
    "interrupt",
    "branch",
    "expand",
    "restore",
    "diff",
    "pages",
    "clear",
    "autosnap",
    "tag",
    "pin",
    "drop",
    "save",
    "load",
    "stored",
]
"""The order in which the reference has them; a verb that is not named comes after these."""

_declared = {verb.name: verb for subject in (server, tree, run, look, keep, store) for verb in subject.VERBS}

VERBS: dict[str, Verb] = {name: _declared[name] for name in dict.fromkeys((*_IN_THE_REFERENCE, *_declared))}
"""Every verb by name."""
