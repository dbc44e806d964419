"""What a process holds outside of private memory: each clone has its own, or it is refused and said why."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snapserv_client import Branch, Server, SnapservWarning
from snapserv_client.errors import BadRequestError, NodeDiedError, NotBranchableError

from snapserv.cell.holdings import ADVICE, Holdings

from ..conftest import ROOT, ServerProcess, start_server

Serve = Callable[..., ServerProcess]
HOLDS = "tests.simulations.holding:Holds"

BECOME_ITS_OWN = [
    *("map", "array", "value", "segment", "nameless", "temporary", "removed", "listing", "many_files"),
    *("tasks", "nothing"),
]
REFUSED = {
    "shared_with_a_child": ("shared_memory", "also mapped by process"),
    "file_of_others": ("shared_memory", "mapped to be written"),
    "mapped_twice": ("shared_memory", "mapped twice"),
    "sysv": ("shared_memory", "SysV"),
    "pipe": ("pipes", "its other end is descriptor"),
    "engine": ("pipes", "its other end is process"),
    "sockets": ("sockets", "made by this process"),
    "listener": ("sockets", "socket:"),
    "terminal": ("terminals", "/dev/pt"),
    "eventfd": ("events", "eventfd"),
    "timerfd": ("events", "timerfd"),
    "signalfd": ("events", "signalfd"),
    "inotify": ("events", "inotify"),
    "epoll": ("events", "eventpoll"),
    "lock": ("locks", "locked"),
    "record_lock": ("locks", "locked"),
    "left_out": ("lost_memory", "left out"),
    "emptied": ("lost_memory", "emptied"),
    "timer": ("timers", "ITIMER_REAL"),
    "own_timer": ("timers", "timer_create"),
}
WITHOUT_A_TRACE = ("timer", "own_timer", "left_out", "emptied")
"""What takes milliseconds to see: at the end of setup, and at the first snapshot."""


def outputs(node: Branch, *inputs: int) -> list[Any]:
    return [node.step(1, by=by).outputs["sum"] for by in inputs]


def check_siblings(server: Server, first: list[Any]) -> None:
    """Check that siblings go on as their original does, from where it was, whatever each of them does."""
    main = server.branch("main")
    assert outputs(main, 1, 2) == first[:2]
    before = main.snapshot()
    right = outputs(main, 3, 1)
    a, b = before.branch(2)
    assert outputs(a, 3) == right[:1]
    assert outputs(b, 3, 1) == right
    assert outputs(a, 1) == right[1:]
    expanded = before.expand([[{"by": 3}, {"by": 1}]] * 20)
    assert [outcome.outputs["sum"] for outcome in expanded] == [right[1]] * 20
    main.restore(before)
    assert outputs(main, 3, 1) == right
    (later,) = a.snapshot().branch(1)
    assert outputs(later, 2) == outputs(b, 2)


@pytest.mark.parametrize("what", BECOME_ITS_OWN)
def test_state_in_such_a_place_is_each_branchs_own(serve: Serve, tmp_path: Path, what: str) -> None:
    process = serve(HOLDS, params={"what": what, "folder": str(tmp_path)})
    with process.connect() as server:
        twin = serve(HOLDS, params={"what": what, "folder": str(tmp_path)})
        with twin.connect() as uninterrupted:
            check_siblings(server, outputs(uninterrupted.branch("main"), 1, 2))
    if what in ("map", "array", "value", "segment"):
        assert "made_private" in process.log.read_text()


@pytest.mark.parametrize("what", ["map", "segment", "nameless"])
def test_what_a_tick_makes_is_each_branchs_own_too(serve: Serve, what: str) -> None:
    with serve(HOLDS, params={"what": what, "later": 1}).connect() as server:
        check_siblings(server, [1, 3])


def test_a_mapped_file_of_a_branched_folder_is_each_branchs_own(serve: Serve, tmp_path: Path) -> None:
    process = serve(
        HOLDS,
        params={"what": "mapped_file", "folder": str(tmp_path)},
        options=("--branch-dir", str(tmp_path)),
    )
    with process.connect() as server:
        check_siblings(server, [1, 3])
    assert not (tmp_path / "mapped").exists()


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_what_no_clone_could_have_is_refused_when_setup_returns(tmp_path: Path, what: str) -> None:
    kind, said = REFUSED[what]
    with pytest.raises(AssertionError, match="not_branchable") as caught:
        start_server(tmp_path, HOLDS, params={"what": what, "folder": str(tmp_path)})
    assert kind in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("what", sorted(set(REFUSED) - set(WITHOUT_A_TRACE)))
def test_what_a_tick_has_made_is_said_at_once_and_refused_at_the_snapshot(
    serve: Serve, tmp_path: Path, what: str
) -> None:
    kind, said = REFUSED[what]
    with serve(HOLDS, params={"what": what, "folder": str(tmp_path), "later": 1}).connect() as server:
        main = server.branch("main")
        with pytest.warns(SnapservWarning, match="not_branchable") as told:
            main.step(1)
        assert said in str(told[0].message)
        with pytest.raises(NotBranchableError, match=kind) as caught:
            main.snapshot()
        assert {each["kind"] for each in caught.value.details["held"]} == {kind}
        assert all(each["advice"] for each in caught.value.details["held"])
        main.step(1)  # it goes on, and is not said again
        main.reset()
        main.snapshot()


@pytest.mark.parametrize("what", WITHOUT_A_TRACE)
def test_what_takes_long_to_see_is_refused_at_the_first_snapshot(serve: Serve, tmp_path: Path, what: str) -> None:
    with serve(HOLDS, params={"what": what, "folder": str(tmp_path), "later": 1}).connect() as server:
        main = server.branch("main")
        main.step(1)
        with pytest.raises(NotBranchableError, match=REFUSED[what][0]):
            main.snapshot()


def test_what_is_allowed_is_cloned_and_said_of_each_node(serve: Serve, tmp_path: Path) -> None:
    process = serve(HOLDS, params={"what": "pipe"}, options=("--allow", "pipes"))
    with process.connect() as server:
        main = server.branch("main")
        (branch,) = main.snapshot().branch(1)
        assert len(branch.info().shared) == 2
        assert "pipe:" in branch.info().shared[0]
    assert "shared_by_nodes" in process.log.read_text()
    with pytest.raises(AssertionError, match=r"allow names 'pips'.*pipes"):
        start_server(tmp_path, HOLDS, params={"what": "nothing"}, options=("--allow", "pips"))


def test_a_temporary_file_of_a_branched_folder_is_each_branchs_own(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = serve(HOLDS, params={"what": "temporary"}, options=("--branch-dir", str(tmp_path)))
    with process.connect() as server:
        check_siblings(server, [1, 3])


def test_memory_that_is_meant_to_be_shared_stays_so(serve: Serve) -> None:
    with serve(HOLDS, params={"what": "map"}, options=("--allow", "shared_memory")).connect() as server:
        main = server.branch("main")
        (branch,) = main.snapshot().branch(1)
        assert [*outputs(main, 1), *outputs(branch, 1), *outputs(main, 1)] == [1, 2, 3]
        assert len(main.info().shared) == 1


def test_a_branch_that_is_killed_with_a_lock_of_multiprocessing_holds_nobody_up(serve: Serve) -> None:
    with serve(HOLDS, params={"what": "value"}).connect() as server:
        main = server.branch("main")
        first, second = main.snapshot().branch(2)
        pid = first.info().pid
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(NodeDiedError):
            first.step(1)
        assert outputs(second, 4) == [4]


def test_the_page_names_all_that_is_tried_and_nothing_else() -> None:
    page = (ROOT / "docs" / "what-branches.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    named = {name: row[1] for row in rows if len(row) == 4 for name in re.findall(r"`(\w+)`", row[3])}
    assert set(named) == {*BECOME_ITS_OWN, "mapped_file", *REFUSED}
    for name, happens in named.items():
        assert happens.startswith(
            f"refused: `{REFUSED[name][0]}`" if name in REFUSED else ("works", "made private")
        ), name
    for kind in ADVICE:
        assert f"`{kind}`" in page


def test_a_simulation_may_allow_only_what_there_is() -> None:
    with pytest.raises(BadRequestError, match="shared_memory, pipes"):
        Holdings(["everything"])
