"""The wall clock may jump: it is told to people, and nothing is decided by it."""

from __future__ import annotations

import ast
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from snapserv_client import Server
from snapserv_client.errors import RequestTimeoutError

from .conftest import ROOT, ServerProcess, assert_settles

Serve = Callable[..., ServerProcess]

WALL_CLOCKS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("time", "localtime"),
    ("time", "gmtime"),
    ("time", "ctime"),
    ("time", "strftime"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
}
TOLD = {
    ("snapserv/nodes/nodes.py", "make_branch"),  # NodeInfo.created
    ("snapserv/nodes/nodes.py", "_settle"),  # the same
    ("snapserv/nodes/faults.py", "note_fault"),  # ShowResult's moment of a fault
    ("snapserv/server/events.py", "publish"),  # Event.time
    ("snapserv/store/writing.py", "_found"),  # Marker.created
    ("snapserv/archiver/work.py", "_save"),  # Node.saved of a store
    ("snapserv/archiver/work.py", "_record"),  # the same
    ("snapserv/archiver/work.py", "_session"),  # Session.written
    ("snapserv/operations/sessions.py", "__init__"),  # Session.began
    ("clients/python/snapserv_client/web/session.py", "_look"),  # the times of curves on the page
}
"""Where a moment is noted for people. Nothing subtracts or waits for any of them; but see `ACROSS`."""
ACROSS = {
    ("clients/python/snapserv_client/display.py", "ago"),  # how long ago the server noted something
    ("snapserv/operations/loading.py", "_is_alive"),  # whether a server of another machine has written lately
    ("snapserv/machine/locked_folders.py", "set_aside"),  # how old a folder is: files have no other clock
}
"""Where moments that were noted on different machines are compared: they have no other clock in common."""


class Readings(ast.NodeVisitor):
    """Where a module reads the wall clock: by any of its names, also as one that is passed on."""

    def __init__(self) -> None:
        self.functions: list[str] = []
        self.found: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions.append(node.name)
        self.generic_visit(node)
        self.functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's names

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        if (name, node.attr) in WALL_CLOCKS:
            self.found.append(self.functions[-1] if self.functions else "")
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.found += ["an import" for each in node.names if (node.module, each.name) in WALL_CLOCKS]


def sources() -> Iterator[Path]:
    for folder in ("snapserv", "clients/python/snapserv_client"):
        # The doctor names these functions to find them in simulations; it calls none.
        doctor = ROOT / "snapserv" / "doctor" / "readings.py"
        yield from (path for path in (ROOT / folder).rglob("*.py") if path != doctor)


def test_the_wall_clock_is_read_only_where_a_moment_is_told() -> None:
    found = set()
    for path in sources():
        readings = Readings()
        readings.visit(ast.parse(path.read_text()))
        found |= {(str(path.relative_to(ROOT)), function) for function in readings.found}
    assert found == TOLD | ACROSS


def test_the_wall_clock_is_not_read_in_c() -> None:
    for path in (ROOT / "ext").rglob("*"):
        if path.suffix in (".c", ".h", ".pyx", ".pxd"):
            assert not re.search(r"CLOCK_REALTIME|gettimeofday|\btime\(NULL\)", path.read_text()), path


def automatic(client: Server) -> int:
    return sum(node.automatic for node in client.tree().nodes)


JUMPING = """
import itertools, time
real, days = time.time, itertools.cycle((0, 3650, -3650, 1, -1))
time.time = lambda: real() + 86_400 * next(days)
"""


def test_a_clock_that_jumps_changes_no_time_limit_and_no_interval(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the server and in all cells each look at the clock is years from the one before."""
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    server = serve("tests.simulations.trouble:Trouble", PYTHONPATH=str(tmp_path))
    with server.connect() as client:
        main = client.branch("main")
        created = [main.snapshot().info().created for _ in range(5)]
        assert max(created) - min(created) > 3650 * 86_400, "the clock does jump"
        with pytest.raises(RequestTimeoutError, match="ran for too long"):
            main.step(10**12, atomic=True, timeout_s=0.5)
        main.autosnap(every_s=2.0, keep=4)
        main.step()
        assert automatic(client) == 0, "not yet, though years have gone by"
        assert_settles(lambda: main.step() and automatic(client), 1)
        assert 0 < client.stats().uptime_s < 3600
        assert main.step(3, atomic=True, timeout_s=60.0).ticks == 3
    assert server.end(signal.SIGTERM) == 0
