"""Commands on curves: what is to be recorded, and what was."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import BadRequestError, UnsupportedError
from ..figures import said
from .completing import nodes as nodes_
from .nodes import BranchName, NodeName, live
from .options import Endpoint, Json, connected
from .output import show, table
from .parameters import Argument, Option
from .saving import saving

if TYPE_CHECKING:
    from ..records import Records

MOST_ROWS = 20
"""So many rows are shown, the last ones; a file has all of them."""


def record(
    branch: BranchName,
    what: Annotated[
        list[str] | None,
        Argument(metavar="[WHAT]...", help="Outputs, mean(FIELD), FIELD[1, 2]; nothing ends it."),
    ] = None,
    every: Annotated[int, Option(help="Only ticks whose step is a multiple of this.")] = 1,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Record outputs and numbers of fields from now on, in a branch and all that is made of it.

    Examples:
        snapserv record main burnt_ha --every 10
        snapserv record main
    """
    with connected(endpoint, as_json=as_json) as server:
        live(server, branch).record(what or (), every=every)
    told = {"branch": branch, "record": what or [], "every": every}
    line = f"{branch} records {', '.join(what)}" if what else f"{branch} records nothing from now on"
    show(told, as_json=as_json, people=lambda: line)


def records(
    node: NodeName,
    after: Annotated[int, Option(help="Only what is later than this step.")] = 0,
    to_csv: Annotated[Path | None, Option("--csv", help="Write all rows to a file.")] = None,
    to_parquet: Annotated[Path | None, Option("--parquet", help="Write all rows to a Parquet file.")] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Show what was recorded at a node since the root, step by step.

    Examples:
        snapserv records main
        snapserv records main --csv main.csv
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.node(node).records(after=after)
        if to_csv is not None:
            _write_csv(found, to_csv)
        if to_parquet is not None:
            _write_parquet(found, to_parquet)
    columns = {"step": found.steps, **dict(found.flat())}

    def people() -> Any:
        rows = table(*(f">{name}" for name in columns), title=f"{node} · {len(found.steps):,} rows")
        for row in range(max(0, len(found.steps) - MOST_ROWS), len(found.steps)):
            rows.add_row(*(said(values[row].item()) for values in columns.values()))
        return rows

    show({name: values.tolist() for name, values in columns.items()}, as_json=as_json, people=people)


def plot(
    nodes: Annotated[list[str], Argument(metavar="NODE...", help="Whose records.", shell_complete=nodes_())],
    png: Annotated[Path, Option(help="Where the picture goes.")] = Path("records.png"),
    column: Annotated[
        list[str] | None, Option(help="Only these columns; NAME is all of NAME[0], NAME[1] and so on.")
    ] = None,
    after: Annotated[int, Option(help="Only what is later than this step.")] = 0,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Draw what was recorded at nodes over each other, by step, a panel for each column.

    Examples:
        snapserv step main 100 --record burnt_ha --record front[0]
        snapserv plot main
        snapserv plot main north --column burnt_ha --png burnt.png
    """
    with connected(endpoint, as_json=as_json) as server:
        from ..pictures import draw_records

        with saving(png):
            drawn = draw_records(png, [server.node(name) for name in nodes], column or (), after=after)
    told = {"png": str(png), "nodes": nodes, "columns": drawn}
    show(told, as_json=as_json, people=lambda: f"{', '.join(drawn)} → {png}")


def _write_csv(found: Records, path: Path) -> None:
    names, columns = zip(("step", found.steps), *found.flat(), strict=True)
    with saving(path), path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_in_csv(values[row].item()) for values in columns] for row in range(len(found.steps)))


def _in_csv(value: bool | int | float | complex) -> str:
    return "" if value != value else str(value)


def _write_parquet(found: Records, path: Path) -> None:
    try:
        from pyarrow import parquet
    except ImportError as cause:
        raise UnsupportedError("pyarrow is not installed", hint="pip install 'snapserv-client[records]'") from cause
    if not len(found):
        raise BadRequestError("nothing was recorded at it", hint="step it with --record, or: snapserv record")
    with saving(path):
        parquet.write_table(found.to_arrow(), path)
