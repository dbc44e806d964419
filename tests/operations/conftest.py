"""A server of trouble, and what is done elsewhere meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from snapserv_client import Branch, Server
from snapserv_client.errors import SimulationError, SnapservError

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture
def process(serve: Serve) -> ServerProcess:
    return serve("tests.simulations.trouble:Trouble")


@pytest.fixture
def trouble(process: ServerProcess) -> Iterator[Server]:
    with process.connect() as server:
        yield server


@contextmanager
def elsewhere(process: ServerProcess, work: Callable[[Server], object]) -> Iterator[list[SnapservError]]:
    """Do something on a connection of its own meanwhile; yield what it raises."""
    raised: list[SnapservError] = []

    def run() -> None:
        with process.connect() as own:
            try:
                work(own)
            except SnapservError as error:
                raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield raised
    thread.join(30)
    assert not thread.is_alive()


def fault(branch: Branch) -> None:
    with pytest.raises(SimulationError):
        branch.step(10, how="raise", at=4)
