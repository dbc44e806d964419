"""What a simulation says is printed as it is said: a terminal shows its escape sequences and does not obey them."""

from __future__ import annotations

import io
import json
import re

import pytest
import structlog
from rich.console import Group
from rich.text import Text
from rich.tree import Tree
from snapserv_client.cli.console import ShowingConsole, errors
from snapserv_client.cli.output import report, table

from snapserv.errors import SimulationError
from snapserv.server import logs

from .conftest import Terminal

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\rroot# \u202egnp"
STYLES = re.compile(r"\x1b\[[0-9;]*m")


def refuse_controls(printed: str) -> None:
    """Check that nothing but styles of our own is left for a terminal to obey."""
    left = STYLES.sub("", printed)
    assert not [character for character in left if not character.isprintable() and character != "\n"], repr(left)
    assert "owned" in left


def test_results_and_errors_show_what_a_terminal_would_obey(terminal: Terminal) -> None:
    assert terminal.type("call", "main", "echo", json.dumps(HOSTILE)) == 0
    refuse_controls(terminal.out)
    assert terminal.type("step", "main", "--input", f"{HOSTILE}=1") == 2
    refuse_controls(terminal.err)
    assert terminal.json("call", "main", "echo", json.dumps(HOSTILE)) == {"value": HOSTILE}


def test_tracebacks_and_hints_are_shown_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"traceback": f"Traceback\n  {HOSTILE}"}
    report(SimulationError(HOSTILE, hint=HOSTILE, details=told), as_json=False)
    refuse_controls(capsys.readouterr().err)


def test_tables_trees_and_styled_terminals_obey_our_styles_alone() -> None:
    stream = io.StringIO()
    console = ShowingConsole(file=stream, force_terminal=True, width=80)
    rows = table(HOSTILE, title=HOSTILE)
    rows.add_row(HOSTILE)
    tree = Tree(Text(HOSTILE, "bold"))
    tree.add(Text(HOSTILE))
    console.print(Group(rows, tree, Text.assemble((HOSTILE, "red"))))
    refuse_controls(stream.getvalue())
    assert "\x1b[1m" in stream.getvalue()
    assert isinstance(errors, ShowingConsole)


def test_a_line_of_the_log_is_one_line_and_shows_what_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(as_json=False)
    structlog.get_logger("test").warning("node_faulted", error=f"{HOSTILE}\nserving")
    printed = capsys.readouterr().err
    refuse_controls(printed)
    assert printed.count("\n") == 1
