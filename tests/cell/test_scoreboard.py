"""The scoreboard: numbers that cells write and the server reads without asking."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from snapserv.nodes.ledger import Ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger.create()
    yield made
    made.close()


def test_a_scoreboard_is_seen_by_a_forked_process_and_reuses_its_places(ledger: Ledger) -> None:
    board = ledger.scoreboard
    first, second = board.take(5), board.take(6)
    assert first is not None
    assert second is not None
    pid = os.fork()
    if pid == 0:
        board[first] = 77
        os._exit(0)
    os.waitpid(pid, 0)
    assert (board[first], board[second]) == (77, 6)
    board.give_back(first)
    assert board.take(1) == first
