"""The server itself: who it is, what it serves, what it counts, and what happens on it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ..plain import Dtype, Value
from .limits import PROTOCOL_VERSION
from .values import NodeInfo
from .verb import Arguments, Empty, Verb

__all__ = [
    "ArenaInfo",
    "Event",
    "EventKind",
    "FieldInfo",
    "HelloArgs",
    "HelloResult",
    "MemoryStats",
    "MethodInfo",
    "ShutdownArgs",
    "SpecArgs",
    "SpecResult",
    "StatsResult",
    "VerbStats",
    "WatchResult",
]


class HelloArgs(Arguments):
    """Who asks: a name for the log, and the one version of the protocol that it speaks on this connection."""

    client: str = ""
    protocol: int = PROTOCOL_VERSION


class HelloResult(msgspec.Struct):
    """Who answers, and where its events are published; ``atomic`` is what steps are that do not say.

    ``channel`` is whether there is a side channel.
    """

    server: str
    protocol: int
    name: str
    pid: int
    trees: list[str]
    events: str
    atomic: bool = False
    channel: bool = False


class ShutdownArgs(Arguments):
    """Whether to end also where something would be gone: what no store has, and setup alone does not give."""

    force: bool = True


class SpecArgs(Arguments):
    """Which tree; the first one by default."""

    tree: str | None = None


class FieldInfo(msgspec.Struct):
    """A field as the simulation declared it, with its shape resolved.

    ``dims`` are the names of its axes, the empty text for one that has none; empty where no axis has one.
    """

    name: str
    dtype: Dtype
    shape: list[int]
    units: str = ""
    doc: str = ""
    dims: list[str] = []


class MethodInfo(msgspec.Struct):
    """A method that the author exported for `call`."""

    name: str
    signature: str
    doc: str = ""


class ArenaInfo(msgspec.Struct):
    """What simulation memory stands on. ``backing`` is one of huge_tmpfs, memfd, anonymous_thp, anonymous."""

    backing: str
    reason: str
    size_bytes: int
    segment_bytes: int
    segments: int


class SpecResult(msgspec.Struct):
    """What a tree's simulation is: its fields, and JSON schemas of its inputs and parameters.

    ``huge_heap_bytes`` is how much of the memory outside of the arena was turned into huge pages, which fork fast.
    ``version`` is that of the simulation's package, and ``source`` a checksum of its code.
    """

    tree: str
    simulation: str
    doc: str
    fields: list[FieldInfo]
    inputs: dict[str, Value]
    params: dict[str, Value]
    param_values: dict[str, Value]
    methods: list[MethodInfo]
    arena: ArenaInfo
    fork: str
    huge_heap_bytes: int
    setup_s: float
    version: str = ""
    source: str = ""

    def __str__(self) -> str:
        from ..looks import spec_in_lines  # for whoever looks at it, and for nobody else

        return spec_in_lines(self)

    __repr__ = __str__


class MemoryStats(msgspec.Struct):
    """The budget of memory: what is charged of ``limit_bytes``, and for what; see docs/memory.md.

    ``base_bytes`` are base images, each counted once; the others are what processes of that kind hold besides, and
    ``other_bytes`` is that of processes that are no nodes, such as children of an expansion. ``evictions`` counts
    snapshots that were dropped over the budget, and ``stopped`` processes that were ended as they grew.
    """

    limit_bytes: int
    charged_bytes: int
    base_bytes: int
    master_bytes: int
    snapshot_bytes: int
    branch_bytes: int
    other_bytes: int
    evictions: int
    stopped: int


class VerbStats(msgspec.Struct):
    """The requests of one verb: how many were answered, with an error or not, and how long that took.

    ``buckets`` count them by how long they took, as `StatsResult` says; zeros at the end are left out.
    """

    verb: str
    count: int
    errors: int
    seconds: float
    buckets: list[int]


class StatsResult(msgspec.Struct):
    """Counters since the server started; times are microseconds.

    ``states`` count nodes by what they are doing, ``deaths`` those whose process ended unasked, by signal, ``none``
    where it exited. ``longest_lane`` is how many requests there are at the node that has most of them. ``active``
    are the few nodes that requests came to last, the latest first. ``clients`` are those that are connected.
    ``bounds_s`` are the upper ends, in seconds, of
    the buckets of ``verbs``; what took longer is in one more.
    """

    uptime_s: float
    nodes: int
    snapshots: int
    branches: int
    dead: int
    clients: int
    requests: int
    errors: int
    steps: int
    forks: int
    fork_us_p50: float
    fork_us_p99: float
    in_flight: int
    descriptors: int
    threads: int
    resident_bytes: int
    memory: MemoryStats
    longest_lane: int
    states: dict[str, int]
    deaths: dict[str, int]
    verbs: list[VerbStats]
    bounds_s: list[float]
    active: list[NodeInfo]

    def _repr_html_(self) -> str:
        from ..markup import Cell, facts, numeral, page, table  # which only notebooks need

        mebibyte = 1 << 20
        counted = ("nodes", "snapshots", "branches", "dead", "clients", "requests", "errors", "steps", "forks")
        memory = f"{self.memory.charged_bytes / mebibyte:,.0f} of {self.memory.limit_bytes / mebibyte:,.0f} MiB"
        rows = [
            *((name, numeral(getattr(self, name))) for name in counted),
            ("fork, median", numeral(self.fork_us_p50 / 1000, " ms", digits=3)),
            ("memory", Cell(memory, "number")),
            ("up for", numeral(round(self.uptime_s), " s")),
        ]
        verbs = (
            (
                each.verb,
                numeral(each.count),
                numeral(each.errors),
                numeral(each.seconds / each.count * 1000 if each.count else None, digits=3),
            )
            for each in self.verbs
        )
        return page(facts(rows), table(("verb", "answered", "with errors", "ms on average"), verbs))


class WatchResult(msgspec.Struct):
    """Where to SUBscribe; ``sequence`` is the number of the last event published."""

    events: str
    sequence: int


EventKind: TypeAlias = Literal[
    "created",
    "restored",
    "dropped",
    "evicted",
    "saved",
    "not_saved",
    "stored",
    "revived",
    "died",
    "faulted",
    "cleared",
    "tagged",
    "pinned",
    "tree",
    "adopted",
    "shutdown",
]
"""What can happen."""


class Event(msgspec.Struct):
    """Something that happened: frames on the events socket are ``[kind, msgpack of this]``.

    ``time`` is in seconds since 1970 (UTC).
    """

    sequence: int
    kind: EventKind
    time: float
    node: NodeInfo | None = None
    text: str = ""


VERBS = (
    Verb("hello", "server", "agree on the version, and say who answers", HelloArgs, HelloResult, reads=True),
    Verb("ping", "server", "answer at once", Empty, Empty, reads=True),
    Verb("spec", "server", "describe a tree's simulation", SpecArgs, SpecResult, ("not_found",), reads=True),
    Verb("stats", "server", "count what happened since the start", Empty, StatsResult, reads=True),
    Verb("watch", "server", "say where events are published", Empty, WatchResult, reads=True),
    Verb(
        "shutdown",
        "server",
        "end every cell and the server",
        ShutdownArgs,
        Empty,
        ("unsaved",),
        once=True,
        reads=False,
    ),
)
