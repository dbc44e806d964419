"""Files that are open while a node is branched: databases, mappings, and that they stay as many."""

from __future__ import annotations

from pathlib import Path

import pytest
from snapserv_client import Server
from snapserv_client.errors import SimulationError

from snapserv.folders.store import MOST_LAYERS

from .conftest import layers_of, wait_for_removals


def test_a_database_opened_in_a_later_generation_can_be_written_in_all_that_follow(
    ledger: Server, tmp_path: Path
) -> None:
    """SQLite refuses to write where the file's inode number is no longer that of the file that it opened.

    A snapshot's own layers are merged and removed while its process still has files of theirs open.
    """
    main = ledger.branch("main")
    main.step(1)
    main.snapshot()
    main.call("open_late")
    branch = main
    for _ in range(2 * MOST_LAYERS + 10):
        branch.step(1)
        snapshot = branch.snapshot()
        wait_for_removals(tmp_path / "temporary")
        (following,) = snapshot.branch(1)
        branch.drop()
        snapshot.drop()
        branch = following
    branch.step(1)


def test_a_shared_mapping_is_refused_by_name_and_nothing_is_left_of_the_attempt(
    ledger: Server, tmp_path: Path
) -> None:
    main = ledger.branch("main")
    main.call("map_shared")
    layers = layers_of(tmp_path / "temporary")
    with pytest.raises(SimulationError, match=r"game/mapped is mapped.*journal_mode"):
        main.snapshot()
    assert layers_of(tmp_path / "temporary") == layers
    main.call("unmap")
    main.snapshot()


def test_open_files_stay_as_many_over_generations(ledger: Server) -> None:
    main = ledger.branch("main")
    main.step(1)
    counts = []
    for _ in range(5):
        snapshot = main.snapshot()
        (branch,) = snapshot.branch(1)
        counts.append((main.call("descriptors"), branch.call("descriptors")))
        main.restore(snapshot)
    assert len(set(counts)) == 1
