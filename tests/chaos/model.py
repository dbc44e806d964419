"""What the tree and the bytes of every node must be, worked out without any of the server's code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from .subject import BAND, FACTOR, PRIME, STRIDE, THREADS

Cloth = npt.NDArray[np.uint64]
Kind = Literal["snapshot", "branch"]
WORD = (1 << 64) - 1


@dataclass(frozen=True)
class State:
    """The state of a simulation at one moment; never changed."""

    cloth: Cloth
    count: int
    knot: int

    @staticmethod
    def first() -> State:
        """Return the state that setup leaves."""
        return State(np.arange(THREADS, dtype=np.uint64), 0, 0)

    def after(self, ticks: int, pattern: int) -> State:
        """Return the state after so many ticks."""
        cloth, knot = self.cloth.copy(), self.knot
        for count in range(self.count, self.count + ticks):
            start = count * STRIDE % (THREADS - BAND)
            band = [(each * FACTOR + pattern + count) & WORD for each in cloth[start : start + BAND].tolist()]
            cloth[start : start + BAND] = band
            knot = (knot * 31 + band[0] + pattern) % PRIME
        return State(cloth, self.count + ticks, knot)

    def written(self, start: int, values: Cloth) -> State:
        """Return the state after a write to a stretch of the cloth."""
        cloth = self.cloth.copy()
        cloth[start : start + len(values)] = values
        return State(cloth, self.count, self.knot)

    def same_bytes(self, cloth: object, count: object) -> bool:
        """Return whether fields that were read are this state's, bit for bit."""
        read = np.asarray(cloth)
        return (
            read.dtype == self.cloth.dtype
            and read.tobytes() == self.cloth.tobytes()
            and int(str(count)) == self.count
        )


@dataclass(eq=False)
class ModelNode:
    """A node as it must be; ``leaving`` says that its owner has asked to drop it."""

    id: int
    name: str
    kind: Kind
    parent: int | None
    state: State
    step: int
    tags: list[str] = field(default_factory=list)
    pinned: bool = False
    dead: bool = False
    leaving: bool = False

    @property
    def alive(self) -> bool:
        """Whether it has a process."""
        return not self.dead


class Listed(Protocol):
    """A node as the server lists it."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def parent(self) -> int | None: ...
    @property
    def step(self) -> int: ...
    @property
    def tags(self) -> list[str]: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def state(self) -> str: ...


class Model:
    """All nodes that the server has acknowledged, and not acknowledged to have dropped."""

    def __init__(self) -> None:
        self.nodes: dict[int, ModelNode] = {}

    def add(self, told: Listed, kind: Kind, parent: int | None, state: State, step: int) -> ModelNode:
        """Take note of a node that the server has made; return it."""
        node = ModelNode(told.id, told.name, kind, parent, state, step)
        self.nodes[node.id] = node
        return node

    def snapshot(self, branch: ModelNode, told: Listed) -> ModelNode:
        """Take note of a snapshot of a branch, which is the branch's past from now on."""
        made = self.add(told, "snapshot", branch.parent, branch.state, branch.step)
        branch.parent = made.id
        return made

    def branch(self, snapshot: ModelNode, told: Listed) -> ModelNode:
        """Take note of a branch of a snapshot."""
        return self.add(told, "branch", snapshot.id, snapshot.state, snapshot.step)

    def stepped(self, branch: ModelNode, ticks: int, pattern: int) -> None:
        """Take note of ticks."""
        branch.state = branch.state.after(ticks, pattern)
        branch.step += ticks

    def restored(self, branch: ModelNode, snapshot: ModelNode) -> None:
        """Take note that a branch stands at a snapshot again, and lives."""
        branch.parent, branch.state, branch.step, branch.dead = snapshot.id, snapshot.state, snapshot.step, False

    def dropped(self, node: ModelNode) -> None:
        """Take note that a node is gone; its children are its parent's."""
        del self.nodes[node.id]
        for child in self.nodes.values():
            if child.parent == node.id:
                child.parent = node.parent

    def differences(self, listed: Iterable[Listed]) -> tuple[list[str], list[str]]:
        """Return the nodes that were lost, and all else in which a listing is not what it must be."""
        found = {node.id: node for node in listed}
        lost, wrong = [], []
        for node in self.nodes.values():
            told = found.pop(node.id, None)
            if told is None:
                lost.append(f"{node.name} is gone")
            elif (told.state == "dead") != node.dead:
                (wrong if node.dead else lost).append(f"{node.name} is {told.state}")
            else:
                for part in ("name", "kind", "parent", "step", "tags", "pinned"):
                    if getattr(told, part) != getattr(node, part):
                        wrong.append(f"{node.name}: {part} is {getattr(told, part)}, not {getattr(node, part)}")
        wrong += [f"{node.name} was never asked for" for node in found.values()]
        return lost, wrong
