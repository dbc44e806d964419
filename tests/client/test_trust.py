"""A client connects to no ipc socket that could be a stranger's, and says why."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from snapserv_client import aio, connect, trust
from snapserv_client.connection import connect_again
from snapserv_client.errors import UnreachableError, UntrustedError
from snapserv_client.trust import TRUSTED_VARIABLE, refuse_strangers

STRANGER = 65534


@pytest.fixture
def place(short_path: Path) -> Iterator[Path]:
    """A socket in a folder that is this user's alone."""
    folder = short_path / "own"
    folder.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s.sock"))
        listening.listen()
        yield folder / "s.sock"


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make a file somebody else's; only root can, so for others they themselves become somebody else."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
        else:
            monkeypatch.setattr(trust.os, "geteuid", lambda: STRANGER)

    return give


def test_ones_own_socket_is_trusted_and_one_that_is_missing_is_no_matter_of_trust(place: Path) -> None:
    refuse_strangers(f"ipc://{place}")
    refuse_strangers(f"ipc://{place}.missing")
    refuse_strangers("tcp://127.0.0.1:1")
    with pytest.raises(UnreachableError):
        connect(f"ipc://{place}.missing")


@pytest.mark.parametrize("which", ["folder", "socket"])
def test_a_folder_or_a_socket_of_somebody_elses_is_refused_before_a_word_is_said(
    place: Path, give_away: Callable[[Path], None], which: str
) -> None:
    give_away(place.parent if which == "folder" else place)
    with pytest.raises(UntrustedError, match="belongs to user") as caught:
        connect(f"ipc://{place}")
    assert TRUSTED_VARIABLE in caught.value.hint
    with pytest.raises(UntrustedError):
        asyncio.run(aio.connect(f"ipc://{place}"))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused_also_where_it_is_sticky(place: Path, mode: int) -> None:
    place.parent.chmod(mode)
    with pytest.raises(UntrustedError, match="others may write"):
        connect(f"ipc://{place}")


def test_a_link_of_somebody_elses_is_not_followed(place: Path, give_away: Callable[[Path], None]) -> None:
    link = place.parent.parent / "link"
    link.symlink_to(place.parent)
    refuse_strangers(f"ipc://{link}/s.sock")
    give_away(link)
    with pytest.raises(UntrustedError, match="the link" if os.geteuid() == 0 else "belongs"):
        refuse_strangers(f"ipc://{link}/s.sock")


def test_what_is_no_socket_is_refused(short_path: Path) -> None:
    (short_path / "s.sock").touch()
    with pytest.raises(UntrustedError, match="no socket"):
        connect(f"ipc://{short_path}/s.sock")


def test_users_that_are_named_are_trusted_as_well(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust.os, "geteuid", lambda: STRANGER)
    owner = place.stat().st_uid
    monkeypatch.setenv(TRUSTED_VARIABLE, f"1, {owner},nobody")
    assert trust.trusted_users() == {STRANGER, 0, 1, owner}
    refuse_strangers(f"ipc://{place}")


def test_a_connection_is_not_made_again_to_what_has_become_a_strangers(place: Path) -> None:
    place.parent.chmod(0o777)
    with pytest.raises(UntrustedError):
        connect_again(None, f"ipc://{place}")  # type: ignore[arg-type]
