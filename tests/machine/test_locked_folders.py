"""Folders that are removed when nobody has them locked, and never under somebody who has just come."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from snapserv.machine import locked_folders
from snapserv.nodes.stacks import TEMPORARY, Stores


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    monkeypatch.setattr("snapserv.nodes.stacks.bases", lambda: [str(tmp_path)])
    return Stores()


def abandoned(stores: Stores, files: int = 0) -> str:
    """Make a folder as a server that was killed leaves it."""
    path, held = locked_folders.make_shared(stores.name(TEMPORARY))
    for number in range(files):
        Path(f"{path}/{number}").write_text("x")
    os.close(held)
    return path


def test_the_name_of_what_is_swept_is_free_at_once(stores: Stores) -> None:
    """A tree that comes out of a store has its temporary files where they were: at the path that is being swept."""
    path = abandoned(stores, files=2000)
    stores.sweep()
    held = locked_folders.share_or_make(path)
    assert os.listdir(path) == [locked_folders.LOCK]
    stores.close()
    assert os.listdir(path) == [locked_folders.LOCK]
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]
    os.close(held)


def test_what_one_server_removes_stays_where_another_has_come_to_share_it(stores: Stores) -> None:
    path = abandoned(stores, files=3)
    held = locked_folders.share_or_make(path)
    stores.remove([path])
    stores.close()
    assert len(os.listdir(path)) == 4
    os.close(held)
    after = Stores()
    after.remove([path])
    after.close()
    assert not os.path.exists(os.path.dirname(path))


def test_a_lock_is_waited_for_that_somebody_only_looks_at(stores: Stores) -> None:
    path = abandoned(stores)
    with open(f"{path}/{locked_folders.LOCK}") as looking:
        fcntl.flock(looking, fcntl.LOCK_EX)
        alone = locked_folders.share_or_make(path)  # whose it is for itself, keeps it
    os.close(alone)
    held = locked_folders.share_or_make(path)
    assert locked_folders.set_aside(path) is None
    os.close(held)
    aside = locked_folders.set_aside(path)
    assert aside is not None
    assert locked_folders.set_aside(aside) not in (None, aside), "what a killed server was removing is swept again"
