"""Stores to write to, of each kind; a test leaves no descriptor and no thread behind."""

from __future__ import annotations

import gc
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapserv.store.writing import StoreWriter

from .object_store import ENVIRONMENT, Way, object_store

TIMEOUT_S = 3.0


@pytest.fixture(scope="session")
def _object_store() -> Iterator[int]:
    with object_store({**os.environ, **ENVIRONMENT}) as port:
        yield port


@pytest.fixture
def way(_object_store: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    """The way to an object store; it is what the environment names."""
    way = Way(_object_store)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{way.port}")
    yield way
    way.close()


@pytest.fixture
def in_bucket(way: Way) -> Callable[[], StoreWriter]:
    """Open a store in a bucket, under a prefix of its own."""
    url = f"s3://bucket/{uuid.uuid4().hex}"
    return lambda: StoreWriter(url, timeout_s=TIMEOUT_S)


@pytest.fixture(params=["folder", "bucket"])
def writer(request: pytest.FixtureRequest, tmp_path: Path) -> StoreWriter:
    """A new store, of each kind."""
    if request.param == "folder":
        return StoreWriter(tmp_path / "store")
    make: Callable[[], StoreWriter] = request.getfixturevalue("in_bucket")
    return make()


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    of_kind = getattr(request.node, "callspec", None)
    if "way" in request.fixturenames or (of_kind and of_kind.params.get("writer") == "bucket"):
        # obstore keeps connections open
        yield
        return
    descriptors, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors  # fewer, where obstore gives up a connection meanwhile
    assert threading.active_count() == threads
