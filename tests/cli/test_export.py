"""The command ``export``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from snapserv_client import Server

from snapserv.store.writing import StoreWriter

from ..store import making
from .conftest import Terminal, typed


def test_a_node_and_its_tree_are_written_and_replaced_only_when_asked(
    terminal: Terminal, server: Server, tmp_path: Path
) -> None:
    out, repository = str(tmp_path / "s.zarr"), str(tmp_path / "repo")
    told = terminal.json("export", "s", out, "--icechunk", repository)
    assert (told["node"], told["zarr"]) == ("s", out)
    assert (told["icechunk"]["commits"], told["icechunk"]["written"]) == (2, 2)
    assert set(told["icechunk"]["branches"]) == {"main"}
    assert set(told["icechunk"]["tags"]) == {"root", "s"}
    assert terminal.err == ""
    with xr.open_zarr(out) as shown:
        np.testing.assert_array_equal(shown.position.values, server.node("s").read("position"))
    assert "already" in terminal.json("export", "s", out, status=2)["error"]["message"]
    assert terminal.type("export", "main", out, "--overwrite", "--field", "count") == 0
    assert f"wrote main to {out}" in terminal.out
    with xr.open_zarr(out) as shown:
        assert (list(shown), shown.attrs["node"]) == (["count"], "main")
    assert terminal.type("export", "s", "--icechunk", repository) == 0
    assert "wrote 0 snapshots" in terminal.out
    assert terminal.json("export", "s", status=2)["error"]["code"] == "bad_request"
    assert terminal.json("export", "nobody", out, status=2)["error"]["code"] == "not_found"


def test_nothing_but_the_result_is_printed(server: Server, tmp_path: Path) -> None:
    """In a process of its own: Icechunk's log goes past Python."""
    words = ("export", "root", "--icechunk", str(tmp_path / "repo"), "-e", server.endpoint)
    ran = typed(*words)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("wrote 1 snapshots")


def test_a_store_needs_no_server(alone: Terminal, tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store")
    tree = making.tree_of(fields={"heat": (8, "<f4", [30, 40])})
    with writer.saving() as saving:
        node = making.save(saving, tree, "root", making.some_pages(np.random.default_rng(1), 3))
    out, repository, place = (str(tmp_path / name) for name in ("root.zarr", "repo", "store"))
    told = alone.json("export", "root", out, "--icechunk", repository, "--store", place)
    assert told["icechunk"]["written"] == 1
    with xr.open_zarr(out) as shown:
        np.testing.assert_array_equal(shown.heat.values, writer.store.field(node, "heat"))
    assert alone.json("export", "other", out, "--store", place, status=2)["error"]["code"] == "not_found"
    assert alone.json("export", "root", out, "--store", f"{place}s", status=2)["error"]["code"] == "not_found"
