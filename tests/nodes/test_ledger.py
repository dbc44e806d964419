"""What a server writes down is there for whoever maps the ledger next, whole or not at all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapserv.nodes import ledger as ledgers
from snapserv.nodes.ledger import Ledger
from snapserv.server.sessions import MOST_LASTING_BYTES, Sessions


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger.create()
    yield made
    made.close()


def opened_again(ledger: Ledger) -> Ledger:
    """Return the ledger as the next server finds it."""
    return Ledger(os.dup(ledger.descriptor))


def entries(ledger: Ledger) -> dict[int, Any]:
    again = opened_again(ledger)
    try:
        return again.entries("node")
    finally:
        again.close()


def test_records_are_found_again_the_last_of_each_key(ledger: Ledger) -> None:
    ledger.put("node", 1, lambda: {"name": "a"})
    ledger.put("node", 2, lambda: {"name": "b"})
    ledger.put("node", 1, lambda: {"name": "c"})
    ledger.remove("node", 2)
    ledger.put("reply", (b"client", 7), lambda: [0, [b"x"]])
    assert entries(ledger) == {1: {"name": "c"}}
    again = opened_again(ledger)
    assert again.entries("reply") == {(b"client", 7): [0, [b"x"]]}
    again.close()


def test_a_record_that_was_not_finished_ends_the_ledger_and_the_next_ones_are_written_over_it(
    ledger: Ledger,
) -> None:
    ledger.put("node", 1, lambda: "whole")
    end = ledger._end
    ledger.put("node", 2, lambda: "x" * 1000)
    os.pwrite(ledger.descriptor, b"\xff", end + 500)
    again = opened_again(ledger)
    assert again.entries("node") == {1: "whole"}
    again.put("node", 3, lambda: "after")
    assert entries(again) == {1: "whole", 3: "after"}
    again.close()


def test_what_is_gathered_is_written_at_the_end_and_as_it_is_then(ledger: Ledger) -> None:
    state = {"name": "before"}
    with ledger.gathering():
        ledger.put("node", 1, lambda: dict(state))
        ledger.put("node", 2, lambda: None)
        assert entries(ledger) == {}
        state["name"] = "after"
        with ledger.at_once():
            ledger.put("node", 3, lambda: "at once")
        assert entries(ledger) == {3: "at once"}
    assert entries(ledger) == {1: {"name": "after"}, 3: "at once"}


def test_a_task_that_outlives_who_gathered_writes_by_itself(ledger: Ledger) -> None:
    async def late(done: asyncio.Event) -> None:
        await done.wait()
        ledger.put("node", 1, lambda: "late")

    async def run() -> None:
        done = asyncio.Event()
        with ledger.gathering():
            task = asyncio.create_task(late(done))
        done.set()
        await task

    asyncio.run(run())
    assert entries(ledger) == {1: "late"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.binary(max_size=3000)), max_size=200))
def test_a_ledger_that_is_written_anew_says_the_same(changes: list[tuple[int, bytes | None]]) -> None:
    before, ledgers.REWRITE_ABOVE_BYTES = ledgers.REWRITE_ABOVE_BYTES, 20_000
    ledger = Ledger.create()
    try:
        model: dict[int, bytes] = {}
        for key, value in changes:
            ledger.put("node", key, lambda value=value: value)  # type: ignore[misc]
            model[key] = value  # type: ignore[assignment]
        assert entries(ledger) == {key: value for key, value in model.items() if value is not None}
        assert os.fstat(ledger.descriptor).st_blocks * 512 < (1 << 20)
    finally:
        ledgers.REWRITE_ABOVE_BYTES = before
        ledger.close()


def test_nobody_that_holds_it_can_cut_it_off(ledger: Ledger) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(ledger.descriptor, 0)
    ledger.put("node", 1, lambda: {"name": "x" * (5 << 20)})
    assert entries(ledger) == {1: {"name": "x" * (5 << 20)}}, "and it grows"


def test_what_cannot_be_a_ledger_of_this_users_is_refused() -> None:
    unsealed = os.memfd_create(ledgers.NAME)
    with pytest.raises(PermissionError, match="not sealed"):
        Ledger(unsealed)
    os.close(unsealed)


def test_replies_outlive_the_server_but_for_large_ones_and_nothing_is_done_twice(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    session = sessions.of(b"one")
    for number in range(1, 300):
        sessions.remember(session, number, [b"reply %d" % number])
    sessions.remember(session, 300, [bytes(MOST_LASTING_BYTES + 1)])
    again = opened_again(ledger)
    restored = Sessions(again).of(b"one")
    assert restored.recall(299) == [b"reply 299"]
    assert restored.recall(301) is None
    with pytest.raises(Exception, match="too old"):
        restored.recall(1)
    with pytest.raises(Exception, match="was done"):
        restored.recall(300)
    again.close()
