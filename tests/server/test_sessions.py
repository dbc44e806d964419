"""Replies that are remembered: for how long, how many, and whose are forgotten first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from snapserv.errors import BadRequestError
from snapserv.nodes.ledger import Ledger
from snapserv.server.sessions import MOST_CLIENTS, MOST_REPLIES, Sessions


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger.create()
    yield made
    made.close()


def test_replies_are_remembered_until_there_are_too_many_and_then_refused(ledger: Ledger) -> None:
    session = Sessions(ledger).of(b"one")
    for number in range(1, MOST_REPLIES + 11):
        session.remember(number, [b"x"])
    assert session.recall(MOST_REPLIES) == [b"x"]
    assert session.recall(MOST_REPLIES + 11) is None
    with pytest.raises(BadRequestError, match="too old"):
        session.recall(10)


def test_large_replies_make_room_sooner(ledger: Ledger) -> None:
    session = Sessions(ledger).of(b"one")
    for number in range(1, 6):
        session.remember(number, [bytes(8 << 20)])
    assert session.reply_bytes <= 16 << 20
    assert session.recall(5) is not None


def test_clients_that_were_silent_longest_are_forgotten_but_not_those_that_wait(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    sessions.of(b"waiting").running.add(1)
    for number in range(MOST_CLIENTS + 100):
        sessions.of(number.to_bytes(4, "big"))
    assert len(sessions) == MOST_CLIENTS
    assert sessions.of(b"waiting").running == {1}
