"""What dies, and what comes back: a server, a host, the registry, the driver, a machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snapserv_client.cluster import Cluster
from snapserv_client.errors import NotFoundError, SnapservError, StepsLostError

from .conftest import WALK, kill, wait_until

Start = Callable[..., Cluster]
Machine = Callable[..., Any]


def test_a_killed_server_is_followed_by_another_and_nothing_is_missing(start: Start, machine: Machine) -> None:
    machine(server=1)
    cluster = start(resources={"server": 1})
    (host,) = cluster.hosts.values()
    main = cluster.branch("main")
    before = main.step(7).outputs["mean"]
    branch = main.branch(name="beside")
    kill(host.pid)
    assert main.info().step == 7
    assert branch.step(3).step == 10
    main.restore(main.snapshot())
    assert main.read("position").mean() == pytest.approx(before)
    assert list(cluster.hosts) == [host.number]


def test_a_killed_host_leaves_all_that_it_had_to_another(start: Start, machine: Machine, tmp_path: Path) -> None:
    """Its server saves what it has, and ends; others go on with that."""
    for _ in range(2):
        machine(host=1)
    cluster = start(resources={"host": 1}, store=str(tmp_path / "store"))
    wait_until(lambda: len(cluster.hosts) == 2, "two hosts")
    main = cluster.branch("main")
    main.step(4)
    kept = main.snapshot("kept")
    last = main.step(3).outputs["mean"]
    wait_until(lambda: kept.info().durable, "it lasts")
    host = cluster.hosts[main._server.number]
    kill(host.actor)
    wait_until(lambda: host.number not in cluster.hosts, "Ray says so")
    assert main.info().step == 7  # nothing is missing, and so nothing is raised
    assert main._server.number != host.number
    assert main.read("position").mean() == pytest.approx(last)
    assert cluster.branch("main").host == main.host
    assert kept.read("count") == 4
    assert cluster.diff("kept", "main").different
    wait_until(lambda: len(cluster.hosts) == 2, "Ray has begun it again")
    assert host.number not in cluster.hosts
    with main.snapshot().branch(2, spread=True) as branches:
        assert len({each.host for each in branches}) == 2


def test_where_server_and_host_are_killed_the_newest_snapshot_that_lasts_is_gone_on_from(
    start: Start, machine: Machine, tmp_path: Path
) -> None:
    for _ in range(2):
        machine(both=1)
    cluster = start(resources={"both": 1}, store=str(tmp_path / "store"))
    wait_until(lambda: len(cluster.hosts) == 2, "two hosts")
    main = cluster.branch("main")
    main.step(4)
    kept = main.snapshot("kept")
    wait_until(lambda: kept.info().durable, "it lasts")
    lost = main.step(3) and main.snapshot()
    host = cluster.hosts[main._server.number]
    kill(host.actor)
    kill(host.pid)
    with pytest.raises(StepsLostError) as raised:
        main.step()
    assert raised.value.details == {"step": 4, "was": 7, "missing": 3, "host": main.host}
    assert main.step().step == 5
    assert cluster.snapshot("kept").read("count") == 4
    with pytest.raises(NotFoundError):
        cluster.snapshot(lost.name)
    outcomes = kept.expand([{}] * 12, steps=2)
    assert len({each["mean"] for each in outcomes}) == 1


def test_a_machine_that_goes_is_survived_and_one_that_joins_serves(
    start: Start, machines: Any, machine: Machine, tmp_path: Path
) -> None:
    first = machine(goes=1)
    cluster = start(resources={"goes": 1}, store=str(tmp_path / "store"))
    main = cluster.branch("main")
    main.step(2)
    main.snapshot("kept").save()
    (host,) = cluster.hosts.values()
    machine(goes=1)
    wait_until(lambda: len(cluster.hosts) == 2, "it joined")
    (joined,) = [each for each in cluster.hosts.values() if each.number != host.number]
    assert joined.node != host.node
    assert set(cluster.snapshot("kept").expand([{}] * 40, spread=True).played) <= {host.name, joined.name}
    machines.remove_node(first, allow_graceful=False)
    wait_until(lambda: host.number not in cluster.hosts, "Ray says so")
    with pytest.raises(StepsLostError):
        main.write("count", 9)
    assert main.host == joined.name
    assert main.info().step == 2
    assert cluster.snapshot("kept").host == joined.name


def test_an_expansion_outlives_a_host_and_each_child_is_there_once(
    start: Start, machine: Machine, tmp_path: Path
) -> None:
    for _ in range(2):
        machine(plays=1)
    cluster = start(resources={"plays": 1}, store=str(tmp_path / "store"))
    wait_until(lambda: len(cluster.hosts) == 2, "two hosts")
    snapshot = cluster.branch("main").snapshot("begin")
    inputs: Any = [{"drift": float(index)} for index in range(120)]
    expected = [each["mean"] for each in snapshot.expand(inputs, steps=5, seeds=range(120), spread=False)]
    seen: list[int] = []
    victim = next(host for host in cluster.hosts.values() if host.name != snapshot.host)

    def take(outcome: Any) -> None:
        seen.append(outcome.index)
        if len(seen) == 20:
            kill(victim.actor)
            kill(victim.pid)

    outcomes = snapshot.expand(inputs, steps=5, seeds=range(120), spread=True, on_outcome=take)
    assert sorted(seen) == list(range(120))
    assert [each["mean"] for each in outcomes] == expected
    assert outcomes.played.get(victim.name, 0) < 120


def test_the_registry_begins_again_with_what_there_is(start: Start, machine: Machine, tmp_path: Path) -> None:
    import ray

    machine(again=1)
    cluster = start(resources={"again": 1}, store=str(tmp_path / "store"))
    main = cluster.branch("main")
    main.step(2)
    main.snapshot("kept")
    ray.kill(cluster._member.registry, no_restart=False)
    assert cluster.branch("main").step().step == 3
    with pytest.raises(SnapservError, match="kept"):
        main.snapshot("kept")
    assert main.snapshot("another").name == "another"


def test_what_setup_raises_is_what_starting_raises(machine: Machine) -> None:
    machine(fails=1)
    with pytest.raises(SnapservError, match="Nobody"):
        Cluster("tests.simulations.walk:Nobody", hosts=1, resources={"fails": 1})


def test_where_the_driver_is_killed_nothing_is_left(machines: Any, machine: Machine, tmp_path: Path) -> None:
    machine(driver=1)
    program = (
        "import time\nfrom snapserv_client.cluster import Cluster\n"
        f"cluster = Cluster({WALK!r}, address={machines.address!r}, resources={{'driver': 1}})\n"
        "(host,) = cluster.hosts.values()\nprint(host.pid, host.actor, cluster.store, flush=True)\n"
        "time.sleep(600)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=dict(os.environ))
    assert driver.stdout is not None
    with driver.stdout:
        server, actor, store = driver.stdout.readline().decode().split()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    began = time.monotonic()
    wait_until(lambda: not any(Path(f"/proc/{pid}/status").exists() for pid in (server, actor)), "all of it ends")
    wait_until(lambda: not Path(store).exists(), "its store goes")
    assert time.monotonic() - began < 60
