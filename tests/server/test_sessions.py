"""Replies that are remembered: for how long, how many, and whose are forgotten first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from snapserv.errors import BadRequestError, TooLargeError
from snapserv.nodes.ledger import Ledger
from snapserv.server.sessions import MOST_CLIENTS, MOST_LASTING_BYTES, MOST_REPLIES, MOST_REPLY_BYTES, Sessions


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger.create()
    yield made
    made.close()


MIB = 1 << 20


def tell(sessions: Sessions, client: bytes, request_id: int, size: int = 1) -> None:
    """Do what the server does of a request that changes something: it runs, and its reply is remembered."""
    session = sessions.of(client)
    sessions.begin(session, request_id)
    sessions.remember(session, request_id, [bytes(size)])
    sessions.end(session, request_id)


def test_replies_are_remembered_until_there_are_too_many_and_then_refused(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    for number in range(1, MOST_REPLIES + 11):
        tell(sessions, b"one", number)
    session = sessions.of(b"one")
    assert session.recall(MOST_REPLIES) == [bytes(1)]
    assert session.recall(MOST_REPLIES + 11) is None
    with pytest.raises(BadRequestError, match="too old"):
        session.recall(10)


def test_large_replies_make_room_sooner(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    for number in range(1, 6):
        tell(sessions, b"one", number, 8 * MIB)
    assert sessions.reply_bytes == sessions.of(b"one").reply_bytes == MOST_REPLY_BYTES
    assert sessions.of(b"one").recall(5) is not None


def test_all_clients_together_have_one_bound_and_what_the_silent_were_told_goes_first(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    for number in range(8):
        tell(sessions, b"%d" % number, 1, 4 * MIB)
        tell(sessions, b"loud", 2 + number)
        assert sessions.reply_bytes <= MOST_REPLY_BYTES
    assert sessions.of(b"loud").recall(2) == [bytes(1)]
    assert sessions.of(b"7").recall(1) == [bytes(4 * MIB)]
    for successor in (sessions, Sessions(ledger)):
        with pytest.raises(TooLargeError, match="was done"):
            successor.of(b"0").recall(1)
        assert successor.of(b"0").recall(2) is None


def test_a_reply_larger_than_all_that_may_be_kept_is_refused_on_a_retry_and_pushes_nobody_out(
    ledger: Ledger,
) -> None:
    sessions = Sessions(ledger)
    tell(sessions, b"small", 1)
    tell(sessions, b"large", 1, MOST_REPLY_BYTES + 1)
    with pytest.raises(TooLargeError, match="was done"):
        sessions.of(b"large").recall(1)
    assert sessions.of(b"small").recall(1) == [bytes(1)]
    assert sessions.reply_bytes == 1


def test_what_is_forgotten_is_never_done_again_by_the_next_server_either(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    for number in range(1, 11):
        tell(sessions, b"one", number, MIB)
    tell(sessions, b"other", 1, 15 * MIB)
    for successor in (sessions, Sessions(ledger)):
        for number in range(1, 11):
            with pytest.raises((BadRequestError, TooLargeError)):
                successor.of(b"one").recall(number)
        assert successor.of(b"one").recall(11) is None


def test_what_a_larger_memory_has_left_is_cut_to_the_bound(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(ledger)
    for number in range(20):
        tell(sessions, b"%d" % number, 1, MIB // 2)
    monkeypatch.setattr("snapserv.server.sessions.MOST_REPLY_BYTES", 2 * MIB)
    successor = Sessions(ledger)
    assert successor.reply_bytes <= 2 * MIB
    assert successor.of(b"19").recall(1) == [bytes(MIB // 2)]


def test_clients_that_were_silent_longest_are_forgotten_but_not_those_that_wait(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    sessions.begin(sessions.of(b"waiting"), 1)
    for number in range(MOST_CLIENTS + 100):
        tell(sessions, number.to_bytes(4, "big"), 1)
    assert len(sessions) == MOST_CLIENTS
    assert sessions.of(b"waiting").running == {1}
    assert sessions.of(bytes(4)).recall(1) is None


def test_what_went_before_a_reply_is_kept_with_it_and_counts(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    session = sessions.of(b"one")
    sessions.begin(session, 1)
    sessions.remember(session, 1, [b"reply"], [[b"first", b"part"], [b"second"]])
    sessions.end(session, 1)
    for each in (sessions, Sessions(ledger)):
        assert each.of(b"one").recall(1) == [b"reply"]
        assert each.of(b"one").streamed == {1: [[b"first", b"part"], [b"second"]]}
        assert each.reply_bytes == each.of(b"one").reply_bytes == 20
    tell(sessions, b"other", 1, MOST_REPLY_BYTES)
    assert sessions.reply_bytes == MOST_REPLY_BYTES
    for each in (sessions, Sessions(ledger)):
        assert not each.of(b"one").streamed
        with pytest.raises(TooLargeError, match="was done") as told:
            each.of(b"one").recall(1)
        assert told.value.details == {"completed": True, "most_bytes": MOST_REPLY_BYTES}


def test_a_reply_goes_with_what_went_before_it_where_both_are_too_much(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    for number, before in ((1, MOST_REPLY_BYTES), (2, MOST_LASTING_BYTES)):
        session = sessions.of(b"one")
        sessions.begin(session, number)
        sessions.remember(session, number, [b"reply"], [[bytes(before)]])
        sessions.end(session, number)
    with pytest.raises(TooLargeError):
        sessions.of(b"one").recall(1)
    assert sessions.of(b"one").recall(2) == [b"reply"]
    with pytest.raises(TooLargeError):
        Sessions(ledger).of(b"one").recall(2)


def test_of_a_client_that_only_looks_there_is_nothing_to_remember(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    session = sessions.of(b"reader")
    sessions.begin(session, 1)
    assert len(sessions) == 1
    sessions.end(session, 1)
    assert len(sessions) == 0
