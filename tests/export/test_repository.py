"""A tree is exported as a repository whose history is the lineage, and which shares what has not changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from snapserv_client import Server
from snapserv_client.errors import BadRequestError, StoreUnavailableError, UnsupportedError
from snapserv_client.export import Exported, export_icechunk, tree_of_server
from snapserv_client.export.repository import _hold
from snapserv_client.labelled import layout

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture(autouse=True)
def _quietly() -> Iterator[None]:
    icechunk.set_logs_filter("error")
    yield
    icechunk.set_logs_filter(None)


def opened(folder: Path) -> icechunk.Repository:
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder)))


def shown(repo: icechunk.Repository, **of: str) -> xr.Dataset:
    return xr.open_zarr(repo.readonly_session(**of).store, consolidated=False).load()


def history(repo: icechunk.Repository, **of: str) -> list[str]:
    return [info.message for info in repo.ancestry(**of)][:-1]  # the last one is the repository's own


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def grown(server: Server) -> Server:
    """A server with root → a → (b, c), main at a, left at b, and nothing at c."""
    main = server.branch("main")
    main.step(2)
    a = main.snapshot("a")
    a.tag("golden")
    left, right = a.branch(names=["left", "right"], rng="split")
    left.step(3)
    left.snapshot("b")
    right.step(4)
    right.snapshot("c")
    right.drop()
    return server


def test_a_commit_is_a_snapshot_and_its_history_the_lineage(grown: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    done = export_icechunk(grown, tmp_path / "repo", on_commit=lambda *at: seen.append(at))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert (len(done.commits), len(done.written), done.skipped) == (4, 4, [])
    repo = opened(tmp_path / "repo")
    assert set(repo.list_branches()) == {"main", "left", "c"} == set(done.branches)
    assert set(repo.list_tags()) == {"root", "a", "golden", "b", "c"} == set(done.tags)
    assert repo.lookup_branch("main") == repo.lookup_tag("a") == repo.lookup_tag("golden")
    assert history(repo, branch="left") == ["b · step 5", "a · step 2", "root · step 0"]
    assert history(repo, branch="c") == ["c · step 6", "a · step 2", "root · step 0"]
    for name in ("root", "a", "b", "c"):
        dataset = shown(repo, tag=name)
        node = grown.node(name)
        np.testing.assert_array_equal(dataset.position.values, node.read("position"))
        assert (dataset.position.dims, dataset.position.units) == (("cols",), "m")
        assert (int(dataset.step), dataset.attrs["node"]) == (node.last.step, name)
    told = next(iter(repo.ancestry(tag="a"))).metadata["snapserv"]
    assert told["names"] == ["a", "golden"]


def test_another_export_goes_on_where_the_last_one_stopped(grown: Server, tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    first = export_icechunk(grown, folder)
    again = export_icechunk(grown.node("b"), folder)
    assert (again.written, again.commits, again.branches) == ([], first.commits, first.branches)
    main = grown.branch("main")
    main.step()
    main.snapshot("d")
    grown.node("c").drop()
    main.restore("b")
    main.step()
    main.snapshot("c")  # the name is another node's now
    last = export_icechunk(grown, folder)
    assert len(last.written) == 2
    repo = opened(folder)
    assert history(repo, branch="main") == ["c · step 6", "b · step 5", "a · step 2", "root · step 0"]
    assert history(repo, branch="d") == ["d · step 3", "a · step 2", "root · step 0"]
    assert history(repo, tag="c") == ["c · step 6", "a · step 2", "root · step 0"]
    (renamed,) = [tag for tag in repo.list_tags() if tag.startswith("c-")]
    assert repo.lookup_tag(renamed) == repo.lookup_branch("main")
    np.testing.assert_array_equal(shown(repo, branch="main").position.values, grown.node("c").read("position"))


def test_chunks_that_have_not_changed_are_shared(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = 1 << 16
    monkeypatch.setattr(layout, "CHUNK_BYTES", chunk)
    cols = 40 * chunk // 8
    folder = tmp_path / "repo"
    with serve("tests.simulations.walk:Walk", params={"cols": cols}).connect() as server:
        main = server.branch("main")
        main.step()  # random: nothing to be compressed
        main.snapshot()
        export_icechunk(server, folder)
        whole = size_of(folder)
        assert whole > 36 * chunk
        for number in range(10):
            main.write("position", np.full(5, 0.5), (slice(3 * number * chunk // 8, 3 * number * chunk // 8 + 5),))
            main.snapshot()
        done = export_icechunk(server, folder)
        assert len(done.written) == 10
        grown = (size_of(folder) - whole) / 10
        assert 0.9 * chunk < grown < 1.3 * chunk, (whole, grown)
        repo = opened(folder)
        np.testing.assert_array_equal(shown(repo, branch="main").position.values, main.read("position"))


def test_what_has_changed_its_shape_is_written_anew(serve: Serve, tmp_path: Path) -> None:
    """As between exports of other fields, which stay what they are in the commits that have them."""
    with serve("tests.simulations.labelled:Labelled").connect() as server:
        main = server.branch("main")
        main.step()
        export_icechunk(server, tmp_path / "repo", fields=["height", "count"])
        main.snapshot("more")
        export_icechunk(server, tmp_path / "repo")
        main.snapshot("fewer")
        export_icechunk(server, tmp_path / "repo", fields=["y"])
        repo = opened(tmp_path / "repo")
        assert set(shown(repo, tag="root")) == {"height", "count"}
        more = shown(repo, tag="more")
        np.testing.assert_array_equal(more["cells.rgb"].values, main.read("cells")["rgb"])
        main.step()
        main.snapshot("stepped")
        export_icechunk(server, tmp_path / "repo")
        stepped = shown(repo, tag="stepped")
        for part in ("z", "kind", "rgb"):
            np.testing.assert_array_equal(stepped[f"cells.{part}"].values, main.read("cells")[part])
        for name in ("height", "y", "when", "count"):
            np.testing.assert_array_equal(stepped[name].values, main.read(name))
        assert set(shown(repo, tag="fewer").variables) == {"y", "step"}


def test_others_repositories_and_folders_are_left_alone(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    with pytest.raises(BadRequestError, match="not empty"):
        export_icechunk(server, folder)
    with pytest.raises(BadRequestError, match="cannot write"):
        export_icechunk(server, folder / "mine")
    theirs = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "theirs")))
    session = theirs.writable_session("main")
    zarr.create_group(session.store)
    session.commit("theirs")
    with pytest.raises(BadRequestError, match="none of ours"):
        export_icechunk(server, tmp_path / "theirs")
    assert history(opened(tmp_path / "theirs"), branch="main") == ["theirs"]
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_each_tree_has_a_repository_of_its_own(serve: Serve, tmp_path: Path) -> None:
    with serve("tests.simulations.walk:Walk").connect() as server:
        server.create(name="other")
        export_icechunk(server, tmp_path / "repo")
        with pytest.raises(BadRequestError, match="another tree, 'default'"):
            export_icechunk(tree_of_server(server, "other"), tmp_path / "repo")
        done = export_icechunk(server.node("other/main"), tmp_path / "second")
    assert (set(done.branches), set(done.tags)) == ({"main"}, {"root"})


def test_branches_that_somebody_else_goes_on_with_are_not_moved(server: Server, tmp_path: Path) -> None:
    export_icechunk(server, tmp_path / "repo")
    repo = opened(tmp_path / "repo")
    session = repo.writable_session("main")
    zarr.open_group(session.store).attrs["looked_at"] = True
    theirs = session.commit("an analysis")
    main = server.branch("main")
    main.step()
    main.snapshot("a")
    done = export_icechunk(server, tmp_path / "repo")
    assert repo.lookup_branch("main") == theirs
    (name,) = done.branches
    assert name.startswith("main-")
    assert history(repo, branch=name) == ["a · step 1", "root · step 0"]


def test_two_exports_into_a_folder_are_one_after_the_other(server: Server, tmp_path: Path) -> None:
    import os

    (tmp_path / "repo").mkdir()
    held = _hold(tmp_path / "repo")
    assert held is not None
    try:
        with pytest.raises(StoreUnavailableError, match="somebody else"):
            export_icechunk(server, tmp_path / "repo")
    finally:
        os.close(held)
    assert len(export_icechunk(server, tmp_path / "repo").written) == 1


def test_a_repository_that_is_damaged_is_an_error_of_ours(grown: Server, tmp_path: Path) -> None:
    export_icechunk(grown, tmp_path / "repo")
    for path in (tmp_path / "repo" / "snapshots").iterdir():
        path.write_bytes(b"")
    with pytest.raises(StoreUnavailableError) as raised:
        export_icechunk(grown, tmp_path / "repo")
    assert raised.value.details["reason"] == "input_output"


def test_a_dead_snapshot_is_skipped_and_a_refused_field_leaves_no_commit(
    serve: Serve, grown: Server, tmp_path: Path
) -> None:
    import os
    import signal

    from ..conftest import assert_settles

    os.kill(grown.node("a").last.pid, signal.SIGKILL)
    assert_settles(lambda: grown.node("a").last.state, "dead")
    done = export_icechunk(grown, tmp_path / "repo")
    assert (done.skipped, len(done.written)) == (["a"], 3)
    assert history(opened(tmp_path / "repo"), branch="left") == ["b · step 5", "root · step 0"]
    with serve("tests.simulations.labelled:Wide").connect() as server:
        with pytest.raises(UnsupportedError):
            export_icechunk(server, tmp_path / "wide")
        done = export_icechunk(server, tmp_path / "wide", fields=["plain"])
        assert isinstance(done, Exported)
        assert history(opened(tmp_path / "wide"), branch="main") == ["root · step 0"]


def test_it_goes_into_any_storage_of_icechunk(server: Server) -> None:
    storage: Any = icechunk.in_memory_storage()
    export_icechunk(server, storage)
    repo = icechunk.Repository.open(storage)
    assert history(repo, branch="main") == ["root · step 0"]
