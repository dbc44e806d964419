"""The command ``pages``: which page is whose, as strips of characters, a table, JSON or a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from rich.console import Group
from rich.text import Text

from .. import Pages
from ..pages import MARKS, MEANINGS, squeezed
from ..protocol import PAGE_CLASSES
from .completing import nodes
from .console import results
from .nodes import NodeName
from .options import Endpoint, Json, connected
from .output import mebibytes, show, table
from .parameters import Argument, Option
from .saving import saving

STYLES = dict(zip(PAGE_CLASSES, ("", "blue", "green", "yellow", "magenta", "bold red"), strict=True))
"""By class, what it looks like in a terminal; in pictures, see `snapserv_client.pictures.colours`."""


def pages(
    node: NodeName,
    other: Annotated[
        str | None, Argument(help="A node of the same tree to compare with.", shell_complete=nodes())
    ] = None,
    field: Annotated[list[str] | None, Option(help="Only these fields.")] = None,
    png: Annotated[Path | None, Option(help="Save the strips as a picture, a dot a page.")] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Say which page of a node is whose: the base image's, another node's as well, or its own.

    Examples:
        snapserv pages north east
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.node(node).pages(other, field)
        if png is not None:
            from ..pictures import draw_pages

            second = None if other is None else server.node(other)
            with saving(png):
                draw_pages(png, server.node(node), second, found=found)
    value = _value(found) | ({} if png is None else {"png": str(png)})
    show(value, as_json=as_json, people=lambda: Group(*_for_people(found, png)))


def _strips(found: Pages) -> Iterator[tuple[str, str, Any]]:
    """Yield (field, node, strip)."""
    for field in found.fields:
        for index, (node, _) in enumerate(found.sides(field)):
            yield field.name, node, found.classes(field.name, of_other=bool(index))


def _value(found: Pages) -> dict[str, Any]:
    result = found.result
    sums = ("counts", "other_counts", "same", "different")
    fields = []
    for field in found.fields:
        described = {"name": field.name, "pages": field.pages, **{name: getattr(field, name) for name in sums}}
        described["strip"] = found.classes(field.name)
        if found.other is not None:
            described["other_strip"] = found.classes(field.name, of_other=True)
        fields.append(described)
    return {
        "node": found.node,
        "other": found.other,
        "proof": found.proof,
        "base_image": result.base_image,
        "page_bytes": result.page_bytes,
        "pages_each": result.pages_each,
        "classes": result.classes,
        **{name: getattr(result, name) for name in sums},
        "fields": fields,
    }


def _for_people(found: Pages, png: Path | None) -> Iterator[Any]:
    seen = [name for name in PAGE_CLASSES if any(getattr(counts, name) for _, counts in found.sides(None))]
    two = found.other is not None
    rows = table("~field", "~node", *(f">{name}" for name in seen), ">same" if two else ">of", title=found.title)
    for field in found.fields:
        same = field.same if two else field.pages
        for node, counts in found.sides(field):
            rows.add_row(field.name, node, *(f"{getattr(counts, name):,}" for name in seen), f"{same:,}")
    rows.add_section()
    all_pages = sum(field.pages for field in found.fields)
    for node, counts in found.sides(None):
        numbers = [*(getattr(counts, name) for name in seen), found.result.same if two else all_pages]
        rows.add_row("pages", node, *(f"{number:,}" for number in numbers))
        rows.add_row("MiB", node, *(mebibytes(number * found.result.page_bytes) for number in numbers))
    yield rows
    labels = {(name, node): f"{name} · {node}" for name, node, _ in _strips(found)}
    widest = max(map(len, labels.values()), default=0)
    width = max(16, results.width - widest - 1)
    for name, node, strip in _strips(found):
        marks = [(MARKS[name], STYLES[name]) for name in map(PAGE_CLASSES.__getitem__, squeezed(strip, width))]
        yield Text.assemble((f"{labels[name, node]:{widest}} ", "dim"), *marks, no_wrap=True)
    yield Text.assemble(
        *(part for name in seen for part in ((MARKS[name], STYLES[name]), f" {name}: {MEANINGS[name]}  "))
    )
    if png is not None:
        yield Text(f"→ {png}")
