"""Curves: recorded in one request, kept in the node, shared by siblings, and gone back with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Server, condition, field, holds, side_by_side, when

from snapserv.errors import BadRequestError, NotFoundError, SnapservError

from ..conftest import ServerProcess
from .lives import Lives

Serve = Callable[..., ServerProcess]


def test_a_request_gives_back_what_it_recorded_and_the_node_keeps_all_of_its_past(server: Server) -> None:
    main = server.branch("main")
    first = main.step(6, record=["mean", field("position").max()], every=2, drift=2.0)
    assert first.records.steps.tolist() == [2, 4, 6]
    assert [*first.records] == ["mean", "max(position)"]
    at = server.branch("main").snapshot("six")
    again = at.branch()
    for branch in (main, again):
        second = branch.step(4, record=["mean", "max(position)"], every=2, drift=2.0)
        assert second.records.steps.tolist() == [8, 10]
        whole = branch.records()
        assert whole.steps.tolist() == [2, 4, 6, 8, 10]
        np.testing.assert_array_equal(whole["mean"][3:], second.records["mean"])
        np.testing.assert_array_equal(whole["mean"][:3], first.records["mean"])
        assert branch.records(after=6).steps.tolist() == [8, 10]
    assert at.records().steps.tolist() == [2, 4, 6]
    np.testing.assert_array_equal(main.records()["mean"], again.records()["mean"])
    assert main.step(1).records.steps.tolist() == []


def test_what_is_recorded_is_what_ticks_put_out_one_by_one(server: Server) -> None:
    one, many = server.snapshot("root").branch(2)
    said = []
    for _ in range(50):
        said.append(one.step(drift=0.5).outputs["mean"])
    found = many.step(50, record="mean", drift=0.5)
    assert found.records["mean"].tolist() == said
    assert found.outputs["mean"] == said[-1]


def test_a_standing_order_holds_for_all_that_comes_of_the_branch(server: Server) -> None:
    main = server.branch("main")
    main.record(["count", "mean"], every=5)
    main.step(7)
    one, other = main.branch(2)
    one.step(8, drift=1.0)
    other.step(3)
    assert one.records().steps.tolist() == [5, 10, 15] == one.records()["count"].tolist()
    assert other.records().steps.tolist() == [5, 10]
    both = side_by_side({"one": one.records(), "other": other.records()}, "mean")
    assert both.steps.tolist() == [5, 10, 15]
    assert np.isnan(both["other"][2])
    assert both["one"][0] == both["other"][0] != both["one"][1]
    one.record()
    one.step(10)
    assert one.records().steps.tolist() == [5, 10, 15]


def test_going_back_goes_back_with_what_was_recorded(server: Server) -> None:
    main = server.branch("main")
    main.step(3, record="count")
    main.snapshot("three")
    main.step(3, record="count")
    main.restore("three")
    assert main.records().steps.tolist() == [1, 2, 3]
    main.step(2, record=["count", "mean"])
    assert main.records().steps.tolist() == [1, 2, 3, 4, 5]
    assert main.records()["count"].tolist() == [1, 2, 3, 4, 5]
    assert np.isnan(main.records()["mean"][:3]).all()


def test_a_rewind_forgets_what_came_after_the_mark(serve: Serve) -> None:
    with serve("benchmarks.simulations:Pages", params={"pages": 64}).connect() as server:
        main = server.branch("main")
        main.step(3, record="max(memory)", dirty=1)
        main.mark()
        main.step(3, record="max(memory)", dirty=1)
        main.rewind()
        assert main.records().steps.tolist() == [1, 2, 3]


def test_a_run_stops_at_the_first_tick_at_which_a_condition_holds(server: Server) -> None:
    main = server.branch("main")
    done = main.step(100_000, until=(when("count") >= 37) & ~(when("mean") > 1e9), record="count", snapshot="there")
    assert (done.step, done.ticks, done.stopped) == (37, 37, True)
    assert done.records.steps.tolist() == [*range(1, 38)]
    assert done.snapshot is not None
    assert (done.snapshot.name, done.snapshot.step) == ("there", 37)
    done = main.step(5, until=condition("count >= 1000 or max(position) > 1e9"), snapshot="never")
    assert (done.step, done.stopped, done.snapshot) == (42, False, None)
    assert main.step(3, until=condition("count >= 1")).ticks == 1, "it is looked at after a tick"
    assert main.step(1).stopped is None


def test_a_run_that_is_cut_by_automatic_snapshots_is_one_run(server: Server) -> None:
    main = server.branch("main")
    main.autosnap(every_steps=10, keep=4)
    done = main.step(95, record="count", every=3, until=condition("count >= 77"))
    assert (done.step, done.ticks, done.stopped) == (77, 77, True)
    assert done.records.steps.tolist() == [*range(3, 78, 3)] == done.records["count"].tolist()
    main.autosnap(off=True)


def test_children_of_an_expansion_record_and_stop_each_for_itself(server: Server) -> None:
    start = server.branch("main").snapshot()
    outcomes = start.expand(
        [{"drift": each} for each in (0.0, 1.0, 4.0)],
        steps=40,
        record="mean",
        every=10,
        until=condition("mean >= 60"),
    )
    assert [outcome.stopped for outcome in outcomes] == [False, False, True]
    assert [outcome.ticks for outcome in outcomes] == [40, 40, 15]
    assert [outcome.records.steps.tolist() for outcome in outcomes] == [[10, 20, 30, 40], [10, 20, 30, 40], [10]]
    plain = start.expand([{"drift": 1.0}], steps=20)
    assert outcomes[1].records["mean"][1] == plain[0]["mean"]


def test_a_branch_of_ones_own_records_as_others_do(server: Server) -> None:
    with server.snapshot("root").branch() as branch, branch.direct() as direct:
        done = direct.step(20, record="count", every=4, until=condition("count >= 13"))
        assert (done.step, done.stopped) == (13, True)
        assert done.records.steps.tolist() == [4, 8, 12]
        assert direct.records().steps.tolist() == [4, 8, 12]


def test_what_cannot_be_looked_at_is_refused_and_changes_nothing_or_one_tick(server: Server) -> None:
    main = server.branch("main")
    refused: list[tuple[dict[str, Any], type[SnapservError]]] = [
        ({"record": "mean(positron)"}, NotFoundError),
        ({"record": "sum(position)", "every": 0}, BadRequestError),
        ({"record": ["mean", "mean"]}, BadRequestError),
        ({"until": holds("hidden")}, NotFoundError),
        ({"until": 3.0}, BadRequestError),
        ({"snapshot": "s"}, BadRequestError),
    ]
    for asked, kind in refused:
        with pytest.raises(kind):
            main.step(5, **asked)
        assert main.info().step == 0
    with pytest.raises(BadRequestError, match="'meen' is no output of this tick") as raised:
        main.step(5, record="meen")
    assert raised.value.details["ticks"] == 1
    assert "mean" in raised.value.hint
    assert main.info().step == 1
    assert not main.info().faulted
    assert main.step(2, record="mean").records.steps.tolist() == [2, 3]


def test_numbers_that_are_too_large_for_those_before_them_are_kept_too(serve: Serve) -> None:
    with serve("tests.simulations.chance:Dice", params={"fair_from": 3}).connect() as server:
        main = server.branch("main")
        found = main.step(60, record="throw").records["throw"]
        assert found.shape == (60,)
        assert found.max() > 1 << 63, "half of them are"
        assert not main.info().faulted


def test_a_condition_that_raises_ends_the_run_after_a_whole_tick(serve: Serve) -> None:
    with serve("tests.simulations.travelling:Path").connect() as server:
        main = server.branch("main")
        with pytest.raises(SnapservError, match="told to break down") as raised:
            main.step(5, until=holds("break_down"))
        assert raised.value.details["ticks"] == 1
        assert main.actions().ticks == 1
        assert main.step(1).step == 2


def test_a_condition_has_no_truth_of_its_own() -> None:
    with pytest.raises(BadRequestError, match="true or false of a tick"):
        bool(when("count") > 3)
    assert repr((when("count") > 3) & ~(when("mean") == "x")) == "count > 3 and not mean == 'x'"
    with pytest.raises(BadRequestError, match="compared with a number"):
        _ = when("count") > [3]  # type: ignore[operator]


def test_records_are_handed_over_as_frames_and_tables(server: Server) -> None:
    import pandas as pd
    import pyarrow as pa

    main = server.branch("main")
    main.step(6, record=["mean", "count"], every=2)
    main.step(1, record="max(position)")
    records = main.records()
    frame = records.to_pandas()
    assert frame.index.tolist() == [2, 4, 6, 7]
    assert frame["count"].tolist()[:3] == [2, 4, 6]
    assert frame["max(position)"].isna().tolist() == [True, True, True, False]
    dataset = records.to_xarray()
    assert dataset.sizes == {"step": 4}
    np.testing.assert_array_equal(dataset["mean"], records["mean"])
    assert pa.table(records).column_names == ["step", "mean", "count", "max(position)"]
    assert pd.DataFrame(dataset.to_dataframe()).shape == (4, 3)


@pytest.fixture
def lives(tmp_path: Path, short_path: Path) -> Iterator[Lives]:
    found = Lives(short_path)
    yield found
    found.close()


def test_records_outlive_everything_where_the_node_does(lives: Lives) -> None:
    with lives.begin("tests.simulations.walk:Walk") as client:
        main = client.branch("main")
        main.record("count", every=4)
        main.step(20, record="mean", every=5)
        wanted = main.records()
        main.snapshot("kept").save()
    lives.kill_all()
    with lives.begin() as client:
        found = client.snapshot("kept").records()
        assert found.steps.tolist() == wanted.steps.tolist() == [4, 5, 8, 10, 12, 15, 16, 20]
        for name in ("mean", "count"):
            np.testing.assert_array_equal(found[name], wanted[name])
        again = client.snapshot("kept").branch()
        again.step(4)
        assert again.records(after=20)["count"].tolist() == [24], "what stands goes on"


def test_a_server_may_record_of_all_nodes_from_the_root_on(serve: Serve) -> None:
    options = ("--record", "count", "--record", "max(position)", "--record-every", "3")
    with serve("tests.simulations.walk:Walk", options=options).connect() as server:
        main, other = server.branch("main"), server.snapshot("root").branch()
        for branch in (main, other):
            branch.step(7)
            assert branch.records().steps.tolist() == [3, 6] == branch.records()["count"].tolist()
        branch = server.create(name="again")
        branch.step(3)
        assert [*branch.records()] == ["count", "max(position)"]


def test_a_server_that_is_to_record_what_is_not_there_does_not_start(serve: Serve) -> None:
    with pytest.raises(AssertionError, match="has no field 'positron'"):
        serve("tests.simulations.walk:Walk", options=("--record", "mean(positron)"))
