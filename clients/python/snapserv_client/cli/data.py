"""Commands on fields: read, write, diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from .. import figures
from ..display import by_how_much, where
from ..protocol import DiffResult
from .completing import nodes
from .drawing import Colours, Limits, limits_of
from .nodes import BranchName, NodeName, live
from .options import Endpoint, Json, connected, region_of, value_of
from .output import NOT_THE_SAME, plain, show, table
from .parameters import Argument, Option
from .saving import saving

if TYPE_CHECKING:
    import numpy as np

FieldName = Annotated[str, Argument(metavar="FIELD", help="A field's name.")]
RegionText = Annotated[str | None, Option("--region", help="START:STOP[:STEP] or INDEX, one an axis.")]
CORNER = 8
BESIDE = 20
"""Columns of the terminal that stand beside the values of an array."""


def read(
    node: NodeName,
    field: FieldName,
    region: RegionText = None,
    npy: Annotated[Path | None, Option(help="Save as a .npy file.")] = None,
    png: Annotated[Path | None, Option(help="Save as a picture: a map, or a line of one dimension.")] = None,
    limits: Limits = None,
    colours: Colours = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Read a field of a node: a summary, and a file if asked.

    Examples:
        snapserv read main state --region 0:64,0:64
        snapserv read main state --npy state.npy
        snapserv read main fuel --png fuel.png --limits 0:3
    """
    with connected(endpoint, as_json=as_json) as server:
        found, wanted = server.node(node), region_of(region)
        if png is None:
            array = found.read(field, wanted)
        else:
            from ..pictures import draw_field

            with saving(png):
                array = draw_field(png, found, field, wanted, limits=limits_of(limits), colours=colours)
        if npy is not None:
            write_npy(array, npy)
    show_array({"node": node, "field": field}, array, npy, png, as_json=as_json)


def write_npy(array: np.ndarray[Any, Any], path: Path) -> None:
    """Write an array to a file of numpy's.

    Raises:
        BadRequestError: It cannot be written.
    """
    import numpy as np

    with saving(path), path.open("wb") as file:  # numpy.save given a name would put .npy behind it
        np.save(file, array, allow_pickle=False)


def show_array(
    of: dict[str, str], array: np.ndarray[Any, Any], npy: Path | None, png: Path | None, *, as_json: bool
) -> None:
    """Print a summary of an array, and the files that it was written to."""
    files = {name: str(path) for name, path in (("npy", npy), ("png", png)) if path is not None}

    def people() -> Any:
        rows = table(" · ".join(of.values()), figures.kind(array))
        spans = figures.summary(array) if array.size > 1 else {}
        for name, value in {**spans, **files}.items():
            rows.add_row(name, value)
        if not files:
            corner, text = _corner(array)
            rows.add_row("values" if corner.size == array.size else "corner", text)
        return rows

    show({**of, **plain(array), **_extremes(array), **files}, as_json=as_json, people=people)


def write(
    node: BranchName,
    field: FieldName,
    value: Annotated[str, Argument(help="A JSON value, or @FILE.npy.")],
    region: RegionText = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Write a field of a branch, or a region of it.

    Examples:
        snapserv write main fuel 0 --region 10:20,10:20
    """
    with connected(endpoint, as_json=as_json) as server:
        live(server, node).write(field, value_of(value), region_of(region))
    show({"node": node, "field": field}, as_json=as_json, people=lambda: f"wrote {field} of {node}")


def diff(
    a: Annotated[str, Argument(help="A node.", shell_complete=nodes())],
    b: Annotated[
        str | None,
        Argument(help="The node to compare with it; its parent by default.", shell_complete=nodes()),
    ] = None,
    field: Annotated[list[str] | None, Option(help="Only these fields.")] = None,
    png: Annotated[Path | None, Option(help="Save a picture of both, and of by how much they differ.")] = None,
    limits: Limits = None,
    colours: Colours = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Say how two nodes differ, field by field; exits with 1 unless they are known to be the same.

    A node alone is compared with its parent: the snapshot that it goes on from.

    Examples:
        snapserv diff north
        snapserv diff north east
        snapserv diff north east --field state --png diff.png
    """
    drawn: list[str] = []
    with connected(endpoint, as_json=as_json) as server:
        found = server.diff(a, b, field)
        if png is not None:
            from ..pictures import draw_difference

            first, second = server.node(a), server.node(b or found.b)
            with saving(png):
                drawn = draw_difference(
                    png, first, second, field, limits=limits_of(limits), colours=colours, found=found
                )

    def people() -> Any:
        from rich.console import Group
        from rich.text import Text

        title = f"{a} → {found.b}" if b is not None else f"{a} → {found.b}, its parent"
        said = [Text(sentence) for sentence in found.sentences()]
        if png is not None:
            said.append(Text(f"→ {png}" if drawn else "no picture: no field differs"))
        if not found.fields:
            return Group(Text(title, "bold"), *said)
        rows = table("~field", ">changed", ">of", ">at most", ">on average", "where", title=title)
        for each in found.fields:
            rows.add_row(each.name, f"{each.changed:,}", f"{each.total:,}", *by_how_much(each), where(each))
        return Group(rows, *said)

    value = {"a": a, "b": found.b, "different": found.different, **_parts_of(found.result)}
    value |= {} if png is None else {"png": str(png) if drawn else None, "drawn": drawn}
    show({**value, "same": found.same}, as_json=as_json, people=people)
    if not found.same:
        raise click.exceptions.Exit(NOT_THE_SAME)


def _parts_of(result: DiffResult) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__struct_fields__ if name != "other"}


def _corner(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], str]:
    """Return the first elements of an array, so many that a row of them is a line, and how they are shown."""
    from .console import results

    for columns in range(CORNER, 0, -1):
        sizes = [*[CORNER] * (array.ndim - 1), columns][-array.ndim :] if array.ndim else []
        corner = array[tuple(map(slice, sizes))]
        text = _listed(corner)
        if max(map(len, text.splitlines()), default=0) <= results.width - BESIDE:
            break
    return corner, text


def _listed(array: np.ndarray[Any, Any]) -> str:
    """Return the values of an array that is small, a row a line, their columns aligned."""
    import numpy as np

    if not array.shape and array.dtype.names is None:
        return figures.said(array)
    rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
    texts = [[figures.said(each, 1) for each in row] for row in rows] if array.dtype.names is None else None
    if texts is None or not array.size or array.dtype.kind not in figures.NUMBERS:
        return str(array)
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [
        "[" + " ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) + "]" for row in texts
    ]
    blocks = np.asarray(lines, dtype=object).reshape(-1, array.shape[-2] if array.ndim > 1 else 1)
    return "\n\n".join("\n".join(block) for block in blocks)


def _extremes(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return what programs are told of an array of numbers."""
    found = plain(figures.extremes(array))
    return {name: found[name] for name in ("min", "max", "mean") if name in found}
