"""Servers that are killed and started again at one address, and what is left of their cells meanwhile."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from snapserv_client import Server
from snapserv_client.errors import NodeDiedError

from ..conftest import ServerProcess, assert_nothing_left, assert_settles, start_server

SUBREAPER = 36


class Phoenix:
    """A server that is killed and started again, at one address."""

    def __init__(
        self,
        folder: Path,
        *targets: str,
        params: dict[str, Any] | None,
        options: tuple[str, ...],
        prefix: tuple[str, ...],
    ) -> None:
        self.folder = folder
        self.targets = targets
        self.params = params
        self.options = options
        self.prefix = prefix
        self.pids: set[int] = set()
        self.process = self.rise()

    def rise(self, *more: str, **env: str) -> ServerProcess:
        options = (*self.options, "--orphan-grace", "20", *more)
        self.process = start_server(
            self.folder, *self.targets, params=self.params, options=options, prefix=self.prefix, **env
        )
        return self.process

    def kill(self) -> None:
        """Kill the server, and remember who is left."""
        self.pids |= {int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
                      .read_text().split()}  # fmt: skip
        self.process.end(signal.SIGKILL)

    def connect(self) -> Server:
        return self.process.connect()


@pytest.fixture
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Phoenix]]:
    """Start servers that may be killed; in the end they end as they should, and nothing is left."""
    assert ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0) == 0  # what is left of a killed server is ours to reap
    made: list[Phoenix] = []

    def start(
        target: str = "tests.simulations.walk:Walk",
        params: dict[str, Any] | None = None,
        options: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> Phoenix:
        where = folder or tmp_path_factory.mktemp("phoenix")
        made.append(Phoenix(where, target, params=params, options=options, prefix=prefix))
        return made[-1]

    yield start
    for each in made:
        assert each.process.end() in (0, -signal.SIGKILL), each.process.log.read_text()
        assert_settles(reaped, True)
        assert_nothing_left(each.process, each.folder)
        assert [pid for pid in each.pids if Path(f"/proc/{pid}").exists()] == []
    assert ctypes.CDLL(None).prctl(SUBREAPER, 0, 0, 0, 0) == 0


def reaped() -> bool:
    """Reap the cells of killed servers; return whether none is left."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            os.waitpid(-1, os.WNOHANG)
    own = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return not any("snap-" in comm(pid) for pid in own)


def comm(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


def zombie(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def hang(server: Phoenix) -> None:
    with server.connect() as mine, pytest.raises(NodeDiedError):
        mine.branch("main").step(1, hang=True)


@pytest.fixture
def open_to_nobody() -> Iterator[Path]:
    """A folder that an ordinary user can reach, as pytest's own cannot be."""
    with tempfile.TemporaryDirectory() as work:
        os.chown(work, 65534, 65534)
        yield Path(work)
