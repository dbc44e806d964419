"""The tree against a model: whatever is asked in whatever order, names, lineage and bytes are what they must be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from snapserv_client import Branch, Server, Snapshot
from snapserv_client.errors import BadRequestError, NameTakenError

from ..chaos.model import Model, ModelNode, State
from ..chaos.subject import THREADS
from ..conftest import ServerProcess, clear

EXAMPLES = 12
STEPS = 25
NUMBERS = st.integers(0, 1 << 30)


def machine_of(client: Server) -> type[RuleBasedStateMachine]:
    """Return the machine whose rules are requests of ``client``."""

    class Tree(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            clear(client)
            client.branch("main").reset()
            self.model = Model()
            root, main = client.tree().nodes
            first = self.model.add(root, "snapshot", None, State.first(), 0)
            self.model.add(main, "branch", first.id, State.first(), 0)

        def one(self, kind: str, draw: int) -> ModelNode:
            nodes = [node for node in self.model.nodes.values() if node.kind == kind]
            return nodes[draw % len(nodes)]

        def mortals(self) -> list[ModelNode]:
            return [node for node in self.model.nodes.values() if node.name not in ("root", "main")]

        def branch_of(self, node: ModelNode) -> Branch:
            return client.branch(node.id)

        def snapshot_of(self, node: ModelNode) -> Snapshot:
            return client.snapshot(node.id)

        @rule(draw=NUMBERS, ticks=st.integers(1, 5), pattern=NUMBERS, atomic=st.booleans())
        def step(self, draw: int, ticks: int, pattern: int, atomic: bool) -> None:
            node = self.one("branch", draw)
            result = self.branch_of(node).step(ticks, pattern=pattern, atomic=atomic)
            self.model.stepped(node, ticks, pattern)
            assert (result.step, result.outputs) == (
                node.step,
                {"count": node.state.count, "knot": node.state.knot},
            )

        @rule(draw=NUMBERS, start=st.integers(0, THREADS - 8), value=NUMBERS)
        def write(self, draw: int, start: int, value: int) -> None:
            node = self.one("branch", draw)
            values = np.full(8, value, np.uint64)
            self.branch_of(node).write("cloth", values, slice(start, start + 8))
            node.state = node.state.written(start, values)

        @rule(draw=NUMBERS)
        def snapshot(self, draw: int) -> None:
            node = self.one("branch", draw)
            self.model.snapshot(node, self.branch_of(node).snapshot().last)

        @rule(draw=NUMBERS)
        def branch(self, draw: int) -> None:
            node = self.one("snapshot", draw)
            self.model.branch(node, self.snapshot_of(node).branch().last)

        @rule(draw=NUMBERS, other=NUMBERS)
        def restore(self, draw: int, other: int) -> None:
            branch, snapshot = self.one("branch", draw), self.one("snapshot", other)
            self.branch_of(branch).restore(snapshot.id)
            self.model.restored(branch, snapshot)

        @rule(draw=NUMBERS)
        @precondition(lambda self: self.mortals())
        def tag(self, draw: int) -> None:
            node = self.mortals()[draw % len(self.mortals())]
            name = f"t{len(node.tags)}-{node.id}"
            client.node(node.id).tag(name)
            node.tags.append(name)

        @rule(draw=NUMBERS)
        @precondition(lambda self: self.mortals())
        def pin(self, draw: int) -> None:
            node = self.mortals()[draw % len(self.mortals())]
            client.node(node.id).pin(not node.pinned)
            node.pinned = not node.pinned

        @rule(draw=NUMBERS)
        @precondition(lambda self: self.mortals())
        def drop(self, draw: int) -> None:
            """Drop any node but root and main; one that is pinned stays."""
            node = self.mortals()[draw % len(self.mortals())]
            if node.pinned:
                with pytest.raises(BadRequestError, match="pinned"):
                    client.node(node.id).drop()
            else:
                assert client.node(node.id).drop() == [node.name]
                self.model.dropped(node)

        @rule(draw=NUMBERS, other=NUMBERS)
        def take_a_name_that_is_taken(self, draw: int, other: int) -> None:
            with pytest.raises(NameTakenError):
                self.branch_of(self.one("branch", draw)).snapshot(self.one("snapshot", other).name)

        @invariant()
        def the_tree_is_what_it_must_be(self) -> None:
            assert self.model.differences(client.tree()) == ([], [])

        def teardown(self) -> None:
            for node in self.model.nodes.values():
                found = client.node(node.id)
                assert node.state.same_bytes(found.read("cloth"), found.read("count")), node.name

    return Tree


def test_every_reply_and_every_byte_is_what_a_model_of_the_tree_predicts(
    serve: Callable[..., ServerProcess],
) -> None:
    with serve("tests.chaos.subject:Loom").connect() as client:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            machine_of(client),
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize=True,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
