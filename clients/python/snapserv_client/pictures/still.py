"""Pictures of nodes as they are: what is read of them, and the file that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadRequestError
from ..figures import said
from ..protocol import PAGE_CLASSES
from ..records import Records
from .colours import NODES, PAGES, node_colour, node_dashes
from .curves import Curves, chosen, curves
from .differences import Differing, Side, differences
from .facts import Facts, cut, server_of
from .maps import is_frame
from .scales import NUMBERS, Limits, Scale, check_drawable
from .sheets import Array, need_matplotlib
from .strips import Strip, strips
from .tiles import Tiles

if TYPE_CHECKING:
    from ..display import Diff
    from ..pages import Pages
    from ..requests import RegionIndex
    from .facts import Node


def draw_field(
    path: Path | str,
    node: Node,
    field: str,
    region: RegionIndex = None,
    *,
    limits: Limits | None = None,
    colours: str | None = None,
) -> Array:
    """Write a picture of a field, or of a region of it, with its axes, units and a scale of its colours.

    Args:
        path: The PNG.
        node: Whose.
        field: Its name.
        region: One or two dimensions are drawn: a line, or a map.
        limits: The numbers of the first and the last colour; the least and the greatest that there is by default.
        colours: A colour map of matplotlib's, rather than the field's own.

    Returns:
        What was read.

    Raises:
        BadRequestError: It has other dimensions, or holds no numbers.
        UnsupportedError: matplotlib is not installed.
    """
    need_matplotlib()
    facts = Facts.of(node)
    array, step = node._read(field, region)
    draw_array(
        path,
        np.asarray(array),
        facts,
        field,
        region,
        title=f"{node.name} · {field}{cut(region, facts[field])} · step {step:,}",
        limits=limits,
        colours=colours,
        tint=node_colour(node.id),
    )
    return array


def draw_array(
    path: Path | str,
    array: Array,
    facts: Facts,
    field: str,
    region: RegionIndex,
    *,
    title: str,
    limits: Limits | None = None,
    colours: str | None = None,
    tint: str = NODES[0],
) -> None:
    """Write a picture of what was read of a field; see `draw_field`.

    Args:
        path: The PNG.
        array: What was read.
        facts: What is known of the node's fields.
        field: The field's name.
        region: What was read of it.
        title: What stands above it.
        limits: As for `draw_field`.
        colours: Likewise.
        tint: Of a line: the node's colour.
    """
    need_matplotlib()
    if not is_frame(array):
        check_drawable(array, title)
    drawn, scale = facts.drawn(field, region, array), Scale.of(field, [array], limits, colours)
    Tiles(drawn, [array], [title], scale, colours=[tint] if array.ndim == 1 else []).sheet.save(path)


def draw_difference(
    path: Path | str,
    a: Node,
    b: Node | None = None,
    fields: Sequence[str] | None = None,
    *,
    limits: Limits | None = None,
    colours: str | None = None,
    found: Diff | None = None,
) -> list[str]:
    """Write a picture of two nodes, and of by how much they differ: a row for each field that does.

    Of a field of more than two dimensions the slice is drawn that the first difference lies in.

    Args:
        path: The PNG.
        a: A node.
        b: The one to compare with it; its parent by default.
        fields: Names of fields; all by default.
        limits: As for `draw_field`.
        colours: Likewise.
        found: How they differ, where that has been asked.

    Returns:
        The names of what was drawn: nothing, and no file is written, where no field differs.

    Raises:
        BadRequestError: What differs cannot be drawn, or is too much.
        UnsupportedError: matplotlib is not installed.
    """
    need_matplotlib()
    found = found or a.diff(b, fields)
    b = b or server_of(a).node(found.b)
    facts, rows, rest = Facts.of(a), [], []
    for each in found.fields:
        if not each.changed:
            continue
        field = facts[each.name]
        region = tuple(each.first[0][: max(0, len(field.shape) - 2)])
        if field.dtype.kind not in NUMBERS or not field.shape:
            values = [said(node.read(each.name)[()].item()) for node in (a, b)] if not field.shape else []
            rest.append(f"{each.name}: {' → '.join(values)}" if values else each.name)
            continue
        read = [np.asarray(node.read(each.name, region or None)) for node in (a, b)]
        drawn = facts.drawn(each.name, region or None, read[0])
        rows.append(Differing(replace(drawn, name=each.name + cut(region or None, field)), *read))
    if not rows:
        if rest:
            raise BadRequestError(
                f"{a.name} → {b.name}: what differs is no picture: {'; '.join(rest)}", hint="diff says all of it"
            )
        return []
    sides = tuple(Side(node.name, node_colour(node.id), node.id) for node in (a, b))
    steps = [f"step {each:,}" for each in (found.result.step, found.result.other_step) if each is not None]
    headline = f"{a.name} → {b.name} · {' → '.join(dict.fromkeys(steps))}"
    sheet = differences(
        (sides[0], sides[1]),
        rows,
        limits=limits,
        colours=colours,
        headline=headline,
        footnote=f"not drawn: {'; '.join(rest)}" if rest else "",
    )
    sheet.save(path)
    return [each.drawn.name for each in rows]


def draw_records(
    path: Path | str, nodes: Sequence[Node], columns: Sequence[str] = (), *, after: int = 0
) -> list[str]:
    """Write a picture of what was recorded at nodes, over each other, by step: a panel for each column.

    Args:
        path: The PNG.
        nodes: Whose.
        columns: Names, ``NAME`` standing for all ``NAME[…]``; all by default.
        after: Only what is later than this step.

    Returns:
        The names of the columns.

    Raises:
        BadRequestError: Nothing was recorded, or too much for a picture.
        NotFoundError: There is no such column.
        UnsupportedError: matplotlib is not installed.
    """
    need_matplotlib()
    found: list[tuple[Node, Records]] = [(node, node.records(after=after)) for node in nodes]
    drawn = [
        Curves(node.name, node_colour(node.id), node_dashes(node.id), each.steps, dict(each.flat()))
        for node, each in found
    ]
    names = chosen(drawn, columns)
    curves(drawn, names).save(path)
    return names


def draw_pages(
    path: Path | str,
    node: Node,
    other: Node | None = None,
    fields: Sequence[str] | None = None,
    *,
    found: Pages | None = None,
) -> None:
    """Write a picture of a node's pages, a dot a page, with the colours of whose they are.

    Args:
        path: The PNG.
        node: Whose.
        other: Another node of its tree, to be compared with.
        fields: Names of fields; all by default.
        found: The pages, where they have been asked for.

    Raises:
        BadRequestError: There are none, or there is too much.
        UnsupportedError: matplotlib is not installed.
    """
    need_matplotlib()
    pages = found or node.pages(other, fields)
    nodes = [node, *([other] if other is not None else [])]
    drawn = [
        Strip(field.name, each.name, node_colour(each.id), pages.classes(field.name, of_other=bool(index)))
        for field in pages.fields
        for index, each in enumerate(nodes)
    ]
    strips(drawn, {name: PAGES[name] for name in PAGE_CLASSES}, headline=pages.title).save(path)
