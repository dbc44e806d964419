"""Nodes of a store are exported as those of a server are, and without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import icechunk
import msgspec
import numpy as np
import pytest
import xarray as xr
from snapserv_client.errors import BadRequestError
from snapserv_client.export import export_icechunk, export_zarr, node_of_store, tree_of_store
from snapserv_client.labelled import layout
from snapserv_client.labelled.source import run_of
from snapserv_client.store import open_store
from snapserv_client.store.format import Live, Node, Tree

from snapserv.store.writing import StoreWriter

from ..store import making

CELL = np.dtype([("z", "<f8"), ("rgb", "u1", (3,))])


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Tree, list[Node]]:
    """A store of root → s1 → s2, of which s1 has a further child, and main goes on from s2."""
    writer = StoreWriter(tmp_path / "store")
    generator = np.random.default_rng(1)
    tree = making.tree_of(fields={"heat": (8, ">f4", [30, 40]), "cells": (5001, CELL.descr, [50])})
    heat = msgspec.structs.replace(tree.fields[0], dims=["y", "x"], units="K", doc="how warm it is")
    tree = msgspec.structs.replace(tree, fields=[heat, tree.fields[1]], described={"version": "1.2"})
    with writer.saving() as saving:
        root = making.save(saving, tree, "root", making.some_pages(generator, 3))
        one = making.save(saving, tree, "s1", making.some_pages(generator, 3), root, outputs={"reward": np.nan})
        two = making.save(saving, tree, "s2", making.some_pages(generator, 3), one, tags=["best/of all"])
        other = making.save(saving, tree, "s3", making.some_pages(generator, 3), one)
    session = making.session_of(tree)
    writer.put_session(msgspec.structs.replace(session, live=[Live("main", tree.uid, two.uid, 9)]))
    return tmp_path / "store", tree, [root, one, two, other]


def test_a_node_of_a_store_is_a_dataset(
    written: tuple[Path, Tree, list[Node]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, _, nodes = written
    monkeypatch.setattr(layout, "CHUNK_BYTES", 1000)
    store = open_store(place)
    export_zarr(node_of_store(store, "s1"), tmp_path / "s1.zarr")
    with xr.open_zarr(tmp_path / "s1.zarr") as shown:
        assert (shown.heat.dims, shown.heat.units, shown.heat.long_name) == (("y", "x"), "K", "how warm it is")
        assert shown.heat.values.tobytes() == store.field(nodes[1], "heat").astype("<f4").tobytes()
        cells = store.field(nodes[1], "cells")
        assert shown["cells.z"].values.tobytes() == cells["z"].tobytes()
        assert shown["cells.rgb"].values.tobytes() == cells["rgb"].tobytes()
        about = shown.attrs
    assert (about["version"], about["params"], about["outputs"]) == ("1.2", {"seed": 7}, {"reward": "nan"})
    assert about["lineage"] == [{"name": "root", "step": 0}, {"name": "s1", "step": 1}]


def test_a_tree_of_a_store_is_a_repository(written: tuple[Path, Tree, list[Node]], tmp_path: Path) -> None:
    place, tree, nodes = written
    storage = icechunk.in_memory_storage()
    done = export_icechunk(tree_of_store(open_store(place), tree.uid), storage)
    assert set(done.commits) == {node.uid for node in nodes}
    assert set(done.branches) == {"main", "s3"}
    assert set(done.tags) == {"root", "s1", "s2", "s3", f"best-of-all-{nodes[2].uid[:8]}"}
    repo = icechunk.Repository.open(storage)
    messages = [info.message for info in repo.ancestry(branch="main")]
    assert messages == ["s2 · step 2", "s1 · step 1", "root · step 0", "Repository initialized"]
    shown = xr.open_zarr(repo.readonly_session(branch="s3").store, consolidated=False)
    assert shown.heat.values.tobytes() == open_store(place).field(nodes[3], "heat").astype("<f4").tobytes()
    assert next(iter(repo.ancestry(branch="main"))).metadata["snapserv"]["names"] == ["s2", "best/of all"]


def test_elements_that_are_apart_are_no_block() -> None:
    assert run_of((4, 5), (slice(1, 3), slice(0, 5))) == (5, 10)
    assert run_of((), ()) == (0, 1)
    with pytest.raises(BadRequestError, match="apart"):
        run_of((4, 5), (slice(1, 3), slice(0, 4)))


def test_without_an_export_nothing_of_it_is_loaded() -> None:
    code = (
        "import sys, snapserv_client, snapserv_client.export, snapserv.cli.app;"
        "assert snapserv_client.connect;"
        "assert not {'zarr', 'icechunk', 'xarray', 'numcodecs'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    code = (
        "import sys; sys.modules.update(zarr=None, icechunk=None)\n"
        "from snapserv_client.errors import UnsupportedError\n"
        "try: from snapserv_client.export import export_zarr\n"
        "except UnsupportedError as error: assert 'snapserv-client[export]' in error.hint\n"
        "else: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
