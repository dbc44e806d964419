"""Whoever has no key, or another one, is told that this server wants keys: by what ZeroMQ says to anybody."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from snapserv_client import aio, connect
from snapserv_client.errors import UnreachableError
from snapserv_client.keys import SERVER_KEY

from ..cli.conftest import typed
from ..conftest import ServerProcess
from .conftest import Keyed, forge

Serve = Callable[..., ServerProcess]


def test_a_client_without_keys_is_told_that_the_server_wants_some(keyed: Keyed) -> None:
    with pytest.raises(UnreachableError, match="this server wants keys, and none were given") as caught:
        connect(keyed.endpoint, timeout_s=0.5)
    assert "SNAPSERV_KEYS" in caught.value.hint
    assert "keys=FOLDER" in caught.value.hint
    assert "snapserv keygen client" in caught.value.hint
    with pytest.raises(UnreachableError, match="this server wants keys"):
        asyncio.run(aio.connect(keyed.endpoint, timeout_s=0.5))


def test_a_client_with_other_keys_is_told_that_these_are_not_taken(keyed: Keyed, tmp_path: Path) -> None:
    eve = forge(keyed, tmp_path)
    wrong = tmp_path / "wrong"
    shutil.copytree(keyed.folder("ana"), wrong)
    shutil.copyfile(eve.parents[1] / SERVER_KEY, wrong / SERVER_KEY)
    for folder in (eve, wrong):
        with pytest.raises(UnreachableError, match="wants keys, and does not take these") as caught:
            connect(keyed.endpoint, keys=folder, timeout_s=0.5)
        assert f"{folder}/server.key" in caught.value.hint


def test_a_client_with_keys_is_told_that_a_server_has_none(keyed: Keyed, serve: Serve) -> None:
    plain = serve("tests.simulations.walk:Walk")
    with pytest.raises(UnreachableError, match="keys were given") as caught:
        connect(plain.endpoint, keys=keyed.folder("ana"), timeout_s=0.5)
    assert caught.value.details["reason"] == "wants_no_keys"


def test_a_command_without_keys_is_told_at_once(keyed: Keyed) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SNAPSERV_KEYS"}
    began = time.monotonic()
    ran = typed("tree", "-e", keyed.endpoint, env=environment)
    assert ran.returncode == 3
    assert "this server wants keys" in ran.stderr
    assert "SNAPSERV_KEYS=FOLDER" in ran.stderr
    assert time.monotonic() - began < 10
    environment["SNAPSERV_KEYS"] = str(keyed.folder("ana"))
    assert typed("tree", "-e", keyed.endpoint, env=environment).returncode == 0
    assert keyed.log("request_refused") == []
