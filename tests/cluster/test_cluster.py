from __future__ import annotations

import asyncio
import pickle
from typing import Any

import numpy as np
import pytest
from snapserv_client import Best
from snapserv_client.cluster import Cluster, ClusterBranch, ClusterSnapshot, aio
from snapserv_client.errors import BadRequestError, FrozenError, NameTakenError, NotFoundError, UnreachableError
from snapserv_client.sync import Connection, Server

from .conftest import other


def test_it_is_used_as_a_server_is(shared: Cluster) -> None:
    main = shared.branch("main")
    main.reset()
    assert main.step(3, drift=1.0).outputs["count"] == 3
    snapshot = main.snapshot("three", message="as it was")
    assert isinstance(snapshot, ClusterSnapshot)
    main.step(2)
    assert shared.branch("main").info().step == 5
    main.restore("three")
    assert main.last.step == 3
    assert shared.snapshot("three").read("count") == 3
    assert shared.spec().simulation == "Walk"
    assert {host.name for host in shared.hosts.values()} == set(shared.host_stats())
    with pytest.raises(FrozenError):
        shared.branch("three")
    with pytest.raises(BadRequestError):
        shared.snapshot("main")
    with pytest.raises(NotFoundError):
        shared.node("nobody")
    snapshot.drop()


def test_branches_are_spread_over_hosts_and_go_on_alike(shared: Cluster) -> None:
    main = shared.branch("main")
    main.reset()
    main.step(5)
    snapshot = main.snapshot()
    with snapshot.branch(4, spread=True) as branches:
        assert {each.host for each in branches} == {host.name for host in shared.hosts.values()}
        means = {each.step(20).outputs["mean"] for each in branches}
        assert len(means) == 1
        for each in branches:
            assert np.array_equal(each.read("position"), branches[0].read("position"))
        a, b = branches[0], next(each for each in branches if each.host != branches[0].host)
        assert a.diff(b).same
        b.step()
        assert a.diff(b).different
        listed = shared.tree()
        assert {listed.hosts[each.name][0] for each in branches} == {host.name for host in shared.hosts.values()}
        assert f"▶ {b.name} · step 26 · {b.host}" in str(listed)
        b.restore(snapshot)
        assert b.last.step == 5
    assert not [node for node in shared.tree() if node.name in {each.name for each in branches}]


def test_a_name_is_the_clusters(shared: Cluster) -> None:
    root = shared.snapshot("root")
    with root.branch(names=["left", "right"], spread=True) as branches:
        assert branches[0].host != branches[1].host
        assert shared.branch("right").host == branches[1].host
        with pytest.raises(NameTakenError):
            branches[0].snapshot("right")
        with pytest.raises(NameTakenError):
            branches[1].tag("left")
    again = root.branch(name="left")
    again.drop()


def test_children_draw_the_same_on_one_host_or_two(shared: Cluster) -> None:
    main = shared.branch("main")
    main.reset()
    main.step(5)
    snapshot = main.snapshot()
    seeds = list(range(40))
    inputs: Any = [{"drift": 0.1 * index} for index in range(40)]
    alone = snapshot.expand(inputs, steps=20, seeds=seeds, spread=False)
    spread = snapshot.expand(inputs, steps=20, seeds=seeds, spread=True)
    assert set(alone.played) == {snapshot.host}
    assert set(spread.played) == {host.name for host in shared.hosts.values()}
    assert [each["mean"] for each in alone] == [each["mean"] for each in spread]
    split = snapshot.expand(inputs[:4], steps=20, rng="split")
    assert len({each["mean"] - each["mean"] for each in split}) == 1
    assert len({each["mean"] for each in snapshot.expand([{}] * 4, steps=5, rng="split")}) == 4
    assert len({each["mean"] for each in snapshot.expand([{}] * 4, steps=5)}) == 1


def test_outcomes_stream_and_each_childs_failure_is_its_own(shared: Cluster) -> None:
    snapshot = shared.branch("main").snapshot()
    seen: list[int] = []
    inputs: Any = [{"drift": "much"} if index == 7 else {"drift": 1.0} for index in range(30)]
    outcomes = snapshot.expand(inputs, steps=2, spread=True, on_outcome=lambda each: seen.append(each.index))
    assert sorted(seen) == list(range(30))
    assert [each.index for each in outcomes if not each.ok] == [7]
    assert isinstance(outcomes[7].error, BadRequestError)
    with pytest.raises(NotFoundError):
        snapshot.expand([{}] * 30, spread=True, policy="nobody", policy_steps=1)


def test_the_best_of_all_are_kept_wherever_they_are(shared: Cluster) -> None:
    snapshot = shared.branch("main").snapshot()
    inputs: Any = [{"drift": float(index)} for index in range(30)]
    outcomes = snapshot.expand(inputs, spread=True, keep=Best(3, by="mean"))
    kept = [each for each in outcomes if each.node is not None]
    assert [each.index for each in kept] == [27, 28, 29]
    assert all(
        isinstance(each.node, ClusterBranch) and each.node.info().step == snapshot.last.step + 1 for each in kept
    )
    for each in kept:
        each.node.drop()
    assert not [node for node in shared.tree() if node.kind == "branch" and node.name != "main"]


def test_handles_go_into_tasks_of_ray(shared: Cluster) -> None:
    import ray

    main = shared.branch("main")
    main.reset()
    main.step(2)

    @ray.remote(num_cpus=0)
    def steps(branch: ClusterBranch) -> tuple[int, str]:
        return branch.step(3).step, branch.host

    assert ray.get(steps.remote(main)) == (5, main.host)
    assert main.info().step == 5
    here = pickle.loads(pickle.dumps(main))
    assert here.info().step == 5
    here.cluster.close()


def test_asyncio_has_the_same(shared: Cluster) -> None:
    async def use() -> None:
        async with aio.Cluster.join(shared.name) as cluster:
            main = await cluster.branch("main")
            await main.reset()
            assert (await main.step(2)).step == 2
            snapshot = await main.snapshot()
            outcomes = await snapshot.expand([{}] * 30, steps=2, spread=True)
            assert set(outcomes.played) == {host.name for host in cluster.hosts.values()}
            async with await snapshot.branch(2, spread=True) as branches:
                assert len({each.host for each in branches}) == 2
            assert {node.name for node in await cluster.tree()} >= {"root", "main", snapshot.name}

    asyncio.run(use())


def test_a_strangers_key_gets_nothing(shared: Cluster) -> None:
    from snapserv_client.cluster.keyring import client_keys, make_keys

    host = other(shared, 0)
    for keys in (None, client_keys(make_keys())):
        server = Server(Connection(host.endpoint, 1.0, keys))
        with server, pytest.raises(UnreachableError):
            server.greet(1.0)
