"""The reference and the code say the same."""

from __future__ import annotations

import importlib.util
import json
import re
from types import ModuleType
from typing import Any

import msgspec
import pytest
from snapserv_client import errors, protocol, requests, wire

from snapserv.server.verbs.all import HANDLERS

from ..conftest import ROOT


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_protocol", ROOT / "docs" / "generate_protocol.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_what_the_code_generates(generator: ModuleType) -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    for name, text in generator.sections().items():
        assert generator.replace(page, name, text) == page, "run: python docs/generate_protocol.py --write"


def test_the_files_beside_the_page_are_what_the_code_generates(generator: ModuleType) -> None:
    for name, content in generator.files().items():
        assert (ROOT / "docs" / name).read_text() == content, "run: python docs/generate_protocol.py --write"


def test_every_bound_of_an_argument_is_in_the_description() -> None:
    told = json.loads((ROOT / "docs" / "protocol.json").read_text())
    assert [verb["name"] for verb in told["verbs"]] == list(protocol.VERBS)
    for verb in told["verbs"]:
        assert {verb["args"], verb["result"]} <= told["types"].keys()
    step = {field["name"]: field for field in told["types"]["StepArgs"]["fields"]}
    seconds, nil = step["timeout_s"]["type"]["of"]
    assert (seconds, nil) == ({"is": "float", "gt": 0, "le": protocol.MAX_SECONDS}, {"is": "nil"})
    assert step["ticks"]["type"] == {"is": "int", "ge": 1, "le": protocol.MAX_TICKS}
    (inputs, *_) = told["types"]["ExpandArgs"]["fields"]
    assert (inputs["type"]["min_length"], inputs["type"]["max_length"]) == (1, protocol.MAX_BRANCHES)
    assert told["types"]["StepArgs"]["closed"]
    assert not told["types"]["StepResult"]["closed"]


def test_the_bytes_of_the_examples_are_what_is_sent() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text()
    examples = re.findall(r"```\n(\{.*?\})\n\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 8
    for text, frames in examples:
        hexed = re.split(r"frame \d: ", frames)[1:]
        assert bytes.fromhex("".join(hexed[0].split())) == (b"created" if "sequence" in text else b"SS1")


def test_every_verb_has_a_handler_and_every_handler_a_verb() -> None:
    assert HANDLERS.keys() == protocol.VERBS.keys()


@pytest.mark.parametrize("verb", protocol.VERBS.values(), ids=lambda verb: verb.name)
def test_a_verb_is_declared_whole(verb: protocol.Verb) -> None:
    assert verb.args.__doc__
    assert verb.result.__doc__
    assert set(verb.errors) <= errors.ERRORS.keys()
    assert not (verb.reads and verb.once), "a verb that only reads has nothing to do at most once"
    assert set(protocol.COMMON_ERRORS) <= errors.ERRORS.keys()
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"no such argument": 1}, verb.args)


def test_codes_are_only_ever_added() -> None:
    """A code that was published stays, and keeps its class."""
    published = {
        "bad_request": "BadRequestError",
        "not_found": "NotFoundError",
        "name_taken": "NameTakenError",
        "frozen": "FrozenError",
        "busy": "BusyError",
        "node_died": "NodeDiedError",
        "simulation_error": "SimulationError",
        "threads_running": "ThreadsRunningError",
        "over_budget": "OverBudgetError",
        "interrupted": "StepInterruptedError",
        "unauthorized": "UnauthorizedError",
        "version_mismatch": "VersionMismatchError",
        "too_large": "TooLargeError",
        "internal": "InternalError",
        "unsupported": "UnsupportedError",
        "address_unavailable": "AddressError",
        "unreachable": "UnreachableError",
        "timeout": "RequestTimeoutError",
        "keys": "KeysError",
    }
    now: dict[str, Any] = {code: kind.__name__ for code, kind in errors.ERRORS.items()}
    assert published.items() <= now.items()


def test_what_a_later_version_adds_is_passed_over() -> None:
    """Keys, kinds of messages, kinds of events and codes may be added in this version of the protocol."""

    def parsed(**header: Any) -> requests.Reply:
        return requests.Reply.parse([wire.MAGIC, *wire.pack(header)])

    assert not parsed(id=1, rumour={"text": "almost done"}).final
    assert parsed(id=1, ok={}, rumour=3).final
    progress = parsed(id=1, progress={"done": 1, "total": 2, "guess": 3}).progress
    assert progress == protocol.Progress(1, 2)
    error = parsed(id=1, error={"code": "out_of_ink", "message": "?", "more": 1}).error
    assert type(error) is errors.SnapservError
    assert (error.code, error.details["code"]) == ("internal", "out_of_ink")
    event = {"sequence": 1, "kind": "shutdown", "time": 1.0, "client": "x"}
    assert requests.event_of([b"shutdown", *wire.pack(event)]) == protocol.Event(1, "shutdown", 1.0)
    assert requests.event_of([b"moved", *wire.pack({**event, "kind": "moved"})]) is None
    for nonsense in (3, {**event, "time": "?"}):
        with pytest.raises(errors.InternalError):
            requests.event_of([b"shutdown", *wire.pack(nonsense)])
    with pytest.raises(errors.InternalError):
        requests.event_of([b"shutdown"])
