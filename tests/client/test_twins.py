"""The two clients are one, written once: the synchronous one is generated, and offers what the asyncio one does."""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib.util
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from snapserv_client import aio, sync
from snapserv_client.errors import UnreachableError

from ..conftest import ROOT

CLIENTS = ROOT / "clients" / "python"
MOST_LINES = 450

ON_PURPOSE = {
    "Server.watch": "only who cannot be cancelled needs a timeout",
    "Server.__del__": "a synchronous server can still be closed when it is forgotten",
    "Server.__enter__": "with",
    "Server.__exit__": "with",
    "Server.__aenter__": "async with",
    "Branch.__enter__": "with",
    "Branch.__exit__": "with",
    "Branch.__aenter__": "async with",
    "Branch.__aexit__": "async with",
    "Server.__aexit__": "async with",
    "Node.run_together": "asyncio has gather",
    "Node.expand_as_completed": "async for, while other tasks go on",
}
"""In what the clients differ, and why."""


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_sync", CLIENTS / "generate_sync.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_synchronous_client_is_what_the_asyncio_one_generates(generator: ModuleType, tmp_path: Path) -> None:
    generator.generate(tmp_path)
    folder = CLIENTS / "snapserv_client" / "sync"
    said = {path.name for path in folder.glob("*.py") if path.read_text().startswith("# Generated")}
    assert {path.name for path in tmp_path.iterdir()} == said == set(generator.GENERATED)
    for path in sorted(tmp_path.iterdir()):
        assert path.read_bytes() == (folder / path.name).read_bytes(), "run: make client"


def test_the_synchronous_cluster_is_what_the_asyncio_one_generates(generator: ModuleType, tmp_path: Path) -> None:
    package = CLIENTS / "snapserv_client" / "cluster"
    generator.generate(tmp_path, package, generator.GENERATED_OF_CLUSTERS)
    for path in sorted(tmp_path.iterdir()):
        assert path.read_bytes() == (package / "sync" / path.name).read_bytes(), "run: make client"


def test_both_have_the_same_modules_and_the_same_names(generator: ModuleType) -> None:
    modules = [
        {path.name for path in (CLIENTS / "snapserv_client" / each).glob("*.py")} for each in ("aio", "sync")
    ]
    assert modules[0] == {*generator.GENERATED, "__init__.py", "connection.py", "own.py"}
    assert modules[1] - modules[0] == {"pickled.py"}, "who unpickles cannot await"
    assert not modules[0] - modules[1]
    assert aio.__all__ == sync.__all__


def surface(client: ModuleType) -> dict[str, str]:
    """Return the signature of each function, and of each method of each class that is public or of the language."""
    found: dict[str, str] = {}
    for name in ("connect", "local"):
        found[name] = str(inspect.signature(getattr(client, name)))
    for name in ("Branch", "Node", "Server", "Snapshot"):
        kind = getattr(client, name)
        for member in {each for base in kind.__mro__[:-1] for each in vars(base)}:
            value: Any = inspect.getattr_static(kind, member)
            if isinstance(value, property):
                found[f"{name}.{member}"] = "a property"
            elif inspect.isfunction(value) and (not member.startswith("_") or member.startswith("__")):
                found[f"{name}.{member}"] = str(inspect.signature(value))
    return found


def test_both_have_the_same_signatures_but_for_what_differs_on_purpose() -> None:
    sides = [surface(client) for client in (aio, sync)]
    differing = {name for name in sides[0].keys() | sides[1].keys() if sides[0].get(name) != sides[1].get(name)}
    inherited = {f"{kind}.{name.removeprefix('Node.')}" for kind in ("Branch", "Snapshot") for name in ON_PURPOSE}
    assert set(ON_PURPOSE) - differing == set()
    assert differing - set(ON_PURPOSE) - inherited == set()
    assert len(sides[0]) > 60


def test_every_docstring_is_the_same() -> None:
    for name in surface(sync).keys() & surface(aio).keys() - ON_PURPOSE.keys():
        docs = []
        for client in (aio, sync):
            value: Any = client
            for part in name.split("."):
                value = inspect.getattr_static(value, part)
            docs.append(value.__doc__)
        assert docs[0] == docs[1], name


def test_the_synchronous_client_never_loads_asyncio() -> None:
    code = "import sys, snapserv_client.sync; print(sorted({'asyncio', 'zmq'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['zmq']\n"


@pytest.mark.filterwarnings("error")
def test_what_never_was_a_connection_is_not_complained_of(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/nobody.sock"
    with pytest.raises(UnreachableError):
        sync.connect(endpoint)
    with pytest.raises(UnreachableError):
        asyncio.run(aio.connect(endpoint))
    gc.collect()


def test_no_module_of_the_client_is_long_and_each_says_its_idea() -> None:
    for path in sorted((CLIENTS / "snapserv_client").rglob("*.py")):
        text = path.read_text()
        assert text.count("\n") <= MOST_LINES, path
        assert ast.get_docstring(ast.parse(text)), path


def test_every_package_is_in_the_distribution() -> None:
    listed = tomllib.loads((CLIENTS / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {path.parent.relative_to(CLIENTS).as_posix() for path in CLIENTS.glob("snapserv_client/**/__init__.py")}
    assert {name.replace(".", "/") for name in listed} == there
