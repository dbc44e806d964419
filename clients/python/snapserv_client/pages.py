"""Which page is whose, as the server told: its numbers by field, its strip, and its looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from .display import aligned
from .markup import Cell, page, table
from .protocol import PAGE_CLASSES, FieldPages, PageCounts, PagesResult

MARKS = dict(zip(PAGE_CLASSES, " ·○▒?█", strict=True))
"""What stands for each class in a strip of text."""
MEANINGS = {
    "absent": "no page yet",
    "base": "the base image's",
    "shared": "the other node's as well",
    "elsewhere": "further processes' as well",
    "unproven": "not the base image's, the rest cannot be told",
    "private": "this node's alone",
}
STRIP_WIDTH = 64
Strip = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pages:
    """The pages of a node, and how they compare with those of another node if one was named."""

    node: str
    other: str | None
    result: PagesResult

    @property
    def fields(self) -> list[FieldPages]:
        """The numbers of each field."""
        return self.result.fields

    @property
    def counts(self) -> PageCounts:
        """The sums over all fields."""
        return self.result.counts

    @property
    def proof(self) -> str:
        """How pages were told apart: by page numbers, or, which is weaker, by page kinds."""
        return self.result.proof

    def __getitem__(self, name: str) -> FieldPages:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def classes(self, name: str, *, of_other: bool = False) -> Strip:
        """Return the classes of a field's pages in order: uint8, indices into `protocol.PAGE_CLASSES`."""
        field, strip = self[name], self.result.other_strip if of_other else self.result.strip
        if strip is None:
            raise KeyError("no other node was named")
        found: Strip = np.asarray(strip, np.uint8)[field.first : field.stop]
        return found

    def __str__(self) -> str:
        return "\n".join([self.title, *aligned(self.rows()), *self._strips()])

    def rows(self) -> list[tuple[str, ...]]:
        """Return the numbers as text, the heads first."""
        named = [name for name in PAGE_CLASSES if any(getattr(counts, name) for _, counts in self.sides(None))]
        head = ("field", "node", "pages", *named, "MiB not base", *(["same"] if self.other else []))
        rows: list[tuple[str, ...]] = [head]
        for field in [*self.fields, None]:
            for node, counts in self.sides(field):
                same = self.result.same if field is None else field.same
                rows.append(
                    (
                        "all" if field is None else field.name,
                        node,
                        f"{sum(each(counts).values()):,}",
                        *(f"{getattr(counts, name):,}" for name in named),
                        f"{self.own_bytes(counts) / (1 << 20):,.2f}",
                        *([f"{same:,}"] if self.other else []),
                    )
                )
        return rows

    __repr__ = __str__

    def _repr_html_(self) -> str:
        heads, *rows = self.rows()
        cells = ([*row[:2], *(Cell(text, "number") for text in row[2:])] for row in rows)
        strips = ([Cell(line, "code stem")] for line in self._strips())
        return page(table(heads, cells, self.title), table([f"pages, {STRIP_WIDTH} places at most"], strips))

    @property
    def title(self) -> str:
        """Who was looked at, and how."""
        against = f" and {self.other}" if self.other else ""
        base = "" if self.result.base_image else " · no base image"
        return f"{self.node}{against} · pages of {self.result.page_bytes:,} bytes · told by {self.proof}{base}"

    def sides(self, field: FieldPages | None) -> Iterator[tuple[str, PageCounts]]:
        """Yield each node's name and its counts: of a field, or of all."""
        whole = self.result if field is None else field
        yield self.node, whole.counts
        if self.other is not None and whole.other_counts is not None:
            yield self.other, whole.other_counts

    def own_bytes(self, counts: PageCounts) -> int:
        """Return how many bytes are not the base image's, as ``private_bytes`` of a node has it."""
        own = counts.shared + counts.elsewhere + counts.unproven + counts.private
        return own * self.result.page_bytes

    def _strips(self) -> Iterator[str]:
        marks = np.array([MARKS[name] for name in PAGE_CLASSES])
        widest = max((len(field.name) for field in self.fields), default=0)
        for field in self.fields:
            for of_other, _ in enumerate(self.sides(field)):
                text = "".join(marks[squeezed(self.classes(field.name, of_other=bool(of_other)), STRIP_WIDTH)])
                yield f"{'' if of_other else field.name:{widest}} |{text}|"
        yield "  ".join(f"{mark!r} {name}" for name, mark in MARKS.items())


def squeezed(strip: Strip, width: int) -> Strip:
    """Return a strip of at most ``width`` buckets of equal size, but for rounding: the highest class of each."""
    if len(strip) <= width:
        return strip
    return np.maximum.reduceat(strip, np.arange(width) * len(strip) // width)


def each(counts: PageCounts) -> dict[str, int]:
    """Return counts by class."""
    return msgspec.structs.asdict(counts)
