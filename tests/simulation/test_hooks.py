"""What an author may do when a branch is made, frozen and ended; and which random streams a seed reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from snapserv_client import Branch, Server
from snapserv_client.errors import SimulationError

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def hooked(serve: Serve, journal: Path) -> Iterator[Server]:
    with serve("tests.simulations.branching:Hooked", params={"journal": str(journal)}).connect() as server:
        yield server


def taken(journal: Path) -> list[str]:
    """Return what was written down since the last time."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    journal.unlink(missing_ok=True)
    return lines


def test_each_hook_is_called_once_in_the_process_that_it_is_about(hooked: Server, journal: Path) -> None:
    main = hooked.branch("main")
    pid = main.info().pid
    assert taken(journal) == [f"branch {pid}"]
    snapshot = main.snapshot()
    assert taken(journal) == [f"snapshot {pid}"]
    first, second = snapshot.branch(2)
    assert taken(journal) == [f"branch {first.info().pid}", f"branch {second.info().pid}"]
    gone = first.info().pid
    first.drop()
    assert taken(journal) == [f"drop {gone}"]
    gone = second.info().pid
    second.restore(snapshot)
    assert taken(journal) == [f"branch {second.info().pid}", f"drop {gone}"]
    snapshot.drop()
    assert taken(journal) == [], "a snapshot runs no Python"
    outcomes = main.expand([{}, {}])
    assert all(outcome.ok for outcome in outcomes)
    kinds = sorted(line.split()[0] for line in taken(journal))
    assert kinds == ["branch", "branch", "drop", "drop", "snapshot"]


@pytest.mark.parametrize("what", ["snapshot", "branch"])
def test_a_hook_that_raises_is_the_requests_error_and_nothing_is_made(
    serve: Serve, journal: Path, what: str
) -> None:
    with serve("tests.simulations.branching:Hooked", params={"journal": str(journal)}).connect() as server:
        tree = server.create(params={"journal": str(journal)}, name="t")
        tree.write("value", 1.0)
        nodes = len(server.tree().nodes)
        if what == "branch":
            with pytest.raises(SimulationError, match=what):
                server.create(params={"journal": str(journal), "fail": what}, name="u")
            return
        other = server.create(params={"journal": str(journal), "fail": what}, name="u")
        with pytest.raises(SimulationError, match="on_snapshot raised ValueError: snapshot"):
            other.snapshot()
        assert len(server.tree().nodes) == nodes + 2
        assert other.step().step == 1


@pytest.mark.parametrize("fail", ["drop", "drop hangs"])
def test_a_goodbye_that_fails_or_takes_too_long_ends_the_branch_all_the_same(
    serve: Serve, journal: Path, fail: str
) -> None:
    with serve(
        "tests.simulations.branching:Hooked", params={"journal": str(journal), "fail": fail}
    ).connect() as server:
        branch = server.branch("main").branch()
        branch.drop()
        assert branch.id not in {node.id for node in server.tree().nodes}


def test_a_seed_reaches_every_random_stream_and_without_one_none_changes(hooked: Server) -> None:
    main = hooked.branch("main")
    before = main.snapshot()
    expected = main.step().outputs
    same, other = before.branch(2)
    assert same.step().outputs == other.step().outputs == expected
    for rng in ("split", 7):
        found = before.branch(rng=rng).step().outputs  # type: ignore[call-overload]
        assert all(found[name] != expected[name] for name in expected), rng
    assert before.branch(rng=7).step().outputs == before.branch(rng=7).step().outputs


def test_a_stream_whose_module_is_imported_in_a_branch_is_the_branchs(serve: Serve) -> None:
    def drawn(branches: Sequence[Branch]) -> set[tuple[float, ...]]:
        return {tuple(branch.step().outputs["drawn"] for _ in range(3)) for branch in branches}

    with serve("tests.simulations.chance:Late").connect() as server:
        root = server.snapshot("root")
        same = drawn(root.branch(3))
        assert len(same) == 1
        assert len(drawn(root.branch(3, rng="split"))) == 3
        seeded = drawn(root.branch(2, rng=7))
        assert len(seeded) == 1
        assert seeded != same
        assert len({repr(outcome.outputs) for outcome in root.expand([{}] * 6)}) == 1
        assert len({repr(outcome.outputs) for outcome in root.expand([{}] * 6, rng="split")}) == 6
        main = server.branch("main")
        main.mark()
        first = main.step().outputs
        main.rewind()
        assert main.step().outputs == first
        assert main.verify().ok
