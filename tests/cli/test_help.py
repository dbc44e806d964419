"""Help: commands in sections, `-h` as well as `--help`, and examples that do what they say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from snapserv_client.cli.group import LazyGroup

from snapserv.cli.app import app, run
from snapserv.cli.contents import GROUPS, SNAPSERV, Group

from ..conftest import ServerProcess
from .conftest import Terminal

Serve = Callable[..., ServerProcess]
LASTING = ("serve", "demo", "watch", "top", "web", "lab", "doctor", "keygen", "shutdown", "cluster")
NOT_RUN = {(), *((name,) for name in LASTING)}
"""Commands whose examples are held against their parsers alone: they serve, go on for ever, or take their time."""
LAST = [("store", "rm"), ("drop",)]
"""Commands whose examples are run after all others, which need what these remove."""
STATUS = {"diff": {0, 1}}


def commands(
    group: LazyGroup = app, before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command, those of groups and groups themselves, with the words that it is called by."""
    yield before, group
    for name, command in group.commands.items():
        if isinstance(command, LazyGroup):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


def examples(command: click.Command) -> list[list[str]]:
    """Return the examples in a command's help, without the program's own name."""
    lines = command.about.examples if isinstance(command, LazyGroup) else command.examples
    assert all(line.startswith("snapserv ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


ALL = dict(commands())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_the_short_name_of_help_says_the_same_and_has_examples(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    long = capsys.readouterr().out
    assert run([*words, "-h"]) == 0
    assert capsys.readouterr().out == long
    assert "Examples:\n  snapserv " in long


@pytest.mark.parametrize("group", [SNAPSERV, *GROUPS.values()], ids=["snapserv", *GROUPS])
def test_every_command_is_in_one_section_of_the_help(group: Group) -> None:
    listed = [name for names in group.sections.values() for name in names]
    assert sorted(listed) == sorted(name for names in group.contents.values() for name in names)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_an_example_is_what_the_commands_parser_takes(words: tuple[str, ...]) -> None:
    assert examples(ALL[words])
    for typed in examples(ALL[words]):
        command, rest = ALL[()], typed
        while isinstance(command, LazyGroup):
            command, rest = command.commands[rest[0]], rest[1:]
        with command.make_context(command.name, rest):
            pass


def test_examples_do_what_they_say(
    serve: Serve, alone: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "runs"
    options = ("--param", "rows=64", "--param", "cols=64", "--store", str(store))
    endpoint = serve("snapserv.examples.wildfire:Wildfire", *options).endpoint
    monkeypatch.setenv("SNAPSERV_ENDPOINT", endpoint)
    monkeypatch.setenv("SNAPSERV_STORE", str(store))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    first = examples(ALL[()])[1:]
    for typed in first:
        assert alone.type(*typed) == 0, alone.err
    in_order = sorted(ALL, key=lambda words: words in LAST)
    for typed in [each for words in in_order if words[:1] not in NOT_RUN for each in examples(ALL[words])]:
        if typed not in first:
            shown = [re.sub("^(/backup)?(/data)?/runs", rf"{tmp_path}\1/runs", word) for word in typed]
            assert alone.type(*shown) in STATUS.get(typed[0], {0}), (typed, alone.out, alone.err)
