"""A node is exported as a dataset that xarray labels, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from snapserv_client import Server
from snapserv_client.errors import BadRequestError, NotFoundError, UnsupportedError
from snapserv_client.export import NodeSource, export_zarr, node_of_server
from snapserv_client.labelled import layout
from snapserv_client.labelled.source import Array, Block, FieldFacts

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]
LABELLED = "tests.simulations.labelled:Labelled"


def test_xarray_shows_axes_coordinates_units_and_where_it_comes_from(serve: Serve, tmp_path: Path) -> None:
    with serve(LABELLED).connect() as server:
        main = server.branch("main")
        main.step(2)
        main.snapshot("first")
        main.step()
        node = main.snapshot("second")
        node.tag("golden")
        path = export_zarr(node, tmp_path / "second.zarr")
        fields = {field.name: node.read(field.name) for field in server.spec().fields}
    with xr.open_zarr(path) as shown:
        assert dict(shown.sizes)["y"] == 20
        assert set(shown.coords) == {"x", "y", "step"}
        assert int(shown.step) == 3
        height = shown.height
        assert height.dims == ("y", "x")
        assert (height.units, height.long_name) == ("m", "height above sea level")
        assert shown.y.units == "km"
        assert float(height.sel(y=2.5, x=7)) == fields["height"][5, 7]
        for name in ("height", "y", "x", "when", "empty", "count"):
            np.testing.assert_array_equal(shown[name].values, fields[name])
            assert shown[name].dtype == fields[name].dtype
        assert shown["when"].declared_units == "s"
        for part in ("z", "kind", "rgb"):
            variable = shown[f"cells.{part}"]
            np.testing.assert_array_equal(variable.values, fields["cells"][part])
            assert variable.attrs == {"field": "cells", "part": [part], "long_name": "what is where"}
        assert shown["cells.rgb"].dims == ("rows", "cells.rgb_dim_1", "cells.rgb_dim_2")
        about = shown.attrs
    assert about["simulation"] == "Labelled"
    assert about["params"] == {"rows": 20, "cols": 30, "label": "here", "limit": "inf"}
    assert (about["node"], about["tags"], about["step"], about["tree"]) == ("second", ["golden"], 3, "default")
    assert about["lineage"] == [
        {"name": "root", "step": 0},
        {"name": "first", "step": 2},
        {"name": "second", "step": 3},
    ]
    assert datetime.fromisoformat(about["created"]).tzinfo == UTC
    assert "version" in about


def test_of_a_live_branch_a_snapshot_is_taken_and_dropped(server: Server, tmp_path: Path) -> None:
    main = server.branch("main")
    main.step(2)
    before = main.read("position")
    with node_of_server(main) as source:
        main.step(5)
        path = export_zarr(source, tmp_path / "main.zarr")
    with xr.open_zarr(path) as shown:
        np.testing.assert_array_equal(shown.position.values, before)
        assert (shown.attrs["node"], shown.attrs["step"]) == ("main", 2)
        assert shown.attrs["lineage"] == [{"name": "root", "step": 0}, {"name": "main", "step": 2}]
    assert {node.name for node in server.tree().nodes} == {"root", "main"}


def test_chosen_fields_only_and_unknown_ones_are_refused(server: Server, tmp_path: Path) -> None:
    root = server.snapshot("root")
    export_zarr(root, tmp_path / "a.zarr", fields=["count"])
    with xr.open_zarr(tmp_path / "a.zarr") as shown:
        assert list(shown) == ["count"]
    with pytest.raises(NotFoundError, match="position, count"):
        export_zarr(root, tmp_path / "b.zarr", fields=["speed"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr"]


def test_what_is_there_stays_unless_it_is_an_earlier_export_that_may_go(server: Server, tmp_path: Path) -> None:
    main = server.branch("main")
    target = tmp_path / "out.zarr"
    export_zarr(main, target)
    main.step()
    with pytest.raises(BadRequestError, match="already"):
        export_zarr(main, target)
    with xr.open_zarr(target) as shown:
        assert int(shown.step) == 0
    export_zarr(main, target, overwrite=True)
    with xr.open_zarr(target) as shown:
        assert int(shown.step) == 1
    others = {"folder": tmp_path / "folder", "file": tmp_path / "file", "group": tmp_path / "group.zarr"}
    others["folder"].mkdir()
    others["file"].write_text("mine")
    zarr.create_group(others["group"]).attrs["mine"] = True
    (tmp_path / "link.zarr").symlink_to(target)
    for other in (*others.values(), tmp_path / "link.zarr"):
        with pytest.raises(BadRequestError, match="not replaced"):
            export_zarr(main, other, overwrite=True)
    with pytest.raises(BadRequestError, match="no folder"):
        export_zarr(main, "s3://bucket/out.zarr")
    with pytest.raises(BadRequestError, match="cannot write"):
        export_zarr(main, others["file"] / "out.zarr")
    assert others["file"].read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "file", "folder", "group.zarr", "link.zarr", "out.zarr"
    ]  # fmt: skip


def test_what_zarr_has_no_type_for_is_refused_by_the_fields_name(serve: Serve, tmp_path: Path) -> None:
    with serve("tests.simulations.labelled:Wide").connect() as server:
        root = server.snapshot("root")
        with pytest.raises(UnsupportedError) as raised:
            export_zarr(root, tmp_path / "all.zarr")
        assert raised.value.details["field"] == "exact"
        assert list(tmp_path.iterdir()) == []
        export_zarr(root, tmp_path / "plain.zarr", fields=["plain"])
    with xr.open_zarr(tmp_path / "plain.zarr") as shown:
        assert list(shown) == ["plain"]


class Watched:
    """A node, and how many bytes of it were read at once."""

    def __init__(self, source: NodeSource) -> None:
        self._source = source
        self.facts, self.fields, self.lineage = source.facts, source.fields, source.lineage
        self.sizes: list[int] = []

    def read(self, field: FieldFacts, block: Block) -> Array:
        found = self._source.read(field, block)
        self.sizes.append(found.nbytes)
        return found


def test_a_large_field_goes_chunk_by_chunk(serve: Serve, tmp_path: Path) -> None:
    process = serve("tests.simulations.walk:Walk", params={"cols": 5_000_000})
    with process.connect() as server:
        main = server.branch("main")
        main.step()
        with node_of_server(main) as source:
            watched = Watched(source)
            path = export_zarr(watched, tmp_path / "large.zarr")
        assert max(watched.sizes) <= layout.CHUNK_BYTES
        (chunks,) = zarr.open_group(path)["position"].chunks  # type: ignore[union-attr]
        assert layout.CHUNK_BYTES / 2 < chunks * 8 <= layout.CHUNK_BYTES
        with xr.open_zarr(path) as shown:
            np.testing.assert_array_equal(shown.position.values, main.read("position"))


@pytest.mark.parametrize(
    ("shape", "itemsize", "chunks"),
    [
        ((), 8, ()),
        ((0, 3), 8, (1, 3)),
        ((4096, 4096), 4, (512, 4096)),
        ((3, 5, 1 << 22), 4, (1, 1, 1 << 21)),
        ((1000, 3 << 20), 1, (2, 3 << 20)),
        ((10,), 20 << 20, (1,)),
    ],
)
def test_a_chunk_is_one_stretch_of_the_fields_memory(shape: Any, itemsize: int, chunks: Any) -> None:
    assert layout.chunks_of(shape, itemsize) == chunks
