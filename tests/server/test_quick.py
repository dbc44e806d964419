"""Steps the short way: whoever asks, interrupts, retries or is refused sees what he would see of all others."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from snapserv_client import Branch, Server, SnapservError, requests
from snapserv_client.errors import (
    BadRequestError,
    FaultedError,
    NodeDiedError,
    SimulationError,
    StepInterruptedError,
)
from snapserv_client.protocol import StepAction

from ..conftest import ServerProcess, assert_settles
from .test_server import Raw

Serve = Callable[..., ServerProcess]
LONG = 10**9


@pytest.fixture(params=["", "off"], ids=["short", "as all others"])
def process(request: pytest.FixtureRequest, serve: Serve) -> ServerProcess:
    return serve("tests.simulations.trouble:Trouble", options=("--verbose",), SNAPSERV_QUICK=request.param)


@pytest.fixture
def client(process: ServerProcess) -> Iterator[Server]:
    with process.connect() as client:
        yield client


@pytest.fixture
def main(client: Server) -> Branch:
    return client.branch("main")


def step(ticks: int = 1, **inputs: Any) -> requests.Request[Any]:
    return requests.step("main", ticks, inputs, progress=False)


def test_a_step_that_raises_faults_its_branch_and_nobody_else(client: Server, main: Branch) -> None:
    other = main.branch(name="other")
    main.step(2)
    with pytest.raises(SimulationError) as caught:
        main.step(5, how="raise", at=4)
    assert caught.value.details["step"] == 3
    assert caught.value.details["ticks"] == 1
    assert main.info().state == "faulted"
    with pytest.raises(FaultedError):
        main.step()
    assert other.step().step == 1
    main.clear()
    assert main.step().step == 4


def test_inputs_that_do_not_fit_are_refused_and_change_nothing(main: Branch) -> None:
    for wrong in ({"unknown": 1}, {"at": "soon"}):
        with pytest.raises(BadRequestError):
            main.step(**wrong)
    assert main.info().state == "idle"
    assert main.step().step == 1


def test_a_process_that_ends_in_a_step_is_told_of_and_its_branch_is_restored(client: Server, main: Branch) -> None:
    with pytest.raises(NodeDiedError) as caught:
        main.step(3, how="kill", at=2)
    assert caught.value.details["step"] == 1
    assert main.info().state == "dead"
    with pytest.raises(NodeDiedError):
        main.step()
    main.reset()
    assert main.step().step == 1


def test_an_error_is_remembered_with_the_fault_that_it_left(process: ServerProcess, client: Server) -> None:
    raw = Raw(process.endpoint)
    first = raw.ask(step(how="raise", at=1))
    again = raw.ask(step(how="raise", at=1), first.id)
    assert first.error is not None
    assert again.error is not None
    assert first.error.code == again.error.code == "simulation_error"
    assert client.branch("main").info().state == "faulted"
    raw.close()


def test_a_step_is_interrupted_by_its_own_client_and_by_any_other(process: ServerProcess, main: Branch) -> None:
    raw = Raw(process.endpoint)
    for interrupt in (
        lambda asked: raw.send(requests.interrupt("main", request=asked)),
        lambda asked: main.interrupt(),
    ):
        asked = raw.send(step(LONG))
        assert_settles(lambda: main.info().state, "busy")
        interrupt(asked)
        while (reply := raw.receive()).id != asked:
            pass
        assert reply.error is not None
        assert reply.error.code == "interrupted"
    assert main.info().state == "idle"  # between two ticks nothing is half done
    assert not main.interrupt()
    raw.close()


def test_a_retry_of_a_step_that_runs_is_ignored_and_it_runs_once(process: ServerProcess, main: Branch) -> None:
    raw = Raw(process.endpoint)
    asked = raw.send(step(LONG))
    raw.send(step(LONG), asked)
    assert_settles(lambda: main.info().state, "busy")
    main.interrupt()
    assert raw.receive().id == asked
    then = raw.ask(requests.ping(), asked + 1)
    assert then.id == asked + 1
    raw.close()


def test_many_clients_at_one_branch_have_their_steps_in_order_each(process: ServerProcess, main: Branch) -> None:
    raws = [Raw(process.endpoint) for _ in range(3)]
    sent = [[raw.send(step()) for _ in range(20)] for raw in raws]
    seen: list[int] = []
    for raw, ids in zip(raws, sent, strict=True):
        replies = [raw.receive() for _ in ids]
        assert [reply.id for reply in replies] == ids
        steps = [reply.ok["step"] for reply in replies]
        assert steps == sorted(steps)
        seen += steps
        raw.close()
    assert sorted(seen) == list(range(1, 61))
    assert main.info().step == 60


def test_what_waits_for_a_step_goes_on_when_that_is_done_or_has_failed(
    process: ServerProcess, main: Branch
) -> None:
    raw = Raw(process.endpoint)
    sent = [raw.send(step()), raw.send(requests.read("main", "count", None)), raw.send(step(how="raise", at=2))]
    sent += [raw.send(requests.read("main", "count", None)), raw.send(step())]
    replies = [raw.receive() for _ in sent]
    assert [reply.id for reply in replies] == sent
    assert [reply.error.code if reply.error else None for reply in replies] == [
        None, None, "simulation_error", None, "faulted",
    ]  # fmt: skip
    assert int(replies[1].ok["value"]) == int(replies[3].ok["value"]) == 1
    raw.close()


def test_a_server_that_ends_tells_whoever_waits_for_a_step(process: ServerProcess, main: Branch) -> None:
    told: list[SnapservError] = []

    def wait() -> None:
        with process.connect() as other:
            try:
                other.branch("main").step(LONG)
            except SnapservError as error:
                told.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert_settles(lambda: main.info().state, "busy")
    assert process.end() == 0
    waiting.join(20)
    assert [type(error) for error in told] == [StepInterruptedError]
    assert told[0].details["step"] >= 0


def test_steps_are_counted_and_have_their_lines_in_the_log(process: ServerProcess, main: Branch) -> None:
    for _ in range(3):
        main.step(2)
    with pytest.raises(SimulationError):
        main.step(how="raise", at=7)
    with process.connect() as client:
        stats = client.stats()
    (counted,) = (verb for verb in stats.verbs if verb.verb == "step")
    assert (counted.count, counted.errors) == (4, 1)
    assert stats.steps == 6
    assert stats.in_flight == 1  # the request for these numbers
    time.sleep(0.2)
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    of_steps = [line for line in lines if line["event"] == "request" and line.get("verb") == "step"]
    assert [line["code"] for line in of_steps] == ["ok"] * 3 + ["simulation_error"]
    assert {line["node"] for line in of_steps} == {"main"}
    assert all(line["client"] and line["request"] for line in of_steps)
    others = [line for line in lines if line["event"] == "node_faulted"]
    assert all(line["request"] == of_steps[-1]["request"] for line in others)


def test_the_history_has_each_step_also_where_nothing_follows(main: Branch) -> None:
    main.step(2)
    main.step(2)
    main.step(at=5)
    actions = main.actions()
    assert [(each.ticks, each.repeat) for each in actions if isinstance(each, StepAction)] == [(2, 2), (1, 1)]
    assert list(main.snapshot().branch().actions()) == list(actions)
