"""Of what others have left where a server looks for its own, nothing is taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snapserv.cell.link import LEDGER_DESCRIPTOR
from snapserv.cell.scoreboard import SIZE_BYTES
from snapserv.nodes import ledger as ledgers
from snapserv.nodes.ledger import Ledger
from snapserv.recovery import adoption
from snapserv.recovery.adoption import find_survivors

from ..conftest import start_server

STRANGER = 65534


@contextmanager
def holder(*, user: int | None, sealed: bool) -> Iterator[str]:
    """Run a process that holds what looks like a ledger as cells do, and yield what it is called."""
    told, tell = os.pipe()
    waits, held = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(held)
        if user is not None:
            os.setgid(user)
            os.setuid(user)
        if sealed:
            made = Ledger.create().descriptor
        else:
            made = os.memfd_create(f"{ledgers.NAME}-0123456789abcdef")
            os.ftruncate(made, SIZE_BYTES + 4096)
        keep = os.dup2(tell, 200)
        until = os.dup2(waits, 201)
        os.dup2(made, LEDGER_DESCRIPTOR)
        os.write(keep, os.readlink(f"/proc/self/fd/{LEDGER_DESCRIPTOR}").encode())
        os.read(until, 1)
        os._exit(0)
    os.close(tell)
    os.close(waits)
    try:
        yield os.read(told, 256).decode()
    finally:
        os.close(held)
        os.close(told)
        os.waitpid(pid, 0)


def taken(path: Path, **options: bool) -> bool:
    """Return whether a server that starts here takes up what the note beside it names."""
    survivors = find_survivors(path, fresh=False, **options)
    survivors.ledger.close()
    return bool(survivors.orphans)


def test_what_this_user_has_left_is_taken_up(tmp_path: Path) -> None:
    with holder(user=None, sealed=True) as name:
        (tmp_path / "s.sock.ledger").write_text(name)
        assert taken(tmp_path / "s.sock.adopt")


def test_a_ledger_that_could_be_cut_off_beneath_the_server_is_not_taken(tmp_path: Path) -> None:
    with holder(user=None, sealed=False) as name:
        (tmp_path / "s.sock.ledger").write_text(name)
        assert not taken(tmp_path / "s.sock.adopt")


def test_another_users_ledger_is_not_taken_also_where_it_is_sealed(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    with holder(user=STRANGER, sealed=True) as name:
        (tmp_path / "s.sock.ledger").write_text(name)
        assert not taken(tmp_path / "s.sock.adopt")


def test_another_users_note_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "s.sock.ledger"
    with holder(user=None, sealed=True) as name:
        note.write_text(name)
        if os.geteuid() == 0:
            os.chown(note, STRANGER, STRANGER)
        else:
            monkeypatch.setattr(adoption.os, "geteuid", lambda: STRANGER)
        assert not taken(tmp_path / "s.sock.adopt")


def test_a_note_that_is_a_link_is_neither_read_nor_written_through(tmp_path: Path) -> None:
    note, victim = tmp_path / "s.sock.ledger", tmp_path / "victim"
    with holder(user=None, sealed=True) as name:
        victim.write_text(name)
        note.symlink_to(victim)
        assert not taken(tmp_path / "s.sock.adopt")
        (tmp_path / "s.sock.note").symlink_to(victim)
        adoption._write(note, "mine")
        assert victim.read_text() == name
        assert note.read_text() == "mine"
        assert not note.is_symlink()


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_server_does_not_start_in_a_folder_that_others_may_write_to(short_path: Path, mode: int) -> None:
    folder = short_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(AssertionError, match="address_unavailable") as caught:
        start_server(folder, "tests.simulations.walk:Walk")
    assert "could be anybody's" in str(caught.value)
