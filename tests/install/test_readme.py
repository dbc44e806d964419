"""Blocks of README and of two tutorials, typed in order where it is installed: none fails, what is shown is so."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ..conftest import ROOT, assert_settles, one_at_a_time
from .conftest import README, WITHIN_S, Installed

ELSEWHERE = ("make ", "pip install ")
"""What sets an environment up: `make` has one of its own, and that of these tests has been installed."""


@dataclass
class Command:
    """A line of a shell, and what README says that it prints."""

    line: str
    shown: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        """What it exits with: an error is shown by its code, and two nodes that differ are told as diff(1) does."""
        if self.line.startswith("snapserv diff "):
            return 1
        return 2 if self.shown and self.shown[0].startswith("bad_request ") else 0


TUTORIALS = ("command-line", "a-run-that-survives")


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield the language of each block, the line before it, and what is in it."""
    for before, language, text in re.findall(r"([^\n]*)\n\n```(\w+)\n(.*?)```", page, re.DOTALL):
        yield language, before, text


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif line:
            found[-1].shown.append(line)
    return found


def shape(lines: list[str]) -> list[str]:
    """Return lines without what is another's elsewhere: numbers, sizes, times, paths, and how wide a table is."""
    lines = [re.sub(r"just now|\d+ \w+ ago", "AGO", line) for line in lines]
    lines = [re.sub(r"\b[\d.,]*\d (B|KiB|MiB|GiB)\b", "SIZE", line) for line in lines]
    plain = (re.sub(r"(ipc://)?(/[\w.-]+)+", "PATH", line) for line in lines)
    plain = (re.sub(r"[\d.,]*\d", "N", line) for line in plain)
    return [re.sub(r"([━─])\1*|\s+", lambda run: run[0][0] if run[1] else " ", line).strip() for line in plain]


def type_into_bash(installed: Installed, home: Path, folder: Path, typed: list[Command]) -> None:
    script = "".join(f"{each.line}\nstatus=$?; echo; echo @ $status\n" for each in typed)
    settings = {**installed.settings(home), "COLUMNS": "200"}
    with subprocess.Popen(
        ["bash"], cwd=folder, env=settings, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as shell:  # fmt: skip
        said, _ = shell.communicate(script, WITHIN_S)
    parts = re.split(r"\n@ (\d+)\n", said)
    for each, printed, status in zip(typed, parts[::2], parts[1::2], strict=False):
        assert int(status) == each.status, (each.line, printed)
        lines = [line for line in printed.splitlines() if line]
        assert not each.shown or shape(lines) == shape(each.shown), each.line
    assert len(parts) == 2 * len(typed) + 1


def type_into_python(installed: Installed, home: Path, folder: Path, text: str, shown: str) -> None:
    ran = installed.run([installed.python, "-i", "-q"], home, cwd=folder, input=text + "\n")
    assert re.search(r"(?m)^(\w*Error|Traceback)|^\s*\^", ran.stderr) is None, ran.stderr
    assert ran.returncode == 0, ran.stderr
    assert "\n".join(shape(shown.splitlines())) in "\n".join(shape(ran.stdout.splitlines()))


def type_all(installed: Installed, home: Path, folder: Path, page: str) -> None:
    """Type a page's blocks in their order."""
    listed = list(blocks(page))
    assert len(listed) > 3
    for place, (language, before, text) in enumerate(listed):
        follows, _, shown = listed[place + 1] if place + 1 < len(listed) else ("", "", "")
        if language == "python":
            if saved := re.match(r"Save this as `(\S+)`", before):
                (folder / saved[1]).write_text(text)
            type_into_python(installed, home, folder, text, shown if follows == "text" else "")
        elif language == "console":
            typed = [each for each in commands(text) if not each.line.startswith(ELSEWHERE)]
            type_into_bash(installed, home, folder, typed)
    # Each server that it starts is ended: over TCP shutdown waits for none, which may be another machine's.
    assert_settles(lambda: list(home.glob("snapserv/*")), [])


@pytest.mark.parametrize("where", ["clone", "elsewhere"])
def test_its_blocks_run_in_their_order(installed: Installed, home: Path, tmp_path: Path, where: str) -> None:
    folder = {"clone": installed.clone, "elsewhere": tmp_path}[where]
    with one_at_a_time("readme"):  # there are ports in it
        type_all(installed, home, folder, README)


@pytest.mark.parametrize("name", TUTORIALS)
def test_what_a_tutorial_types_is_so(installed: Installed, home: Path, tmp_path: Path, name: str) -> None:
    with one_at_a_time("readme"):  # there are ports in one
        type_all(installed, home, tmp_path, (ROOT / "docs" / f"{name}.md").read_text())
