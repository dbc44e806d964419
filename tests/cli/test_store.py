"""Snapshots that last, from the command line: at servers, and in stores without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snapserv.cli.app import run

from ..conftest import ServerProcess, assert_settles
from .conftest import Terminal, typed

Serve = Callable[..., ServerProcess]
WALK = "tests.simulations.walk:Walk"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the store is that the environment names."""
    place = tmp_path / "store"
    monkeypatch.setenv("SNAPSERV_STORE", str(place))
    return place


@pytest.fixture
def typing(
    serve: Serve, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """A terminal at a server with a store: ``s1`` at step 2 with a tag, ``s2`` at 5; none is saved."""
    server = serve(WALK, options=("--store", "default", "--durable", "none"))
    monkeypatch.setenv("SNAPSERV_ENDPOINT", server.endpoint)
    terminal = Terminal(capsys)
    terminal.json("step", "main", "2")
    terminal.json("snapshot", "main", "s1", "-m", "the first one\nof two")
    terminal.json("tag", "s1", "golden")
    terminal.json("step", "main", "3")
    terminal.json("snapshot", "main", "s2")
    terminal.json("step", "main")
    return terminal


def test_a_snapshot_is_saved_listed_loaded_elsewhere_and_goes_on(
    typing: Terminal, serve: Serve, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = typing.json("save", "s1")
    assert (told["store"], [each["name"] for each in told["saved"]]) == (str(store), ["s1"])
    assert typing.json("save", "s1")["saved"][0]["new"] is False
    assert typing.json("save", "main", "--as", "six")["node"]["step"] == 6
    every = typing.json("save", "s1", "--all")["saved"]
    assert {each["name"] for each in every} == {"root", "s1", "s2", "six"}
    assert typing.type("save", "s1", "--all") == 0
    assert "was saved before" in typing.out
    assert [each["here"] for each in typing.json("stored")] == ["root", "s1", "s2", "six"]
    assert typing.type("stored") == 0
    assert "default/six" in typing.out
    assert [each["message"] for each in typing.json("stored")] == ["", "the first one\nof two", "", ""]
    assert typing.type("tree") == 0
    assert "● s1 · step 2 · #golden · durable" in typing.out

    typing.json("step", "main", "4")
    wanted = typing.json("read", "main", "position")["values"]
    other = serve(WALK, options=("--store", str(store), "--durable", "none"))
    monkeypatch.setenv("SNAPSERV_ENDPOINT", other.endpoint)
    assert typing.json("load", "six", "--as", "there")["state"] == "stored"
    assert typing.json("load", "golden", status=0)["name"] == "there/s1"
    assert typing.type("load", "six") == 0
    assert "there/six · step 6" in typing.out
    typing.json("branch", "there/six", "again")
    typing.json("step", "there/again", "4")
    assert typing.json("read", "there/again", "position")["values"] == wanted
    assert typing.json("load", "six", "--as", "elsewhere", status=2)["error"]["code"] == "name_taken"
    assert typing.json("load", "nothing", status=2)["error"]["code"] == "not_found"
    assert len(typing.json("tree", "there")["nodes"]) == 4, "root, s1, six and the branch"
    typing.json("load", "s2", "--tree")
    assert len(typing.json("tree", "there")["nodes"]) == 5


def test_a_server_without_a_store_says_so_and_a_store_of_none_is_refused(terminal: Terminal) -> None:
    for words in (("save", "s"), ("load", "s"), ("stored",)):
        assert terminal.json(*words, status=4)["error"]["hint"] == "serve with --store"
    for option in (("--durable", "all"), ("--store-rate", "5MiB"), ("--go-on",), ("--replay",)):
        refused = terminal.json("serve", WALK, *option, status=2)["error"]
        assert refused["hint"] == "name a --store"


def test_what_cannot_be_saved_is_named_and_the_exit_code_says_so(
    serve: Serve, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "piping.py").write_text(PIPING)
    options = ("--store", str(store), "--durable", "none", "--allow", "pipes")
    server = serve(f"{tmp_path}/piping.py:Piping", options=options)
    monkeypatch.setenv("SNAPSERV_ENDPOINT", server.endpoint)
    terminal = Terminal(capsys)
    terminal.json("snapshot", "main", "fine")
    terminal.json("step", "main")
    terminal.json("snapshot", "main", "piping")
    error = terminal.json("save", "piping", status=1)["error"]
    assert (error["code"], error["details"]["held"][0]["why"]) == ("not_portable", "open_pipe")
    saved = {each["name"]: each["error"] for each in terminal.json("save", "fine", "--all", status=1)["saved"]}
    assert saved == {"fine": "", "root": "", "piping": "not_portable"}
    assert terminal.type("save", "fine", "--all") == 1
    assert "not_portable:" in terminal.out
    assert terminal.type("save", "piping", "--replay") == 0
    assert " replay" in terminal.out
    assert terminal.type("stored") == 0
    assert " image " in terminal.out
    assert " replay " in terminal.out
    assert {each["name"]: each["replay"] for each in terminal.json("stored")} == {
        "fine": False,
        "root": False,
        "piping": True,
    }
    assert terminal.type("tree") == 0
    assert "piping · step 1 · durable by replay" in terminal.out
    terminal.json("shutdown", "--yes")

    assert terminal.type("store", "ls", str(store)) == 0
    assert "piping · step 1 · replay" in terminal.out
    assert terminal.type("store", "show", "piping") == 0
    assert "its recording alone" in terminal.out
    assert "1 ticks" in terminal.out
    assert terminal.json("store", "show", "piping")["differs"]["code"] == "not_portable"
    assert terminal.json("store", "read", "piping", "count", status=1)["error"]["code"] == "not_portable"
    other = serve(WALK, options=("--store", str(store)))
    monkeypatch.setenv("SNAPSERV_ENDPOINT", other.endpoint)
    error = terminal.json("load", "piping", "--as", "old", status=1)["error"]
    assert (error["code"], "--replay" in error["hint"]) == ("not_portable", True)
    assert terminal.json("load", "piping", "--as", "old", "--replay")["name"] == "old/piping"
    assert terminal.json("read", "old/piping", "count")["values"] == 1


PIPING = """
import os
from snapserv import Field, Simulation


class Piping(Simulation):
    count = Field("i8")

    def step(self, inputs):
        self.count += 1
        self.pipe = os.pipe()
"""


@pytest.fixture
def left(typing: Terminal, store: Path) -> Iterator[Terminal]:
    """A terminal whose server has saved all and has ended: root, s1 and s2 are in the store, and nothing runs."""
    typing.json("save", "s1", "--all")
    typing.position = typing.json("read", "s2", "position")["values"]  # type: ignore[attr-defined]
    typing.json("shutdown", "--yes")
    return typing


def test_a_store_is_listed_shown_and_read_without_a_server(left: Terminal, store: Path, tmp_path: Path) -> None:
    (tree,) = left.json("store", "ls")["trees"]
    assert [(node["name"], node["step"]) for node in tree["nodes"]] == [("root", 0), ("s1", 2), ("s2", 5)]
    assert left.json("store", "ls", str(store)) == left.json("store", "ls", "--store", str(store))
    assert left.type("store", "ls") == 0
    assert '\n● s1 · step 2 · #golden · "the first one" · ' in left.out
    assert "\n● s2 · step 5" in left.out
    shown = left.json("store", "show", "golden")
    assert shown["message"] == "the first one\nof two"
    assert (shown["lineage"], shown["tree"]["simulation"], shown["differs"]) == (["root", "s1"], "Walk", None)
    assert left.type("store", "show", "default/s1") == 0
    assert "root → s1" in left.out
    assert "can be brought back" in left.out
    assert left.json("store", "read", "s2", "position")["values"] == left.position  # type: ignore[attr-defined]
    part = left.json("store", "read", "s2", "position", "--region", "2:4")
    assert part["values"] == left.position[2:4]  # type: ignore[attr-defined]
    file = tmp_path / "position.npy"
    assert left.type("store", "read", "s2", "position", "--npy", str(file)) == 0
    assert np.load(file).tolist() == left.position  # type: ignore[attr-defined]
    assert left.json("store", "read", "s2", "place", status=2)["error"]["code"] == "not_found"
    assert (
        left.json("store", "read", "s2", "position", "--region", "0,0,0,0", status=2)["error"]["code"]
        == "bad_request"
    )
    assert left.json("store", "show", "s9", status=2)["error"]["code"] == "not_found"


def test_a_store_is_verified_measured_and_collected(left: Terminal, store: Path) -> None:
    assert left.json("store", "verify")["damage"] == []
    used = left.json("store", "du")
    assert [node["name"] for node in used["trees"][0]["nodes"]] == ["root", "s1", "s2"]
    assert used["unnamed"] == 0
    assert left.json("store", "rm", "root", status=2)["error"]["code"] == "bad_request"
    assert left.json("store", "rm", "s1")["removed"][0]["name"] == "s1"
    assert left.json("store", "show", "s2")["lineage"] == ["root", "s2"]
    would = left.json("store", "gc", "--dry-run")
    assert (would["removed"], would["size"] > 0) == (left.json("store", "gc")["removed"], True)
    for words in (("du",), ("verify",), ("gc",), ("gc", "--dry-run"), ("rm", "root", "s2"), ("ls",)):
        assert left.type("store", *words) == 0, left.err
        assert left.out.strip()
        assert left.err == ""
    assert left.json("store", "verify")["nodes"] == 0


def test_nodes_are_copied_to_another_store_and_back(
    left: Terminal, store: Path, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    copied = left.json("store", "push", "s1", str(other))
    assert copied["nodes"] == 2, "its root comes along, without which it could not be loaded"
    assert left.json("store", "push", "--all", str(other))["nodes"] == 3
    assert left.json("store", "push", "--all", str(other))["objects"] == 0
    assert left.type("store", "verify", "--store", str(other)) == 0
    third = tmp_path / "third"
    assert left.type("store", "pull", "s2", str(other), "--store", str(third)) == 0
    assert left.json("store", "show", "s2", "--store", str(third))["lineage"] == ["root", "s2"]
    for words in (("push", str(other)), ("pull", str(other)), ("push", "--all", "s1", str(other))):
        assert left.json("store", *words, status=2)["error"]["message"] == "which nodes?"
    assert left.json("store", "pull", "s1", str(tmp_path / "none"), status=2)["error"]["code"] == "not_found"
    server = serve(WALK, options=("--store", str(third), "--durable", "none"))
    monkeypatch.setenv("SNAPSERV_ENDPOINT", server.endpoint)
    left.json("load", "s2", "--as", "there")
    assert left.json("read", "there/s2", "position")["values"] == left.position  # type: ignore[attr-defined]


def test_damage_is_found_and_named_and_the_rest_is_listed(left: Terminal, store: Path) -> None:
    uid = left.json("store", "show", "s2")["uid"]
    (head,) = store.glob(f"nodes/*/{uid}")
    content = head.read_bytes()
    head.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    listed = left.json("store", "ls", status=4)
    assert [node["name"] for node in listed["trees"][0]["nodes"]] == ["root", "s1"]
    assert [error["code"] for error in listed["damaged"]] == ["store_damaged"]
    assert left.type("store", "ls") == 4
    assert "store_damaged" in left.err
    assert [each["key"] for each in left.json("store", "verify", status=4)["damage"]] == [
        f"nodes/{head.parent.name}/{uid}"
    ]
    assert left.type("store", "verify") == 4
    assert uid in "".join(left.out.split())
    assert left.json("store", "gc", status=4)["error"]["code"] == "store_damaged"


def test_where_there_is_no_store_every_command_says_so(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ("ls",),
        ("show", "s"),
        ("read", "s", "f"),
        ("verify",),
        ("gc",),
        ("du",),
        ("rm", "s"),
        ("push", "s", "x"),
    ):
        capsys.readouterr()
        assert run(["store", *words, "--json"]) == 2
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert told["error"]["code"] == "not_found", words
    assert not store.exists(), "looking makes none"


def test_two_servers_go_on_each_with_its_own(
    serve: Serve, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One has also loaded a tree of the other's, under another name; the younger one still runs."""
    terminal = Terminal(capsys)
    older, younger = (serve(WALK, options=("--store", str(store))) for _ in range(2))
    terminal.json("step", "main", "3", "-e", older.endpoint)
    terminal.json("save", "main", "--as", "three", "-e", older.endpoint)
    terminal.json("load", "three", "--as", "there", "-e", younger.endpoint)
    terminal.json("shutdown", "-e", older.endpoint)
    older.end()
    again = serve(options=("--store", str(store), "--endpoint", older.endpoint))
    assert terminal.json("spec", "-e", again.endpoint)["simulation"] == "Walk"
    assert {tree["name"] for tree in terminal.json("tree", "-e", again.endpoint)["trees"]} == {"default"}
    assert terminal.json("read", "main", "count", "-e", again.endpoint)["values"] == 3
    younger.end()
    third = serve(options=("--store", str(store), "--endpoint", younger.endpoint))
    assert {tree["name"] for tree in terminal.json("tree", "-e", third.endpoint)["trees"]} == {"default", "there"}
    assert terminal.json("read", "there/three", "count", "-e", third.endpoint)["values"] == 3
    assert [again.end(), third.end()] == [0, 0], "their sockets are in the folders of those before them"


def test_a_service_begins_once_and_goes_on_from_then_on(
    serve: Serve, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    terminal = Terminal(capsys)
    options = ("--store", str(store), "--go-on")
    first = serve(WALK, options=options)
    monkeypatch.setenv("SNAPSERV_ENDPOINT", first.endpoint)
    terminal.json("step", "main", "3")
    assert first.end() == 0
    again = serve(WALK, options=(*options, "--endpoint", first.endpoint))
    assert terminal.json("read", "main", "count")["values"] == 3
    assert terminal.json("create", "another")["tree"] == "another", "what it was told to serve is served"
    assert again.end() == 0
    nothing = typed("serve", "--store", str(tmp_path / "none"), "--endpoint", f"ipc://{tmp_path}/s.sock", "--json")
    assert (nothing.returncode, json.loads(nothing.stdout)["error"]["code"]) == (2, "not_found")


def test_what_is_removed_beneath_a_server_keeps_nothing_else_from_being_saved(
    serve: Serve, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(WALK, options=("--store", str(store)))
    monkeypatch.setenv("SNAPSERV_ENDPOINT", server.endpoint)
    terminal = Terminal(capsys)

    def lasting() -> set[str]:
        return {node["name"] for node in terminal.json("tree")["nodes"] if node["durable"]}

    for name in ("one", "two"):
        terminal.json("step", "main")
        terminal.json("snapshot", "main", name)
    assert_settles(lasting, {"root", "one", "two"})
    terminal.json("store", "rm", "one", "two")
    terminal.json("store", "gc")
    terminal.json("drop", "one")  # which would be removed from the store now, and is not there
    terminal.json("step", "main")
    terminal.json("snapshot", "main", "three")  # whose pages two has, as the server thinks
    assert_settles(lambda: "three" in lasting(), True)
    assert terminal.json("store", "verify")["damage"] == []
    assert terminal.json("store", "read", "three", "count")["values"] == 3
