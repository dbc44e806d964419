"""How children are shared out among the hosts of a cluster; nothing of it needs Ray."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from snapserv_client.cluster.shares import LEAST, Shares

from benchmarks.cluster_on_paper import Costs, simulate


@given(st.integers(1, 500), st.integers(1, 8), st.integers(1, 5), st.lists(st.booleans(), max_size=40))
def test_each_child_is_done_once_whoever_dies(count: int, cores: int, hosts: int, dies: list[bool]) -> None:
    shares, done = Shares(count), Counter[int]()
    fates = iter(dies)
    while not shares.finished:
        share = shares.take(cores, 50.0, hosts)
        assert share
        half = share[: len(share) // 2] if next(fates, False) else share
        for index in half:
            if shares.done(index):
                done[index] += 1
        shares.give_back(share)
    assert done == Counter(range(count))
    assert shares.take(cores, None, hosts) == []
    assert not shares.done(0)


def test_shares_follow_the_speed_and_become_small_at_the_end() -> None:
    shares = Shares(2000)
    assert len(shares.take(2, None, 2)) == 166
    fast, slow = len(shares.take(2, 1000.0, 2)), len(shares.take(2, 1.0, 2))
    assert fast == 400
    assert slow == 119
    assert len(Shares(40).take(2, 1.0, 2)) == 10
    assert len(Shares(400).take(1, None, 20)) == LEAST
    assert len(Shares(40).take(2, None, 1)) == 20
    last = []
    while share := shares.take(2, 1000.0, 2):
        last.append(len(share))
    assert last[-1] <= 2
    assert sorted(last, reverse=True) == last


def test_on_paper_two_hosts_are_twice_as_fast_and_the_client_bounds_many() -> None:
    one, two, many = (simulate(hosts, 100_000, Costs()) for hosts in (1, 2, 1000))
    assert 1.9 < two.speedup / one.speedup <= 2.0
    assert many.client > 0.9
