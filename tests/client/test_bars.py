"""How far a request has come is shown by a bar, in a terminal and in a notebook, or told to a function."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from snapserv_client import Server
from snapserv_client.errors import UnsupportedError

from ..conftest import ROOT
from ..notebooks import run_notebook

STEPPING = """
import sys
from snapserv_client import connect
with connect(sys.argv[1], timeout_s=10.0) as server:
    main = server.branch("main")
    print(main.step(100_000, progress=True).ticks)
    outcomes = main.expand([{}] * 5, steps=3, progress=True)
    print(len(outcomes))
"""
TOGETHER = """
import asyncio, sys
from snapserv_client import aio
async def main():
    async with await aio.connect(sys.argv[1], timeout_s=10.0) as server:
        branches = await (await server.branch("main")).branch(names=["one", "two"])
        await asyncio.gather(*(each.step(30_000, progress=True) for each in branches))
asyncio.run(main())
"""
MISSING = """
import sys
sys.modules["rich"] = None
from snapserv_client import connect
from snapserv_client.errors import UnsupportedError
with connect(sys.argv[1], timeout_s=10.0) as server:
    main = server.branch("main")
    try:
        main.step(5, progress=True)
    except UnsupportedError as error:
        print(error.hint, main.info().step)
"""


def in_a_terminal(code: str, endpoint: str) -> str:
    """Run a script in a terminal of its own; return what is on it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, endpoint],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while select.select([ours], [], [], 60.0)[0]:
        try:
            said += os.read(ours, 1 << 16)
        except OSError:
            break
    os.close(ours)
    assert process.wait(60.0) == 0, said.decode()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())


def test_a_terminal_shows_a_bar_that_moves(server: Server, endpoint: str) -> None:
    said = in_a_terminal(STEPPING, endpoint)
    done = [int(each.replace(",", "")) for each in re.findall(r"main .*?([\d,]+)/100,000", said)]
    assert done == sorted(done)
    assert len(set(done)) > 3
    assert done[-1] == 100_000
    assert "5/5" in said


def test_several_at_a_time_share_the_screen(server: Server, endpoint: str) -> None:
    said = in_a_terminal(TOGETHER, endpoint)
    assert re.search(r"one .*30,000/30,000", said)
    assert re.search(r"two .*30,000/30,000", said)


def test_where_there_is_no_terminal_stdout_is_left_alone(server: Server, endpoint: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEPPING, endpoint], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "100000\n5\n"
    assert "100,000/100,000" in done.stderr
    assert "\x1b" not in done.stderr


def test_without_rich_the_error_says_what_to_install_and_nothing_has_happened(
    server: Server, endpoint: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MISSING, endpoint], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "pip install 'snapserv-client[progress]', or pass a function as progress 0\n"
    assert UnsupportedError.code == "unsupported"


def test_a_function_is_told_of_children_and_of_ticks(server: Server) -> None:
    main = server.branch("main")
    heard: list[tuple[int, int]] = []
    main.expand([{}] * 3, progress=lambda *told: heard.append(told))
    assert heard == [(1, 3), (2, 3), (3, 3)]
    heard.clear()
    main.step(200_000, progress=lambda *told: heard.append(told))
    assert heard
    assert {total for _, total in heard} == {200_000}
    assert main.step(2, progress=False).ticks == 2


def test_a_notebook_shows_bars_and_tables(server: Server, endpoint: str, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    cells = (
        f"from snapserv_client import connect\nserver = connect({endpoint!r}, timeout_s=10.0)\n"
        "main = server.branch('main')",
        "main.step(50_000, progress=True)",
        "server.tree()",
        "with main.snapshot().branch() as tried:\n    tried.expand([{}] * 4, progress=True)",
        "server.close()",
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    run_notebook(book, ROOT, tmp_path)
    shown = [[each.get("data", {}).get("text/html", "") for each in cell.outputs] for cell in book.cells]
    assert "50,000/50,000" in shown[1][0], "the bar, as it was in the end"
    assert "<table>" in shown[1][1]
    assert "main" in shown[2][0]
    assert "4/4" in shown[3][0]
    assert "<script" not in str(shown)
    assert not any(output.output_type == "error" for cell in book.cells for output in cell.outputs)
