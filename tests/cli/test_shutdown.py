"""`shutdown`: nothing that is not saved is gone without a word."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from snapserv_client.errors import UnsavedError

from ..conftest import END_WITHIN_S, ROOT, ServerProcess
from .conftest import SNAPSERV, Terminal

Serve = Callable[..., ServerProcess]
WALK = "tests.simulations.walk:Walk"


def ends(process: ServerProcess) -> None:
    assert process.process.wait(END_WITHIN_S) == 0


@pytest.mark.parametrize("made", ["step", "write", "snapshot", "branch"])
def test_it_refuses_where_something_would_be_gone_and_says_what(serve: Serve, alone: Terminal, made: str) -> None:
    process = serve(WALK)
    with process.connect() as server:
        main = server.branch("main")
        match made:
            case "step":
                main.step(3)
            case "write":
                main.write("position", 1.0)
            case "snapshot":
                main.snapshot("moment", message="worth it")
            case _:
                server.snapshot("root").branch(name="other").step()
    error = alone.json("shutdown", "-e", process.endpoint, status=2)["error"]
    assert error["code"] == "unsaved"
    name = {"snapshot": "moment", "branch": "other"}.get(made, "main")
    (lost,) = error["details"]["lost"]
    assert (lost["name"], error["details"]["count"]) == (name, 1)
    assert f"{name} at step {lost['step']}" in error["message"]
    assert "--yes" in error["hint"]
    assert alone.type("status", "-e", process.endpoint) == 0
    assert alone.json("shutdown", "--yes", "-e", process.endpoint) == {"shutdown": process.endpoint}
    ends(process)


def test_what_setup_gives_again_is_not_lost(serve: Serve, alone: Terminal) -> None:
    process = serve(WALK)
    with process.connect() as server:
        server.create(name="wide")
        server.branch("main").step()
        server.branch("main").reset()
        server.snapshot("root").branch(3)
    assert alone.json("shutdown", "-e", process.endpoint)
    ends(process)


def test_what_is_saved_as_the_server_ends_is_not_lost_and_what_is_not_is_told(
    serve: Serve, alone: Terminal, tmp_path: Path
) -> None:
    process = serve(WALK, options=("--store", str(tmp_path)))
    with process.connect() as server:
        main = server.branch("main")
        main.step(3)
        main.snapshot("named")
        unnamed = main.snapshot()
        main.step(2)
        with pytest.raises(UnsavedError, match=f"gone: {unnamed.name} at step 3"):
            server.shutdown(force=False)
        unnamed.save()
    assert alone.json("shutdown", "-e", process.endpoint)
    ends(process)


def test_where_nothing_is_saved_by_itself_a_branch_that_has_gone_on_is_lost(
    serve: Serve, alone: Terminal, tmp_path: Path
) -> None:
    process = serve(WALK, options=("--store", str(tmp_path), "--durable", "none"))
    with process.connect() as server:
        main = server.branch("main")
        main.step(3)
        main.save("three")
        main.step()
        with pytest.raises(UnsavedError, match="gone: main at step 4"):
            server.shutdown(force=False)
        main.restore("three")
    assert alone.json("shutdown", "-e", process.endpoint)
    ends(process)


def test_it_asks_at_a_terminal(serve: Serve) -> None:
    process = serve(WALK)
    with process.connect() as server:
        server.branch("main").step(3)
    for answer, status in (("n", 2), ("y", 0)):
        keyboard, theirs = pty.openpty()
        try:
            os.write(keyboard, f"{answer}\n".encode())
            ran = subprocess.run(
                [*SNAPSERV, "shutdown", "-e", process.endpoint],
                cwd=ROOT,
                stdin=theirs,
                capture_output=True,
                text=True,
                timeout=END_WITHIN_S,
                check=False,
            )
        finally:
            os.close(keyboard)
            os.close(theirs)
        assert ran.returncode == status, ran.stderr
        assert "main at step 3" in ran.stderr
        assert "End the server all the same?" in ran.stderr
    ends(process)
