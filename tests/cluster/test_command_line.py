from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..conftest import ROOT
from .conftest import WALK


def snapserv(*words: str) -> Any:
    command = [sys.executable, "-m", "snapserv", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return json.loads(done.stdout)


def test_a_cluster_is_begun_looked_at_and_ended_by_commands(
    machines: Any, machine: Callable[..., Any], tmp_path: Path
) -> None:
    machine()
    address = ("--address", machines.address)
    store = str(tmp_path / "store")
    begun = snapserv(
        "cluster", "up", WALK, "--name", "lab", "--hosts", "1", "--store", store, "-p", "cols=8", *address
    )
    assert [each["host"] for each in begun["hosts"]] == ["h1"]
    try:
        endpoint = f"ray://{machines.address}/lab"
        assert snapserv("step", "main", "3", "-e", endpoint)["step"] == 3
        assert snapserv("snapshot", "main", "three", "-e", endpoint)["node"]["name"] == "three"
        listed = snapserv("cluster", "tree", "lab", *address)
        assert listed["hosts"]["three"] == ["h1"]
        assert snapserv("cluster", "status", "lab", *address)["hosts"][0]["steps"] == 3
    finally:
        ended = snapserv("cluster", "down", "lab", *address)
    assert ended == {"ended": 1, "store": store}
    words = [sys.executable, "-m", "snapserv", "cluster", "tree", "lab", *address]
    gone = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert gone.returncode != 0
    assert "there is no cluster 'lab'" in gone.stderr


def test_the_example_searches_a_cluster(machines: Any, machine: Callable[..., Any], tmp_path: Path) -> None:
    machine()
    few = ("--moves", "2", "--iterations", "2", "--rollouts", "2", "--depth", "5", "--hosts", "1")
    where = ("--address", machines.address, "--store", str(tmp_path / "store"))
    words = [sys.executable, str(ROOT / "examples" / "cluster_search.py"), *few, *where]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 moves, and the pole stands" in done.stdout
    assert done.stdout.rstrip().endswith(" s on h1")
