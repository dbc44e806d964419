"""A store in a folder is its user's alone, and what is no store is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from snapserv_client.errors import (
    BadRequestError,
    NotFoundError,
    StoreUnavailableError,
    UnsupportedError,
    UntrustedError,
)
from snapserv_client.store import default_path, open_store

from snapserv.store.verifying import verify
from snapserv.store.writing import StoreWriter

from . import making
from .making import START

STRANGER = 12345


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a node called s1."""
    writer = StoreWriter(tmp_path / "store")
    with writer.saving() as saving:
        making.save(saving, making.tree_of(), "s1", making.some_pages(np.random.default_rng(1), 1))
    return tmp_path / "store"


def use(path: Path) -> None:
    store = open_store(path)
    store.read(store.node("s1"), START, 4096)


def test_all_of_it_is_for_its_user_alone(path: Path) -> None:
    use(path)
    for each in (path, *path.rglob("*")):
        assert each.stat().st_mode & 0o077 == 0, each


def one(path: Path, kind: str) -> Path:
    return next(each for each in (path / kind).rglob("*") if each.is_file())


PARTS: dict[str, Callable[[Path], Path]] = {
    "the folder": lambda path: path,
    "a folder in it": lambda path: path / "packs",
    "a folder below that": lambda path: one(path, "packs").parent,
    "the marker": lambda path: path / "snapserv-store",
    "a pack": lambda path: one(path, "packs"),
    "a node": lambda path: one(path, "nodes"),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["another user's", "open to its group", "open to all", "a link", "of another kind"])
def test_what_could_be_somebody_elses_is_refused(path: Path, part: str, how: str) -> None:
    which = PARTS[part](path)
    if how == "another user's":
        os.chown(which, STRANGER, STRANGER)
    elif how == "a link":
        which.rename(path.parent / "moved")
        which.symlink_to(path.parent / "moved")
    elif how == "of another kind":
        which.rename(path.parent / "moved")
        os.mkfifo(which) if part != "a pack" else which.mkdir()
    else:
        which.chmod(0o770 if how == "open to its group" else 0o702)
    with pytest.raises(UntrustedError) as raised:
        use(path)
    assert raised.value.details["path"] == str(which)
    with pytest.raises(UntrustedError):
        verify(open_store(path))


def test_a_folder_that_others_may_replace_is_refused(path: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(UntrustedError):
        use(path)
    tmp_path.chmod(0o1777)
    use(path)


def test_users_that_the_environment_names_are_trusted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in (path, *path.rglob("*")):
        os.chown(each, STRANGER, STRANGER)
    with pytest.raises(UntrustedError):
        use(path)
    monkeypatch.setenv("SNAPSERV_TRUSTED_UIDS", str(STRANGER))
    use(path)


def test_what_is_no_store_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_store(tmp_path / "nowhere")
    with pytest.raises(NotFoundError):
        open_store(tmp_path)
    with pytest.raises(NotFoundError):
        StoreWriter(tmp_path / "nowhere", create=False)
    (tmp_path / "thesis.txt").write_text("all my work")
    with pytest.raises(BadRequestError):
        StoreWriter(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(StoreUnavailableError):
        StoreWriter(tmp_path / "thesis.txt" / "store")
    with pytest.raises(BadRequestError):
        open_store("carrier-pigeon://bucket")


def test_a_store_is_made_once(tmp_path: Path) -> None:
    first, second = StoreWriter(tmp_path / "store"), StoreWriter(tmp_path / "store")
    assert first.store.marker == second.store.marker
    assert not first.blobs.put_new("snapserv-store", b"another")
    assert open_store(first.blobs.url).marker == first.store.marker


def test_a_store_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_path() == tmp_path / "data" / "snapserv" / "store"
    assert StoreWriter().blobs.url == str(default_path())
    monkeypatch.setenv("SNAPSERV_STORE", f"file://{tmp_path}/other")
    assert StoreWriter().blobs.url == str(tmp_path / "other")
    assert open_store().blobs.url == str(tmp_path / "other")


def test_what_is_not_installed_is_said(tmp_path: Path) -> None:
    import subprocess
    import sys

    for what, extra in (
        ("snapserv_client.store import open_store", "snapserv-client"),
        ("snapserv import store", "snapserv"),
    ):
        code = f"import sys; sys.modules['zstandard'] = None; from {what}"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert UnsupportedError.__name__ in ran.stderr
        assert f"pip install '{extra}[store]'" in ran.stderr
