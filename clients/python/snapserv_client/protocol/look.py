"""What looks at nodes and leaves them as they are: fields, differences, pages, and whether a replay agrees."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..plain import Array, Dtype, MaybeArray
from .values import NodeInfo, Region
from .verb import FORK_ERRORS, NODE_ERRORS, Arguments, Empty, Verb

__all__ = [
    "PAGE_CLASSES",
    "DiffArgs",
    "DiffResult",
    "FaultInfo",
    "FieldDiff",
    "FieldPages",
    "FieldVerdict",
    "Handed",
    "PageCounts",
    "PagesArgs",
    "PagesResult",
    "ReadArgs",
    "ReadResult",
    "ShowResult",
    "VerifyArgs",
    "VerifyResult",
]


class ReadArgs(Arguments):
    """Which field, and which region of it (all of it by default).

    ``handed`` is whether a large one may be handed over at the side channel.
    """

    field: str
    region: Region | None = None
    handed: bool = False


class Handed(msgspec.Struct):
    """An array that is fetched at the side channel: what it is, and the ticket for a file that begins with it."""

    ticket: bytes
    dtype: Dtype
    shape: list[int]


class ReadResult(msgspec.Struct):
    """A field or a region of it, as an array, of shape [] where that is one element; and the node's step.

    Where it is ``handed`` over, ``value`` is null.
    """

    value: MaybeArray
    step: int
    handed: Handed | None = None


class DiffArgs(Arguments):
    """The node to compare with, its parent by default; which fields, by default all, and what there is besides."""

    other: str | int | None = None
    fields: list[str] | None = None


class FieldDiff(msgspec.Struct):
    """How one field differs: elements whose bytes do, their bounding box and the indices of the first 16 of them.

    ``box`` has ``[start, stop]`` for each axis, without ``stop`` itself, and is empty where nothing differs.

    Of numbers also by how much: ``largest`` and ``mean`` of the absolute differences, the mean over all elements.
    Of ``undefined`` elements one alone is NaN, and they count in neither. Both are null where elements are no
    numbers.
    """

    name: str
    changed: int
    total: int
    box: list[tuple[int, int]]
    first: list[list[int]]
    largest: float | None = None
    mean: float | None = None
    undefined: int = 0


class DiffResult(msgspec.Struct):
    """How two nodes differ, field by field; only ``compared_bytes`` of each had to be read.

    ``same`` is true where all that was asked for was compared and is equal, false where something differs, and null
    where nothing is known to differ and not all could be told. Where fields were named, it is about them alone;
    otherwise about all fields and the steps. A simulation without fields is compared by its steps, by ``outputs``
    (whether the last steps put out the same; null where none has put out anything) and by ``other_pages``: so many
    pages of 4 KiB of the rest of its memory differ. Pages hold reference counts as well, so that they differ where
    no state does: that some do is no proof, and that none does is one. Both are null where they were not looked at.
    ``other`` is the node that it was compared with.
    """

    fields: list[FieldDiff]
    compared_bytes: int
    same: bool | None = None
    step: int | None = None
    other_step: int | None = None
    outputs: bool | None = None
    other_pages: int | None = None
    other: str = ""


PAGE_CLASSES = ("absent", "base", "shared", "elsewhere", "unproven", "private")
"""What a page of a node can be, by the byte that stands for it in a strip; see `PageCounts`."""


class PagesArgs(Arguments):
    """Another node of the same tree to compare with, and which fields (all by default)."""

    other: str | int | None = None
    fields: list[str] | None = None


class PageCounts(msgspec.Struct):
    """How many pages of a node are what.

    ``base``: the base image's page, or not looked at yet, so that reading it gives the base image's.
    ``shared``: the very page that the other node has, and not the base image's. ``private``: this process alone has
    it. ``elsewhere``: not the base image's nor the other node's, but further processes have it, such as a snapshot
    in between. ``absent``: no page yet, and no base image. ``unproven``: not the base image's; whose else it is
    could not be told.
    """

    absent: int = 0
    base: int = 0
    shared: int = 0
    elsewhere: int = 0
    unproven: int = 0
    private: int = 0


class FieldPages(msgspec.Struct):
    """The pages of one field: bytes ``first`` to ``stop`` of the strips.

    ``same`` pages are one physical page in both nodes, and ``different`` ones are surely not; what is neither is
    absent or could not be proven.
    """

    name: str
    pages: int
    first: int
    stop: int
    counts: PageCounts
    other_counts: PageCounts | None = None
    same: int | None = None
    different: int | None = None


class PagesResult(msgspec.Struct):
    """Which page is whose, field by field; the counts at this level are sums.

    ``strip`` has a byte for every ``pages_each`` pages of a field in order: the class of a page by its place in
    ``classes``, the highest of a bucket's. ``other_strip`` says the same of the other node. ``proof`` says how
    pages were told apart: physical page numbers, or only the kinds of pages that the kernel tells anybody.
    """

    classes: list[str]
    fields: list[FieldPages]
    counts: PageCounts
    strip: Array
    page_bytes: int
    pages_each: int
    proof: Literal["page numbers", "page kinds"]
    base_image: bool
    other_counts: PageCounts | None = None
    other_strip: MaybeArray = None
    same: int | None = None
    different: int | None = None


class FaultInfo(msgspec.Struct):
    """What the simulation raised, and left a node as it is.

    ``step`` is where the node stands since, ``at`` when that was, in seconds since 1970 (UTC). ``action`` is the
    one of its history in which it raised, counted from 0, null where that is not known; ``traceback`` is Python's.
    """

    message: str
    step: int
    at: float
    action: int | None = None
    traceback: str = ""


class ShowResult(msgspec.Struct):
    """All that there is to know of a node, its ``private_bytes`` measured.

    ``children`` are the names of those that go on from it, and ``more`` how many there are besides; ``taken_of`` is
    the branch that a snapshot was taken of. ``charged_bytes`` is what its process is charged with of the budget of
    memory, base images not counted: null where it has none. ``stored_bytes`` is what was written for it to the
    store, null where it does not last.
    """

    node: NodeInfo
    parent: NodeInfo | None
    children: list[str]
    more: int = 0
    taken_of: str = ""
    fault: FaultInfo | None = None
    charged_bytes: int | None = None
    stored_bytes: int | None = None


class VerifyArgs(Arguments):
    """The ancestor to replay from, a snapshot; the root of the tree by default.

    ``progress`` asks to be told how many ticks are done again.
    """

    since: str | int | None = None
    progress: bool = False


class FieldVerdict(msgspec.Struct):
    """The hash of a field in the node and in its replay, 32 hexadecimal digits each."""

    name: str
    same: bool
    hash: str
    replayed: str


class VerifyResult(msgspec.Struct):
    """Whether a node's own actions, done again, lead to the same state.

    ``ok`` is about the fields; of a simulation without fields, about what its actions put out, and where they put
    out nothing it is false, since nothing was compared. ``outputs`` says of any simulation whether all of that was
    the same. Where it is not ok: nothing differs up to the step ``after``,
    in snapshots on the way and in outputs, and something does at ``step``; ``action`` is the one in which that
    happens, counted from where the replay began; ``error`` is what stopped the replay early. ``deterministic``
    says whether two replays agree, and if they do not, ``parted`` is the first step at which they differ, where
    that shows again.
    """

    ok: bool
    since: str
    fields: list[FieldVerdict]
    outputs: bool
    actions: int
    ticks: int
    elapsed_us: int
    after: int | None = None
    step: int | None = None
    action: int | None = None
    error: str = ""
    deterministic: bool | None = None
    parted: int | None = None


VERBS = (
    Verb(
        "show",
        "node",
        "say all that there is to know of a node",
        Empty,
        ShowResult,
        NODE_ERRORS,
        reads=True,
    ),
    Verb(
        "read",
        "node",
        "copy a field or a region of it",
        ReadArgs,
        ReadResult,
        (*NODE_ERRORS, "unsupported"),
        reads=True,
    ),
    Verb(
        "diff",
        "node",
        "compare two nodes, field by field, or by what there is",
        DiffArgs,
        DiffResult,
        (*NODE_ERRORS, *FORK_ERRORS),
        reads=True,
    ),
    Verb(
        "pages",
        "node",
        "say which page is whose",
        PagesArgs,
        PagesResult,
        (*NODE_ERRORS, "unsupported"),
        reads=True,
    ),
    Verb(
        "verify",
        "node",
        "do the node's own actions again and compare states",
        VerifyArgs,
        VerifyResult,
        (*NODE_ERRORS, "simulation_error", "timeout", *FORK_ERRORS),
        reads=False,  # the node stays as it is, but the simulation runs: what it does to the world is done again
    ),
)
