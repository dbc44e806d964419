"""Nodes are known by what they stand for, know what they come of, and branches may end with a block."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from snapserv_client import Server, aio
from snapserv_client.errors import BadRequestError

from ..conftest import ServerProcess, start_server


def names(server: Server) -> set[str]:
    return {node.name for node in server.tree()}


def test_handles_of_one_node_are_equal_and_count_once(server: Server, endpoint: str) -> None:
    main = server.branch("main")
    before = main.snapshot("before")
    assert main == server.node(main.id) == main.direct()
    assert main != before
    assert main != "main"
    assert len({main, server.branch("main"), before, server.snapshot("before")}) == 2
    was = hash(main)
    main.restore(before)
    main.info()
    assert hash(main) == was

    async def other() -> aio.Branch | aio.Snapshot:
        async with await aio.connect(endpoint, timeout_s=10.0) as asked:
            return await asked.node("before")

    found = asyncio.run(other())
    assert found == before
    assert {before: 1}[found] == 1  # type: ignore[index]


def test_a_node_of_another_server_at_the_same_place_is_another(short_path: Path) -> None:
    found = []
    for _ in range(2):
        process: ServerProcess = start_server(short_path, "tests.simulations.walk:Walk")
        with process.connect() as server:
            found.append(server.branch("main"))
        assert process.end() == 0
    assert found[0].endpoint == found[1].endpoint
    assert found[0].id == found[1].id
    assert found[0] != found[1]


def test_a_node_knows_its_parent_and_its_children(server: Server) -> None:
    main, root = server.branch("main"), server.snapshot("root")
    assert root.parent() is None
    before = main.snapshot("before")
    assert main.parent() == before
    assert before.parent() == root
    left, right = before.branch(names=["left", "right"])
    assert before.children() == [main, left, right]
    assert [type(each).__name__ for each in (*root.children(), *before.children()[:1])] == ["Snapshot", "Branch"]
    assert left.children() == []
    before.drop()
    assert left.parent() == root, "whose child it is now"
    assert {main, left, right} <= set(root.children())


def test_a_branch_ends_with_its_block(server: Server) -> None:
    main = server.branch("main")
    before, there = main.snapshot("before"), names(server)
    with before.branch(name="tried") as tried:
        tried.step(3)
        assert names(server) == there | {"tried"}
    assert names(server) == there
    with before.branch(3, rng="split") as several:
        assert len(several) == 3
        assert len(names(server)) == len(there) + 3
    assert names(server) == there
    with main.branch(names=["a", "b"]) as (first, second):
        assert first.parent() == second.parent() == main.parent() != before
    assert names(server) == there, "and what was taken for them alone"
    assert main.parent() == before


def test_what_was_made_in_the_block_stays_and_what_is_gone_is_no_error(server: Server) -> None:
    main = server.branch("main")
    with main.branch() as tried:
        tried.step()
        kept = tried.snapshot("kept")
        other = kept.branch(name="other")
        source = kept.parent()
        assert source is not None
        source.tag("wanted")
    assert {"kept", "other", source.name} <= names(server), "a snapshot that was tagged is wanted"
    assert kept.children() == [other]
    assert kept.parent() == source
    with kept.branch() as gone:
        gone.drop()
    with kept.branch(2) as (first, second):
        first.drop()
    assert second.name not in names(server)


def test_a_block_that_raises_drops_its_branch_and_raises_the_same(server: Server) -> None:
    main = server.branch("main")
    there = names(server)
    with pytest.raises(ZeroDivisionError), main.branch():
        raise ZeroDivisionError
    with pytest.raises(BadRequestError, match="pinned"), main.branch() as tried:
        tried.pin()
    assert tried.name in names(server), "who pinned it is told"
    other = main.branch()
    other.pin()
    with pytest.raises(KeyError) as caught, other:
        raise KeyError
    assert "pinned" in caught.value.__notes__[0]
    assert there < names(server)


def test_a_branch_that_was_there_is_not_dropped_by_a_block(server: Server) -> None:
    with pytest.raises(BadRequestError, match="main was not made for this block"), server.branch("main"):
        raise AssertionError
    with server.branch("main").direct() as main:
        main.step()
    assert main.info().step == 1, "a lease ends with its block, and not the branch"


def test_blocks_and_relatives_in_asyncio(server: Server, endpoint: str) -> None:
    async def play() -> None:
        async with await aio.connect(endpoint, timeout_s=10.0) as asked:
            main = await asked.branch("main")
            before = await main.snapshot()
            async with await before.branch(3, rng="split") as several:
                await asyncio.gather(*(each.step(5) for each in several))
                assert await before.children() == [main, *several]
                assert await several[0].parent() == before
            async with await main.branch() as one:
                await one.step()
            assert await before.children() == [main]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), await before.branch() as long:
                    await long.step(100_000_000)
            assert await before.children() == [main]

    asyncio.run(play())
    assert len(names(server)) == 3
