"""Parts that need no server: the tree, turns, regions, sessions, the scoreboard, simulations on their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from snapserv_client.requests import region_to_wire

from benchmarks import figures
from snapserv import Field, Simulation, exported
from snapserv.errors import BadRequestError, NotFoundError, SimulationError
from snapserv.lanes import Lane, Turn
from snapserv.ledger import Ledger
from snapserv.loading import load_simulation
from snapserv.nodes import seed_of
from snapserv.regions import resolve_region, runs_of
from snapserv.sessions import MOST_CLIENTS, MOST_REPLIES, Sessions
from snapserv.tree import Forest, NameInUseError, Node


class Lineage(RuleBasedStateMachine):
    """A forest against a model that keeps only each node's parent."""

    def __init__(self) -> None:
        super().__init__()
        self.forest = Forest()
        self.tree = self.forest.plant("default", "S")
        self.parents: dict[int, int | None] = {}
        self.root = self.add(None)

    def add(self, parent: Node | None) -> Node:
        node = self.forest.add(self.tree, "snapshot", parent, name=None, step=0, now=0.0)
        self.parents[node.id] = parent.id if parent else None
        return node

    def pick(self, index: int) -> Node:
        nodes = list(self.forest.nodes.values())
        return nodes[index % len(nodes)]

    @rule(index=st.integers(0, 1000))
    def grow(self, index: int) -> None:
        self.add(self.pick(index))

    @rule(index=st.integers(0, 1000))
    def remove(self, index: int) -> None:
        node = self.pick(index)
        if node is self.root:
            return
        self.forest.remove(node)
        gone = self.parents.pop(node.id)
        for child, parent in self.parents.items():
            if parent == node.id:
                self.parents[child] = gone

    @rule(index=st.integers(0, 1000), to=st.integers(0, 1000))
    def move(self, index: int, to: int) -> None:
        node, target = self.pick(index), self.pick(to)
        if node in self.forest.ancestors(target):
            return
        self.forest.move(node, target)
        self.parents[node.id] = target.id

    @invariant()
    def lineage_is_the_models(self) -> None:
        assert {node.id: node.parent for node in self.forest.nodes.values()} == self.parents
        for node in self.forest.nodes.values():
            assert {child for child, parent in self.parents.items() if parent == node.id} == set(node.children)
            assert self.forest.ancestors(node)[0] is self.root
        below = [node.id for node in self.forest.descendants(self.root)]
        assert sorted([self.root.id, *below]) == sorted(self.parents)


TestLineage = Lineage.TestCase
TestLineage.settings = settings(max_examples=30, deadline=None)


def test_names_and_tags_belong_to_one_node_each() -> None:
    forest = Forest()
    tree, other = forest.plant("default", "S"), forest.plant("t2", "S")
    one = forest.add(tree, "snapshot", None, name="one", step=0, now=0.0)
    forest.tag(one, "golden")
    with pytest.raises(NameInUseError):
        forest.add(tree, "branch", one, name="golden", step=0, now=0.0)
    twin = forest.add(other, "snapshot", None, name="one", step=0, now=0.0)
    assert forest.find("one") is forest.find("golden") is forest.find(one.id) is one
    assert forest.find("t2/one") is twin
    assert twin.path == "t2/one"
    assert forest.find("t3/one") is None
    forest.remove(one)
    assert forest.find("golden") is None
    with pytest.raises(NameInUseError):
        forest.plant("t2", "S")


def test_nodes_that_are_put_back_are_counted_like_others() -> None:
    forest = Forest()
    tree = forest.plant("default", "S")
    forest.put_back(Node(7, "s7", tree, "snapshot", None, 0, 0.0))
    assert forest.kinds == {"snapshot": 1}
    forest.remove(forest.nodes[7])
    assert forest.kinds.total() == 0


def test_a_name_that_is_made_up_avoids_those_that_exist() -> None:
    forest = Forest()
    tree = forest.plant("default", "S")
    forest.add(tree, "snapshot", None, name="s2", step=0, now=0.0)
    assert forest.add(tree, "snapshot", None, name=None, step=0, now=0.0).name == "s2_"


def test_turns_over_shared_lanes_come_in_order_and_never_deadlock() -> None:
    async def play() -> list[str]:
        a, b, c = Lane(), Lane(), Lane()
        order: list[str] = []

        async def use(name: str, turn: Turn) -> None:
            async with turn:
                order.append(f"{name}+")
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                order.append(f"{name}-")

        plans = [
            ("ab", Turn(a, b)),
            ("ba", Turn(b, a)),
            ("c", Turn(c)),
            ("read1", Turn(shared=[a])),
            ("read2", Turn(shared=[a, c])),
            ("a", Turn(a)),
            ("mixed", Turn(b, shared=[c])),
        ]
        await asyncio.wait_for(asyncio.gather(*(use(*plan) for plan in plans)), 10)
        assert not any(lane.busy for lane in (a, b, c))
        return order

    order = asyncio.run(play())
    for earlier, later in (
        ("ab", "ba"),
        ("ba", "read1"),
        ("ba", "read2"),
        ("c", "read2"),
        ("read1", "a"),
        ("ba", "mixed"),
    ):
        assert order.index(f"{earlier}-") < order.index(f"{later}+")
    assert order.index("read2+") < order.index("read1-"), "two that only read go together"


def test_whoever_gives_up_waiting_leaves_the_lane() -> None:
    async def play() -> None:
        lane = Lane()
        first, second, third = Turn(lane), Turn(lane), Turn(lane)
        async with first:
            waiting = asyncio.ensure_future(second.__aenter__())
            last = asyncio.ensure_future(third.__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert not last.done()
        await asyncio.wait_for(last, 10)

    asyncio.run(play())


@settings(deadline=None)
@given(st.data())
def test_a_region_means_what_numpy_means_and_lies_where_it_is_said(data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6))
    array = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=False, allow_ellipsis=False))
    region = resolve_region(region_to_wire(index), shape, what="field")
    assert np.array_equal(array[region.select], array[index])
    offsets, run = runs_of(region.box, shape, 4)
    flat = array.tobytes()
    gathered = b"".join(flat[int(offset) : int(offset) + run] for offset in offsets)
    box = np.frombuffer(gathered, np.int32).reshape([count for _, count in region.box])
    assert np.array_equal(box[region.inside], array[index])


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger.create()
    yield made
    made.close()


def test_replies_are_remembered_until_there_are_too_many_and_then_refused(ledger: Ledger) -> None:
    session = Sessions(ledger).of(b"one")
    for number in range(1, MOST_REPLIES + 11):
        session.remember(number, [b"x"])
    assert session.recall(MOST_REPLIES) == [b"x"]
    assert session.recall(MOST_REPLIES + 11) is None
    with pytest.raises(BadRequestError, match="too old"):
        session.recall(10)


def test_large_replies_make_room_sooner(ledger: Ledger) -> None:
    session = Sessions(ledger).of(b"one")
    for number in range(1, 6):
        session.remember(number, [bytes(8 << 20)])
    assert session.reply_bytes <= 16 << 20
    assert session.recall(5) is not None


def test_clients_that_were_silent_longest_are_forgotten_but_not_those_that_wait(ledger: Ledger) -> None:
    sessions = Sessions(ledger)
    sessions.of(b"waiting").running.add(1)
    for number in range(MOST_CLIENTS + 100):
        sessions.of(number.to_bytes(4, "big"))
    assert len(sessions) == MOST_CLIENTS
    assert sessions.of(b"waiting").running == {1}


def test_a_scoreboard_is_seen_by_a_forked_process_and_reuses_its_places(ledger: Ledger) -> None:
    board = ledger.scoreboard
    first, second = board.take(5), board.take(6)
    assert first is not None
    assert second is not None
    pid = os.fork()
    if pid == 0:
        board[first] = 77
        os._exit(0)
    os.waitpid(pid, 0)
    assert (board[first], board[second]) == (77, 6)
    board.give_back(first)
    assert board.take(1) == first


def test_split_seeds_are_fixed_by_the_node_and_have_nothing_in_common() -> None:
    seeds = {seed_of("split", number) for number in range(1, 1000)}
    assert len(seeds) == 999
    assert seed_of("split", 7) == seed_of("split", 7)
    assert seed_of("same", 7) is None
    assert seed_of(5, 7) == 5


class Grid(Simulation):
    cells = Field("f4", shape=("rows", "cols", 2), units="K")
    later = Field("i2", shape=("made_in_setup",))
    single = Field("i8")

    class Inputs(msgspec.Struct):
        heat: float = 0.0

    def setup(self, rows: int = 3, cols: int = 4, label: str = "x") -> None:
        self.made_in_setup = rows + cols
        self.label = label

    def step(self, inputs: Inputs) -> None:
        self.cells += inputs.heat

    @exported
    def hottest(self, axis: int = 0) -> float:
        """Return the highest temperature."""
        return float(self.cells.max())


def test_a_simulation_runs_without_a_server() -> None:
    grid = Grid.build(rows=5, label="here")
    assert grid.cells.shape == (5, 4, 2)
    assert grid.later.shape == (9,)
    grid.step(Grid.Inputs(heat=1.5))
    grid.single = 4
    assert grid.hottest() == 1.5
    assert int(grid.single) == 4
    assert grid.rng.random() == np.random.default_rng(0).random()


def test_a_simulation_describes_itself() -> None:
    assert Grid.describe_params()["$defs"]["GridParams"]["properties"]["rows"] == {"type": "integer", "default": 3}
    assert [(method.name, method.signature) for method in Grid.describe_methods()] == [
        ("hottest", "(self, axis: 'int' = 0) -> 'float'")
    ]
    assert [(info.name, info.dtype, info.shape) for info in Grid.build().describe_fields()] == [
        ("cells", "<f4", [3, 4, 2]),
        ("later", "<i2", [7]),
        ("single", "<i8", []),
    ]


@pytest.mark.parametrize(
    ("params", "says"),
    [({"rows": "many"}, "rows"), ({"row": 3}, "did you mean 'rows'"), ({"rows": -1}, "negative size")],
)
def test_wrong_parameters_are_named(params: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        Grid.build(**params)


def test_authors_are_told_of_their_mistakes() -> None:
    class Unknown(Simulation):
        field = Field("f4", shape=("nowhere",))

    with pytest.raises(SimulationError, match="not known yet"):
        Unknown.build()
    with pytest.raises(TypeError, match="part of Simulation"):
        type("Clash", (Simulation,), {"rng": Field("f4")})
    with pytest.raises(NotFoundError, match="exports no method"):
        Grid.build().exported_method("setup")
    with pytest.raises(NotImplementedError):
        Unknown.__new__(Unknown).step(None)


def test_a_file_of_a_package_is_loaded_with_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "outer" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "outer" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "sizes.py").write_text("COLS = 7")
    (package / "model.py").write_text(
        "from snapserv import Simulation\nfrom .sizes import COLS\nclass Model(Simulation):\n    cols = COLS\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = load_simulation(f"{package}/model.py:Model")
    assert vars(found)["cols"] == 7
    assert found.__module__ == "outer.inner.model"


def test_the_figures_of_the_documents_are_those_of_the_last_runs() -> None:
    for document, _, measured, made in figures.TABLES:
        assert made(json.loads(measured.read_text())) in (figures.ROOT / document).read_text(), document
