"""The command ``export``: a node as a Zarr dataset, a tree as an Icechunk repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..errors import BadRequestError
from .nodes import NodeName
from .options import Endpoint, Json, connected, failing
from .output import progress_bar, show
from .parameters import Argument, Option

if TYPE_CHECKING:
    from .. import Branch, Snapshot
    from ..export import NodeSource, TreeSource


def export(
    node: NodeName,
    out: Annotated[
        Path | None,
        Argument(metavar="[OUT.zarr]", help="The folder to write the node to."),
    ] = None,
    icechunk: Annotated[
        Path | None,
        Option("--icechunk", metavar="REPO", help="Write its tree to a repository, or go on there."),
    ] = None,
    field: Annotated[list[str] | None, Option(help="Only these fields.")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="Replace an earlier export.")] = False,
    store: Annotated[
        str | None, Option("--store", help="Of a store, a folder or a URL, rather than of a server.")
    ] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Write a node's fields for analysis: as a Zarr dataset, or its whole tree as an Icechunk repository.

    Examples:
        snapserv export north north.zarr
        snapserv export north --icechunk fires
    """
    told: dict[str, Any] = {"node": node}
    lines: list[str] = []
    with _found(node, store, endpoint, as_json=as_json) as (found, tree):
        if out is None and icechunk is None:
            raise BadRequestError("there is no place to write to", hint="name OUT.zarr, --icechunk REPO, or both")
        from ..export import export_icechunk, export_zarr

        if out is not None:
            told["zarr"] = str(export_zarr(found, out, fields=field, overwrite=overwrite))
            lines.append(f"wrote {node} to {out}")
        if icechunk is not None:
            _hush()
            with progress_bar("export", enabled=not as_json) as progress:
                done = export_icechunk(tree, icechunk, fields=field, on_commit=progress)
            told["icechunk"] = {
                "repository": str(icechunk),
                "commits": len(done.commits),
                "written": len(done.written),
                "branches": done.branches,
                "tags": done.tags,
                "skipped": done.skipped,
            }
            lines.append(f"wrote {len(done.written):,} snapshots to {icechunk}, which has {len(done.commits):,}")
            lines += [f"{name} could not be read any more, and is not there" for name in done.skipped]
    show(told, as_json=as_json, people=lambda: "\n".join(lines))


def _hush() -> None:
    """Have Icechunk log errors alone: that commits to a folder are to be one at a time is seen to."""
    import icechunk

    icechunk.set_logs_filter("error")


@contextmanager
def _found(
    node: str, store: str | None, endpoint: str | None, *, as_json: bool
) -> Iterator[tuple[Snapshot | Branch | NodeSource, Snapshot | Branch | TreeSource]]:
    """Yield what an export of a node is made of, and one of its tree."""
    if store is None:
        with connected(endpoint, as_json=as_json) as server:
            there = server.node(node)
            yield there, there
        return
    with failing(as_json=as_json):
        from ..export import node_of_store, tree_of_store
        from ..store import open_store

        opened = open_store(store)
        yield node_of_store(opened, node), tree_of_store(opened, opened.node(node).tree)
