"""A command loads what it needs and no more, and whatever lists commands knows all of them without loading any."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest
import snapserv_client
from snapserv_client import Server
from snapserv_client.cli.group import function_of

import snapserv
from snapserv.cli.contents import GROUPS, SNAPSERV, Group

from ..conftest import ROOT

COUNTED = """
import json, sys
before = set(sys.modules)
from snapserv.cli.app import run
status = run(sys.argv[1:])
print("\\n" + json.dumps([status, sorted(set(sys.modules) - before)]))
"""
HEAVY = {
    "numpy",
    "zmq",
    "rich",
    "msgspec",
    "msgpack",
    "structlog",
    "uvloop",
    "asyncio",
    "zarr",
    "matplotlib",
    "xxhash",
}


def loaded_by(*words: str) -> set[str]:
    """Return the modules that a command loads, besides those that this Python begins with."""
    command = [sys.executable, "-c", COUNTED, *words]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    status, modules = json.loads(ran.stdout.rstrip().rpartition("\n")[2])
    assert status == 0, ran.stderr
    return set(modules)


@pytest.mark.parametrize(
    ("words", "most"),
    [(["--version"], 130), (["--help"], 130), (["store", "--help"], 130), (["tree", "--help"], 160)],
)
def test_to_say_what_there_is_loads_little(words: list[str], most: int) -> None:
    modules = loaded_by(*words)
    assert len(modules) <= most
    assert not modules & (HEAVY - {"msgspec"} if words[0] == "tree" else HEAVY)


def test_a_short_command_loads_what_it_needs(server: Server) -> None:
    for words, spared in ((["tree", "--json"], {"rich"}), (["tree"], set())):
        modules = loaded_by(*words, "--endpoint", server.endpoint)
        assert len(modules) <= (250 if spared else 300)
        assert not modules & ((HEAVY - {"zmq", "msgspec", "msgpack", "rich"}) | spared)


@pytest.mark.parametrize("group", [SNAPSERV, *GROUPS.values()], ids=["snapserv", *GROUPS])
def test_the_list_of_commands_says_what_each_says_of_itself(group: Group) -> None:
    for module, names in group.contents.items():
        for name, said in names.items():
            if name not in GROUPS:
                documented = inspect.getdoc(function_of(module, name)) or ""
                assert documented.partition("\n\n")[0].replace("\n", " ") == said


@pytest.mark.parametrize("package", [snapserv, snapserv_client])
def test_what_a_package_loads_late_is_listed_and_there(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert set(names) <= set(dir(package))
    assert all(getattr(package, name) is not None for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # type: ignore[attr-defined]  # noqa: B018
