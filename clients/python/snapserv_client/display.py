"""How servers, trees, nodes and differences look: in a terminal, and in a notebook."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from .figures import number, space
from .handles import Handle
from .markup import Cell, facts, numeral, page, paragraph, table
from .protocol import DiffResult, FieldDiff, HelloResult, NodeInfo, TreeInfo

if TYPE_CHECKING:
    import pandas as pd

STATES = {"idle": "", "busy": "busy", "dead": "dead", "faulted": "faulted", "stored": "stored"}
AGES = (("year", 31_536_000), ("month", 2_592_000), ("day", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
SHORT = ("h", "min", "s")
MOST_SUBJECT = 72
MOST_INDENT = 60
"""Lines that lead to a node are cut on the left above this many characters: lineages may be thousands deep."""
CUT = "⋯  "

_Item = TypeVar("_Item")
_Id = TypeVar("_Id", int, str)


class ServerDisplay(Handle):
    """The looks of a server."""

    hello: HelloResult | None

    @property
    def endpoint(self) -> str:
        """The address."""
        raise NotImplementedError

    def __repr__(self) -> str:
        trees = f" · {', '.join(self.hello.trees)}" if self.hello else ""
        return f"<Server {self.endpoint}{trees}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, str]] = [("server", Cell(self.endpoint, "code"))]
        if self.hello is not None:
            rows += [("trees", ", ".join(self.hello.trees)), ("version", self.hello.server)]
        return page(facts(rows))


class NodeDisplay(Handle):
    """A node's identity and looks, from what is known of it without asking."""

    another = "branch() makes another that goes on from here, and snapshot() keeps the moment"
    elsewhere = "pass its endpoint and its name: connect(endpoint).node(name)"

    def __init__(self, server: ServerDisplay, info: NodeInfo) -> None:
        self._server = server
        self.last = info
        self._which = (server.endpoint, info.id, info.created)

    @property
    def name(self) -> str:
        """The name."""
        return self.last.name

    @property
    def id(self) -> int:
        """The id, which never changes."""
        return self.last.id

    @property
    def endpoint(self) -> str:
        """Where the server is."""
        return self._server.endpoint

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same node: of the same server, by its endpoint, and not of another one there."""
        return self._which == other._which if isinstance(other, NodeDisplay) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._which)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {describe(self.last)} · {self.endpoint}>"

    def _repr_html_(self) -> str:
        about = self.last
        rows: list[tuple[str, str]] = [("step", f"{about.step:,}"), ("state", state(about) or about.state)]
        rows += [("tags", ", ".join(about.tags))] if about.tags else []
        rows += [("private", str(mebibytes(about)))] if about.private_bytes is not None else []
        rows += [("server", Cell(self.endpoint, "code"))]
        return page(facts(rows, f"{mark(about)} {type(self).__name__} {self.name}"))


def describe(node: NodeInfo) -> str:
    """Return a node in one line."""
    parts = [node.name, f"step {node.step:,}"]
    parts += [f"#{tag}" for tag in node.tags]
    if node.pinned:
        parts.append("pinned")
    if node.private_bytes is not None:
        parts.append(f"{space(node.private_bytes)} private")
    if node.durable and node.state != "stored":
        parts.append("durable by replay" if node.recorded else "durable")
    if node.death:
        parts.append(node.death)
    elif STATES[node.state]:
        parts.append(node.state)
    if node.message:
        parts.append(f'"{subject(node.message)}"')
    return " · ".join(parts)


def subject(message: str) -> str:
    """Return the first line of what was said of a snapshot, as much of it as a line has room for."""
    line = "".join(each if each.isprintable() else "�" for each in message.strip().partition("\n")[0])
    return line if len(line) <= MOST_SUBJECT else f"{line[: MOST_SUBJECT - 1]}…"


def ago(seconds: float, now: float | None = None) -> str:
    """Return how long ago something was, in seconds since 1970, as people say it; the exact time is elsewhere."""
    past = (time.time() if now is None else now) - seconds
    for unit, size in AGES:
        if past >= size:
            count = int(past / size)
            return f"{count} {unit if unit in SHORT else unit + 's' * (count > 1)} ago"
    return "just now"


@dataclass(frozen=True)
class Tree:
    """All nodes of a server, or of one of its trees, in order of id."""

    trees: list[TreeInfo]
    nodes: list[NodeInfo]

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[NodeInfo]:
        return iter(self.nodes)

    def __str__(self) -> str:
        return "\n".join(f"{stem}{mark(node)} {describe(node)}" for stem, node in self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        sizes = any(node.private_bytes is not None for node in self.nodes)
        rows = (
            [
                Cell(f"{stem}{mark(node)} {node.name}", "code stem"),
                numeral(node.step),
                state(node),
                ", ".join(node.tags),
                *([mebibytes(node)] if sizes else []),
            ]
            for stem, node in self.rows()
        )
        heads = ("node", "step", "state", "tags", *(["private"] if sizes else []))
        return page(table(heads, rows, f"{len(self):,} nodes"))

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with a row for each node, by its id: what it is, of which simulation, and how it is.

        Raises:
            UnsupportedError: pandas is not installed.
        """
        from .frames import frame_of_nodes

        return frame_of_nodes(self.nodes, {tree.name: tree.simulation for tree in self.trees})

    def children(self) -> dict[int | None, list[NodeInfo]]:
        """Return the nodes below each node; those without a listed parent are under None."""
        known = {node.id for node in self.nodes}
        below: dict[int | None, list[NodeInfo]] = defaultdict(list)
        for node in self.nodes:
            below[node.parent if node.parent in known else None].append(node)
        return below

    def rows(self) -> Iterator[tuple[str, NodeInfo]]:
        """Yield every node with the lines that lead to it, each below its parent."""
        return stems(self.children(), lambda node: node.id)


def stems(below: Mapping[_Id | None, Sequence[_Item]], ids: Callable[[_Item], _Id]) -> Iterator[tuple[str, _Item]]:
    """Yield everything with the lines that lead to it, each below what it is a child of.

    A straight history is drawn straight: an only child stands below its parent, without a line. So does the one
    child of several from which anything goes on, below its siblings, which are drawn as twigs. Only where the past
    has more than one future that goes on are these indented.

    Args:
        below: The children of each, by its id; those without a parent are under None.
        ids: What the id of one is.
    """
    waiting = [("", "", item) for item in reversed(below.get(None, ()))]
    while waiting:
        stem, indent, item = waiting.pop()
        yield stem, item
        children = below.get(ids(item), ())
        going_on = [child for child in children if below.get(ids(child))]
        ahead = children if len(children) == 1 else going_on
        if len(ahead) == 1:
            waiting.append((indent, indent, ahead[0]))
            twigs = [child for child in children if child is not ahead[0]]
            waiting += [(_cut(indent + "├─ "), "", twig) for twig in reversed(twigs)]
            continue
        for child in reversed(children):
            last = child is children[-1]
            lines = (indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "))
            waiting.append((_cut(lines[0]), _cut(lines[1]), child))


def _cut(lines: str) -> str:
    return lines if len(lines) <= MOST_INDENT else CUT + lines[len(CUT) - MOST_INDENT :]


def state(node: NodeInfo) -> Cell:
    """Return what a node is doing, and what is special about it."""
    special = [word for word, holds in (("pinned", node.pinned), ("durable", node.durable)) if holds]
    if node.death or node.faulted or node.state in ("dead", "faulted"):
        return Cell(" · ".join([node.death or node.state, *special]), "bad")
    return Cell(" · ".join([*([node.state] if node.state != "idle" else []), *special]))


def mebibytes(node: NodeInfo) -> Cell:
    """Return the private bytes of a node."""
    return Cell("" if node.private_bytes is None else f"{node.private_bytes / (1 << 20):,.1f} MiB", "number")


def mark(node: NodeInfo) -> str:
    """Return the sign of a node's kind: a snapshot stands still, a branch goes on."""
    if node.state == "dead":
        return "✗"
    return "●" if node.kind == "snapshot" else "▶"


@dataclass(frozen=True)
class Diff:
    """How node ``b`` differs from node ``a``; only ``compared_bytes`` of each had to be read.

    ``result`` is all that the server said: steps, outputs, and pages of other memory.
    """

    a: str
    b: str
    fields: list[FieldDiff]
    compared_bytes: int
    result: DiffResult

    @property
    def same(self) -> bool:
        """Whether all that was asked for was compared, and is equal."""
        return self.result.same is True

    @property
    def different(self) -> bool:
        """Whether something is known to differ; where it is neither, what could be compared does not tell."""
        return self.result.same is False

    def __getitem__(self, name: str) -> FieldDiff:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def __str__(self) -> str:
        rows = [
            (field.name, f"{field.changed:,}", f"{field.total:,}", *by_how_much(field), where(field))
            for field in self.fields
        ]
        heads = ("field", "changed", "of", "at most", "on average", "where")
        table = aligned([heads, *rows]) if rows else ()
        return "\n".join([f"{self.a} → {self.b}", *table, *self.sentences()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [
            [
                field.name,
                Cell(f"{field.changed:,}", "number" if field.changed else "number soft"),
                numeral(field.total),
                *(Cell(each, "number") for each in by_how_much(field)),
                Cell(where(field), "code"),
            ]
            for field in self.fields
        ]
        title = f"{self.a} → {self.b}"
        shown = table(("field", "changed", "of", "at most", "on average", "where"), rows, title)
        return page(shown if rows else paragraph(title), *map(paragraph, self.sentences()))

    def sentences(self) -> Iterator[str]:
        """Yield what is known beside the fields, and what follows of it, a sentence each."""
        found = self.result
        if found.step != found.other_step:
            yield f"steps differ: {found.step:,} and {found.other_step:,}"
        if not any(field.total for field in self.fields):
            if found.outputs is not None:
                yield f"last outputs: {'the same' if found.outputs else 'they differ'}"
            if found.other_pages is not None:
                yield f"{found.other_pages:,} pages of other memory differ"
        if self.same:
            yield "the same"
        elif not self.different:
            yield "no difference is known, and not all could be compared: there are no fields to tell by"


def by_how_much(field: FieldDiff) -> tuple[str, str]:
    """Return the largest and the mean difference of a field; nothing where it has none, or holds no numbers."""
    if field.largest is None or field.mean is None or not field.changed:
        return "", ""
    return number(field.largest), number(field.mean)


def where(field: FieldDiff) -> str:
    """Return the box that holds every difference, as a region."""
    return ", ".join(f"{low}:{high}" for low, high in field.box)


def aligned(rows: list[tuple[str, ...]]) -> Iterable[str]:
    """Yield rows as lines whose columns line up."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
