"""What snapserv promises: exact continuation, isolation in every direction, snapshots that never change."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable

import numpy as np
import pytest
from snapserv_client import Branch, Server, Snapshot

from .conftest import ServerProcess

Serve = Callable[..., ServerProcess]


def digest(node: Branch | Snapshot) -> str:
    """Return a hash of all the fields of a node."""
    spec = node._server.spec()
    sums = hashlib.blake2b()
    for field in spec.fields:
        sums.update(node.read(field.name).tobytes())
    return sums.hexdigest()


def test_a_branch_continues_bit_for_bit_as_the_uninterrupted_run(server: Server) -> None:
    main = server.branch("main")
    main.step(7)
    snapshot = main.snapshot()
    uninterrupted = [main.step().outputs for _ in range(20)]
    branch = snapshot.branch()
    assert [branch.step().outputs for _ in range(20)] == uninterrupted
    assert np.array_equal(branch.read("position"), main.read("position"))
    assert branch.call("past") == main.call("past")


def test_state_outside_of_fields_continues_too(serve: Serve) -> None:
    """Generators, the random module, NumPy's generator, C's rand and the offset of an open file."""
    with serve("tests.simulations.chance:Heap").connect() as server:
        main = server.branch("main")
        main.step(5)
        snapshot = main.snapshot()
        branches = snapshot.branch(3)
        expected = [main.step().outputs for _ in range(10)]
        for branch in branches:
            assert [branch.step().outputs for _ in range(10)] == expected
        later = snapshot.branch()
        assert [later.step().outputs for _ in range(10)] == expected


def test_siblings_do_not_see_each_others_writes(server: Server) -> None:
    snapshot = server.branch("main").snapshot()
    one, two, three = snapshot.branch(3)
    one.write("position", 1.0)
    two.write("position", 2.0)
    assert np.all(one.read("position") == 1.0)
    assert np.all(two.read("position") == 2.0)
    assert np.all(three.read("position") == 0.0)
    assert np.all(snapshot.read("position") == 0.0)


def test_parent_child_and_grandchild_are_isolated_across_deletes(server: Server) -> None:
    main = server.branch("main")
    first = main.snapshot()
    child = first.branch()
    child.write("position", 5.0)
    second = child.snapshot()
    grandchild = second.branch()
    main.write("position", 9.0)
    first.drop()
    child.write("position", 6.0)
    assert np.all(grandchild.read("position") == 5.0)
    child.drop()
    second.drop()
    grandchild.step(3)
    assert grandchild.last.step == 3
    assert np.all(main.read("position") == 9.0)


def test_a_snapshot_never_changes_whatever_its_relatives_do(server: Server) -> None:
    main = server.branch("main")
    main.step(3)
    snapshot = main.snapshot()
    before = digest(snapshot)
    child = snapshot.branch(rng="split")
    child.step(10)
    child.write("position", -1.0)
    grandchild = child.branch()
    grandchild.step(5)
    main.step(10)
    main.restore(snapshot)
    main.step(2)
    os.kill(child.info().pid, signal.SIGKILL)
    grandchild.step(1)
    main.reset()
    grandchild.drop()
    assert digest(snapshot) == before
    assert snapshot.info().step == 3


def test_a_snapshot_survives_the_death_of_its_parent(server: Server) -> None:
    branch = server.branch("main").branch()
    branch.step(4)
    snapshot = branch.snapshot()
    before = digest(snapshot)
    os.kill(branch.info().pid, signal.SIGKILL)
    child = snapshot.branch()
    assert child.step(2).step == 6
    assert digest(snapshot) == before


def test_a_chain_of_200_generations_counts_right(server: Server) -> None:
    branch = server.branch("main")
    for generation in range(200):
        snapshot = branch.snapshot()
        if generation > 1:
            branch.drop()
        branch = snapshot.branch()
        branch.step()
        if generation % 2:
            snapshot.drop()
    assert int(branch.read("count")) == 200
    assert branch.call("past") == list(range(1, 201))


@pytest.mark.timeout(180)
def test_500_snapshots_live_at_once_and_each_has_its_moment(server: Server) -> None:
    main = server.branch("main")
    snapshots = []
    for _ in range(500):
        main.step()
        snapshots.append(main.snapshot())
    for index in range(0, 500, 7):
        assert int(snapshots[index].read("count")) == index + 1
    branch = snapshots[250].branch()
    assert branch.step().outputs["count"] == 252
    for snapshot in snapshots:
        snapshot.drop()
    assert len(server.tree()) == 3


def test_a_restore_brings_the_earlier_state_back_under_the_same_name(server: Server) -> None:
    main = server.branch("main")
    main.step(5)
    snapshot = main.snapshot()
    expected = main.step(3).outputs
    main.step(10)
    main.restore(snapshot)
    assert main.name == "main"
    assert main.info().step == 5
    assert main.step(3).outputs == expected


def test_reset_always_goes_back_to_setup(server: Server) -> None:
    main = server.branch("main")
    first = main.step(5).outputs
    main.reset()
    assert main.info().step == 0
    assert main.step(5).outputs == first


def test_same_makes_identical_siblings_and_split_makes_different_ones(server: Server) -> None:
    snapshot = server.branch("main").snapshot()
    same = [branch.step().outputs for branch in snapshot.branch(2)]
    split = [branch.step().outputs for branch in snapshot.branch(2, rng="split")]
    seeded = [branch.step().outputs for branch in snapshot.branch(2, rng=42)]
    assert same[0] == same[1]
    assert split[0] != split[1]
    assert seeded[0] == seeded[1] != same[0]


def test_on_branch_hears_of_every_branching_with_its_seed(serve: Serve) -> None:
    with serve("tests.simulations.branching:Branching").connect() as server:
        main = server.branch("main")
        assert main.call("seeds_so_far") == [None]
        branch = main.branch(rng=7)
        grandchild = branch.branch()
        assert branch.call("seeds_so_far") == [None, 7]
        assert grandchild.call("seeds_so_far") == [None, 7, None]


def test_every_cell_is_a_direct_child_of_the_server(server: Server) -> None:
    branch = server.branch("main").branch().branch()
    who = branch.call("process")
    assert server.hello is not None
    assert who["parent"] == server.hello.pid
    assert who["pid"] == who["thread"] == branch.info().pid


def test_several_trees_live_side_by_side(serve: Serve) -> None:
    with serve("tests.simulations.walk:Walk", "tests.simulations.trouble:Trouble").connect() as server:
        other = server.create(name="small", cols=3)
        trouble = server.create("Trouble")
        assert other.name == "small/main"
        assert other.read("position").shape == (3,)
        assert trouble.step().step == 1
        snapshot = other.snapshot("here")
        assert snapshot.name == "small/here"
        assert server.snapshot("small/here").id == snapshot.id
        assert [tree.name for tree in server.tree().trees] == ["default", "small", "t3"]
        assert [node.name for node in server.tree("small")] == ["small/root", "small/main", "small/here"]


def test_fields_that_were_never_written_stay_shared_with_the_base_image(serve: Serve) -> None:
    with serve("tests.simulations.memory:Big", params={"nbytes": 64 << 20}).connect() as server:
        main = server.branch("main")
        main.step(inputs={"pages": 10})
        snapshot = main.snapshot()
        branch = snapshot.branch()
        branch.step(inputs={"pages": 20})
        sizes = {node.name: node.private_bytes for node in server.tree(sizes=True)}
        assert sizes["root"] == 0
        assert sizes["main"] == sizes[snapshot.name] == 10 * 4096
        assert sizes[branch.name] == 20 * 4096


def test_a_diff_counts_and_places_every_difference(serve: Serve) -> None:
    with serve("tests.simulations.memory:Big", params={"nbytes": 16 << 20}).connect() as server:
        main = server.branch("main")
        snapshot = main.snapshot()
        assert snapshot.diff(main).same
        main.write("memory", 9, (slice(5000, 5010),))
        main.write("memory", 9, (1 << 20,))
        found = server.diff(snapshot, main)
        assert found["memory"].changed == 11
        assert found["memory"].box == [(5000, (1 << 20) + 1)]
        assert found["memory"].first[:2] == [[5000], [5001]]
        assert found.compared_bytes == 2 * 4096
        main.write("memory", 1)
        assert snapshot.diff(main).same
