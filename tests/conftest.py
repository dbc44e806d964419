"""Fixtures: real servers in processes of their own, and the check that nothing is left behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from snapserv_client import Server, connect
from snapserv_client.errors import NotFoundError

ROOT = Path(__file__).resolve().parents[1]
START_WITHIN_S = 60.0
END_WITHIN_S = 20.0


class ServerProcess:
    """A server that the tests started."""

    def __init__(self, process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.endpoint = endpoint
        self.log = log

    def connect(self, **options: Any) -> Server:
        """Return a new client."""
        return connect(self.endpoint, timeout_s=10.0, **options)

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(END_WITHIN_S)


def start_server(
    folder: Path,
    *targets: str,
    params: dict[str, Any] | None = None,
    prefix: tuple[str, ...] = (),
    options: tuple[str, ...] = (),
    **env: str,
) -> ServerProcess:
    """Start ``snapserv serve`` and wait until it answers; raise AssertionError with its log where it does not."""
    ready, told = os.pipe()
    endpoint = f"ipc://{folder}/s.sock"
    log = folder / "server.log"
    command = [*prefix, sys.executable, "-m", "snapserv", "serve", *targets, "--endpoint", endpoint]
    if "--orphan-grace" not in options:
        options = (*options, "--orphan-grace", "0")  # most tests want nobody to wait for another server
    command += ["--ready-fd", str(told), "--log-json", *options]
    for name, value in (params or {}).items():
        command += ["--param", f"{name}={json.dumps(value)}"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, pass_fds=[told], cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **env}
        )
    os.close(told)
    with os.fdopen(ready) as answer:
        readable, _, _ = select.select([answer], [], [], START_WITHIN_S)
        line = answer.readline() if readable else ""
    if not line or "error" in (outcome := json.loads(line)):
        process.kill()
        process.wait()
        raise AssertionError(f"the server did not start: {line}\n{log.read_text()}")
    return ServerProcess(process, outcome["endpoint"], log)


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers; at the end each must exit with 0 and leave no process, socket or file behind."""
    started: list[tuple[ServerProcess, Path]] = []

    def start(*targets: str, **options: Any) -> ServerProcess:
        folder = tmp_path_factory.mktemp("serve")
        server = start_server(folder, *targets, **options)
        started.append((server, folder))
        return server

    yield start
    for server, folder in started:
        status = server.end()
        assert status in (0, -signal.SIGKILL), server.log.read_text()
        assert_nothing_left(server, folder)


@pytest.fixture(scope="session")
def _walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("walk")
    server = start_server(folder, "tests.simulations.walk:Walk")
    with server.connect() as client:
        # pyzmq opens what it needs to send without copying when it first does: once, so not in a test.
        client.branch("main").call("echo", np.zeros(1 << 20))
    yield server
    assert server.end() == 0, server.log.read_text()
    assert_nothing_left(server, folder)


@pytest.fixture
def endpoint(_walk: ServerProcess) -> str:
    """The address of a server of `tests.simulations.walk.Walk`, shared by the tests of a worker."""
    return _walk.endpoint


@pytest.fixture
def server(_walk: ServerProcess) -> Iterator[Server]:
    """A client of the shared server, whose tree is as it was at first: main, reset, and nothing else."""
    with _walk.connect() as client:
        clear(client)
        client.branch("main").reset()
        before = statistics(_walk.pid)
        yield client
        clear(client)
        client.branch("main").reset()
        assert_nothing_more(_walk.pid, before)


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    """Forget how a test had this process's log set up: the stream that it wrote to is closed with the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a Unix socket, as pytest's own may not."""
    with tempfile.TemporaryDirectory(prefix="snapserv-") as folder:
        yield Path(folder)


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Keep tests in other processes, which use what there is only one of, out of the way."""
    with (Path(tempfile.gettempdir()) / f"snapserv-tests-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def as_nobody() -> tuple[str, ...]:
    """Return what to put before a command to run it as an ordinary user, who may run this interpreter."""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    base = Path(sys.base_prefix).resolve()
    closed = [folder for folder in reversed(base.parents) if not folder.stat().st_mode & 0o001]
    if not closed:
        return nobody
    # It lies where only its owner may look. In a mount namespace of its own, nothing else is to be seen there.
    commands = (
        f"mount --bind {base} /mnt && mount -t tmpfs -o mode=755 none {closed[0]} && mkdir -p {base}",
        f"mount --move /mnt {base}",
        'exec "$0" "$@"',
    )
    return ("unshare", "--mount", "sh", "-c", " && ".join(commands), *nobody)


def clear(client: Server) -> None:
    """Drop all but root and main."""
    client.branch("main").autosnap(off=True)
    for node in reversed(client.tree().nodes):
        if node.name.rpartition("/")[2] in ("root", "main"):
            continue
        with contextlib.suppress(NotFoundError):  # an automatic snapshot goes by itself
            found = client.node(node.name)
            if node.pinned:
                found.pin(False)
            found.drop(force=True)


def statistics(pid: int) -> dict[str, int]:
    """Return what a process holds: descriptors, threads that are not worker threads, children."""
    children = [
        child
        for task in os.listdir(f"/proc/{pid}/task")
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    ]
    return {"descriptors": len(os.listdir(f"/proc/{pid}/fd")), "children": len(children)}


def assert_settles(measure: Callable[[], Any], wanted: Any, *, within_s: float = 10.0) -> None:
    """Wait until ``measure()`` gives ``wanted``; fail with what it gave last."""
    import time

    deadline = time.monotonic() + within_s
    while (measured := measure()) != wanted:
        assert time.monotonic() < deadline, f"{measured} is not {wanted}"
        select.select([], [], [], 0.01)


def assert_nothing_more(pid: int, before: dict[str, int], *, within_s: float = 10.0) -> None:
    """Wait until a process holds no more than ``before``, when it may have had a file open or a client leaving."""

    def more() -> dict[str, int]:
        return {what: max(now, before[what]) for what, now in statistics(pid).items()}

    assert_settles(more, before, within_s=within_s)


def session_processes(pid: int) -> list[int]:
    """Return the processes whose command line or parent says that they belong to the server ``pid``."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(entry))
    return found


def assert_nothing_left(server: ServerProcess, folder: Path) -> None:
    """Assert that a server that ended left no process, no socket and no lock."""
    assert session_processes(server.pid) == []
    assert sorted(path.name for path in folder.iterdir() if path.name != "server.log") == []
