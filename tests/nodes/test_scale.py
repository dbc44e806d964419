"""Many nodes: what a snapshot takes of the server, and that lists, lineages and ends come whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import pytest
from snapserv_client import Branch, Server, requests
from snapserv_client.display import MOST_INDENT, Tree
from snapserv_client.errors import NotFoundError, OverBudgetError
from snapserv_client.protocol import LogResult, NodeInfo, TreeResult
from snapserv_client.requests import Request, convert

from ..conftest import ServerProcess, assert_settles, session_processes

Serve = Callable[..., ServerProcess]
MANY = 300


@pytest.fixture
def deep(serve: Serve) -> Iterator[Server]:
    """A server whose main has a lineage of `MANY` snapshots."""
    with serve("tests.simulations.walk:Walk").connect() as server:
        main = server.branch("main")
        for _ in range(MANY):
            main.step()
            main.snapshot()
        yield server


def test_a_snapshot_takes_one_descriptor_of_the_server(serve: Serve) -> None:
    with serve("tests.simulations.walk:Walk").connect() as server:
        main = server.branch("main")
        main.snapshot()
        before = server.stats().descriptors
        for _ in range(20):
            main.snapshot()
        # Measuring holds a file open for a moment; two a snapshot would be 40.
        assert abs(server.stats().descriptors - before - 20) <= 2


def test_many_snapshots_are_listed_in_pages_and_counted(deep: Server) -> None:
    found: list[NodeInfo] = []
    offset: int | None = 0
    while offset is not None:
        page = deep._run(
            Request("tree", None, {"offset": offset, "limit": 100}, lambda ok: convert(ok, TreeResult))
        )
        assert len(page.nodes) <= 100
        found += page.nodes
        offset = page.next
    assert [node.id for node in found] == [node.id for node in deep.tree()]
    stats = deep.stats()
    assert (stats.nodes, stats.snapshots, stats.branches, stats.dead) == (MANY + 2, MANY + 1, 1, 0)


def test_a_deep_lineage_comes_whole_page_by_page(deep: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(node: str | int) -> Request[list[NodeInfo]]:
        return Request("log", node, {"limit": 50}, lambda ok: convert(ok, LogResult).entries)

    monkeypatch.setattr(requests, "lineage", few)
    lineage = deep.branch("main").log()
    assert [node.step for node in lineage] == [0, *range(1, MANY + 1), MANY]
    assert all(above.id == below.parent for above, below in pairwise(lineage))


def test_a_deep_node_branches_and_steps_like_another(deep: Server) -> None:
    deepest = deep.branch("main").log()[-2]
    assert deep.node(deepest.id).branch().step().step == MANY + 1


def test_a_deep_lineage_is_dropped_in_one_request(deep: Server) -> None:
    first = deep.branch("main").log()[1]
    gone = deep.node(first.id).drop(recursive=True)
    assert len(gone) == MANY + 1
    assert gone[-1] == first.name
    assert [node.name for node in deep.tree()] == ["root"]
    assert deep.stats().descriptors < MANY
    with pytest.raises(NotFoundError):
        deep.node(first.id)


def test_the_middle_of_a_lineage_can_be_dropped(deep: Server) -> None:
    lineage = deep.branch("main").log()
    for node in lineage[1:-2]:
        deep.node(node.id).drop()
    assert [node.id for node in deep.branch("main").log()] == [lineage[0].id, lineage[-2].id, lineage[-1].id]


def test_a_server_without_descriptors_says_so_and_goes_on(serve: Serve) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit, of util-linux")
    with serve("tests.simulations.walk:Walk", prefix=("prlimit", "--nofile=64:64")).connect() as server:
        main = server.branch("main")
        taken = []

        def take_many() -> None:
            for _ in range(64):
                taken.append(main.snapshot())

        with pytest.raises(OverBudgetError, match="no descriptors are left"):
            take_many()
        assert main.step().step == 1
        taken.pop().drop()
        taken.pop().drop()
        assert main.snapshot().last.step == 1
        assert {node.state for node in server.tree()} == {"idle"}


def test_a_server_with_many_nodes_ends_with_all_of_them(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")
    with process.connect() as server:
        main: Branch = server.branch("main")
        for _ in range(MANY):
            main.snapshot()
        assert len(session_processes(process.pid)) == MANY + 2
    assert process.end() == 0
    assert_settles(lambda: session_processes(process.pid), [])


def tree_of(parents: Iterable[int | None]) -> Tree:
    return Tree(
        [],
        [
            NodeInfo(number, f"s{number}", "default", "snapshot", "idle", parent, 0, 0.0, [], False, 1)
            for number, parent in enumerate(parents, 1)
        ],
    )


def test_a_straight_history_is_drawn_straight_however_long_it_is() -> None:
    lines = str(tree_of(number or None for number in range(5000))).splitlines()
    assert lines == [f"● s{number} · step 0" for number in range(1, 5001)]


def test_the_drawing_of_a_tree_that_forks_ever_again_stays_narrow() -> None:
    forks = [parent for at in range(1, 2000, 2) for parent in (at, at)]
    both = list(range(2, 2002, 2))  # each of the others goes on as well
    tree = tree_of([None, *forks, *both])
    lines = str(tree).splitlines()
    assert sorted(line.split(" · ")[0].split()[-1] for line in lines) == sorted(node.name for node in tree)
    assert max(map(len, lines)) < MOST_INDENT + 30


def test_side_branches_are_twigs_of_a_line_that_goes_on_and_forks_are_indented() -> None:
    drawn = str(tree_of([None, 1, 1, 3, 3, 4, 5, 7])).splitlines()
    assert [line.removesuffix(" · step 0") for line in drawn] == [
        "● s1",
        "├─ ● s2",
        "● s3",
        "├─ ● s4",
        "│  ● s6",
        "└─ ● s5",
        "   ● s7",
        "   ● s8",
    ]
