"""Fields, nodes, trees and expansions as xarray and pandas have them, with what they are called and mean."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from snapserv_client import Best, Server, aio
from snapserv_client.errors import BadRequestError, NotFoundError
from snapserv_client.export import export_zarr
from snapserv_client.labelled.regions import places_along

from ..conftest import ROOT, ServerProcess

Serve = Callable[..., ServerProcess]
LABELLED = "tests.simulations.labelled:Labelled"


@pytest.fixture
def labelled(serve: Serve) -> Iterator[Server]:
    with serve(LABELLED).connect() as server:
        server.branch("main").step(2)
        yield server


def test_a_field_has_the_names_of_its_axes_its_units_and_its_step(labelled: Server) -> None:
    main = labelled.branch("main")
    height = main.read("height", as_="xarray")
    assert (height.name, height.dims) == ("height", ("y", "x"))
    assert height.attrs == {"units": "m", "long_name": "height above sea level"}
    assert int(height.step) == 2
    np.testing.assert_array_equal(height.values, main.read("height"))
    main.step(3)
    both = xr.concat([height, main.read("height", as_="xarray")], "step")
    assert both.step.values.tolist() == [2, 5]
    cells = main.read("cells", as_="xarray")
    assert cells.dims == ("rows", "cells_dim_1")
    np.testing.assert_array_equal(cells.values, main.read("cells"))
    assert main.read("when", as_="xarray").attrs == {"declared_units": "s"}


@pytest.mark.parametrize(
    "region",
    [np.s_[3], np.s_[3:9], np.s_[:, 4], np.s_[2:18:5, ...], np.s_[1, 2], np.s_[-4:, 1:2], np.s_[...], None],
    ids=str,
)
def test_a_region_is_what_xarray_cuts_out(labelled: Server, region: tuple[slice, ...]) -> None:
    main = labelled.branch("main")
    whole = main.read("height", as_="xarray")
    part = main.read("height", region, as_="xarray")
    xr.testing.assert_identical(part, whole if region is None else whole[region])
    assert [len(each) for each in places_along(region, whole.shape)] == [*part.shape]


def test_a_node_is_the_dataset_that_its_export_is(labelled: Server, tmp_path: Path) -> None:
    main = labelled.branch("main")
    node = main.snapshot("two")
    node.tag("golden")
    for fields in (None, ["height", "x"], ["count"]):
        made = node.to_dataset(fields)
        path = export_zarr(node, tmp_path / "node.zarr", fields=fields, overwrite=True)
        with xr.open_zarr(path) as exported:
            marked = exported.attrs.pop("snapserv_export")
            xr.testing.assert_identical(made, exported.load())
        assert marked == 1
    assert made.attrs["lineage"] == [{"name": "root", "step": 0}, {"name": "two", "step": 2}]
    assert set(node.to_dataset().coords) == {"x", "y", "step"}
    xr.testing.assert_identical(
        node.to_dataset()["height"].drop_vars(["x", "y"]), node.read("height", as_="xarray")
    )
    with pytest.raises(NotFoundError, match="height"):
        node.to_dataset(["depth"])


def test_a_live_branch_is_a_dataset_of_one_moment_and_nothing_stays(labelled: Server) -> None:
    main = labelled.branch("main")
    before = [node.name for node in labelled.tree()]
    found = main.to_dataset()
    assert [node.name for node in labelled.tree()] == before
    assert (found.attrs["node"], found.attrs["step"], int(found.step)) == ("main", 2, 2)
    assert found.attrs["lineage"] == [{"name": "root", "step": 0}, {"name": "main", "step": 2}]
    assert main.to_dataset(["count"]).attrs["lineage"] == found.attrs["lineage"]
    assert int(main.to_dataset(["count"])["count"]) == 2


def test_what_no_file_has_a_type_for_is_a_variable_all_the_same(serve: Serve) -> None:
    with serve("tests.simulations.labelled:Wide").connect() as server:
        main = server.branch("main")
        main.step(3)
        found = main.to_dataset()
        assert found["exact"].dtype == np.longdouble
        assert found["exact"].values.tolist() == [3, 3, 3]


def test_a_simulation_without_fields_is_its_attributes(serve: Serve) -> None:
    with serve("tests.simulations.fieldless:Fieldless").connect() as server:
        main = server.branch("main")
        main.step(say="something")
        found = main.to_dataset()
        assert not found.data_vars
        assert (int(found.step), found.attrs["simulation"]) == (1, "Fieldless")


def test_the_client_for_asyncio_gives_the_same(labelled: Server) -> None:
    async def ask() -> tuple[xr.DataArray, xr.Dataset, pd.DataFrame]:
        async with await aio.connect(labelled.endpoint) as client:
            node = await client.snapshot("root")
            frame = (await node.expand([{}, {}], steps=2)).to_frame()
            return await node.read("height", as_="xarray"), await node.to_dataset(), frame

    root = labelled.snapshot("root")
    height, dataset, frame = asyncio.run(ask())
    xr.testing.assert_identical(height, root.read("height", as_="xarray"))
    xr.testing.assert_identical(dataset, root.to_dataset())
    assert frame["count"].tolist() == [2, 2]


def test_a_tree_is_a_frame_with_a_row_for_each_node(serve: Serve) -> None:
    with serve("tests.simulations.walk:Walk").connect() as server:
        main = server.branch("main")
        main.step(4)
        four = main.snapshot("four", message="as far as that")
        four.tag("golden")
        server.create(name="second")
        frame = server.tree(sizes=True).to_frame()
        unmeasured = server.tree().to_frame()
    assert frame.index.name == "id"
    row = frame.loc[four.id]
    assert (row["name"], row["kind"], row["step"], row["tags"]) == ("four", "snapshot", 4, ["golden"])
    assert (row["message"], row["simulation"], row["tree"]) == ("as far as that", "Walk", "default")
    assert frame.loc[row["parent"], "name"] == "root"
    assert frame["parent"].isna().sum() == 2
    assert abs(row["created"] - pd.Timestamp.now(tz="UTC")) < pd.Timedelta(minutes=5)
    assert frame.loc[four.id, "private_bytes"] > 0
    assert frame.groupby("tree")["step"].max().to_dict() == {"default": 4, "second": 0}
    assert unmeasured["private_bytes"].isna().all()


def test_an_expansion_is_a_frame_with_a_row_for_each_child(server: Server) -> None:
    main = server.branch("main")
    outcomes = main.expand([{"drift": 1.0}, {"drift": "far"}, {}], steps=3, sum=["mean"], keep=Best(1, "mean"))
    frame = outcomes.to_frame()
    assert frame.index.tolist() == [0, 1, 2]
    assert [*frame] == ["input.drift", "step", "ticks", "finished", "elapsed_s", "mean", "count", "node", "error"]
    assert frame["count"].tolist()[::2] == [3, 3]
    assert frame["mean"][0] == outcomes[0]["mean"]
    assert frame["error"].isna().tolist() == [True, False, True]
    assert frame["error"][1].startswith("bad_request: ")
    assert frame.loc[frame["error"].isna(), "step"].tolist() == [3, 3]
    kept = [each.node.name for each in outcomes if each.node is not None]
    assert frame["node"].dropna().tolist() == kept
    arrays = main.expand([[{"drift": 1.0}, {"drift": 2.0}]], read=["position", "count"]).to_frame()
    assert arrays["input.drift"][0] == [1.0, 2.0]
    assert arrays["position"][0].shape == (1000,)
    assert main.expand([{}], steps=2, until=None).to_frame()["count"].tolist() == [2]


def test_what_is_called_like_a_column_of_its_own_gives_way(serve: Serve) -> None:
    with serve("tests.simulations.fieldless:Fieldless").connect() as server:
        frame = server.branch("main").expand([{"say": "yes"}, {"say": None}]).to_frame()
        assert frame["input.say"].tolist()[0] == "yes"
        assert frame["said"].isna().tolist() == [False, True]


MISSING = """
import sys
sys.modules["xarray"] = sys.modules["pandas"] = None
from snapserv_client import connect
from snapserv_client.errors import UnsupportedError
with connect(sys.argv[1], timeout_s=10.0) as server:
    main = server.branch("main")
    wanted = [lambda: main.read("count", as_="xarray"), main.to_dataset, server.tree().to_frame]
    wanted += [main.expand([{}]).to_frame, main.records().to_pandas, main.records().to_xarray]
    for ask in wanted:
        try:
            ask()
        except UnsupportedError as error:
            print(error.code, error.hint)
"""


def test_what_is_missing_is_named_with_how_to_get_it(server: Server) -> None:
    command = [sys.executable, "-c", MISSING, server.endpoint]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("unsupported pip install ") for line in lines)
    assert sum("xarray" in line for line in lines) == 3


def test_another_way_to_read_is_refused(server: Server) -> None:
    main = server.branch("main")
    with pytest.raises(BadRequestError, match="numpy"):
        main.read("count", as_="polars")  # type: ignore[call-overload]
    with pytest.raises(NotFoundError):
        main.read("counter", as_="xarray")
