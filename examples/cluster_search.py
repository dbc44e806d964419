"""Balance a pole by Monte Carlo tree search over a cluster, with rollouts on all of its machines (leaf-parallel).

    python examples/cluster_search.py                                            # this machine alone
    python examples/cluster_search.py --address auto --store /shared/search      # a cluster of Ray's

A node of the search is a snapshot: the simulator itself at that moment, and not a model of it. What an iteration
does is one `expand`: rollouts of every action, shared out among the hosts. It needs
`pip install 'snapserv[ray,gymnasium]'`.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from dataclasses import dataclass, field

from snapserv_client import number
from snapserv_client.cluster import Cluster, ClusterSnapshot

ACTIONS = (0, 1)


@dataclass
class Position:
    """A moment of the game, as the search knows it: it gets a snapshot when rollouts begin there."""

    before: Position | None
    action: int
    snapshot: ClusterSnapshot | None = None
    visits: int = 0
    total: float = 0.0
    after: dict[int, Position] = field(default_factory=dict)

    def score(self, action: int) -> float:
        """Return how promising an action is: what it brought, and how little it was tried (UCB1)."""
        child = self.after[action]
        if not child.visits:
            return math.inf
        return child.total / child.visits + 20 * math.sqrt(math.log(self.visits) / child.visits)

    def moment(self) -> ClusterSnapshot:
        """Return its snapshot: the parent's, after its action."""
        if self.snapshot is None:
            assert self.before is not None
            (child,) = self.before.moment().expand([{"action": self.action}], keep="all", keep_as="snapshot")
            self.snapshot = child.node
        assert self.snapshot is not None
        return self.snapshot


def search(start: ClusterSnapshot, iterations: int, rollouts: int, depth: int, chance: random.Random) -> int:
    """Return the action that most rollouts were given to, since they went best."""
    root = Position(None, -1, start)
    for _ in range(iterations):
        leaf = root
        while leaf.after:
            leaf = leaf.after[max(ACTIONS, key=leaf.score)]
        firsts = [action for action in ACTIONS for _ in range(rollouts)]
        inputs = [
            [{"action": action}, *({"action": chance.choice(ACTIONS)} for _ in range(depth))] for action in firsts
        ]
        leaf.after = {action: Position(leaf, action) for action in ACTIONS}
        for action, outcome in zip(firsts, leaf.moment().expand(inputs, sum=["reward"]), strict=True):
            position: Position | None = leaf.after[action]
            gained = number(outcome["reward"]) if outcome.ok else 0.0
            while position is not None:
                position.visits += 1
                position.total += gained
                position = position.before
    forget(root, start)
    return max(ACTIONS, key=lambda action: root.after[action].visits)


def forget(position: Position, keep: ClusterSnapshot) -> None:
    """Drop the snapshots of a search that is over."""
    for child in position.after.values():
        forget(child, keep)
    if position.snapshot is not None and position.snapshot is not keep:
        position.snapshot.drop()


def main() -> None:
    """Play an episode, a search a move."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="Ray's: auto, or HOST:PORT")
    parser.add_argument("--store", help="a folder that all machines share, or s3://bucket/prefix")
    parser.add_argument("--hosts", type=int, help="on how many machines; all that there are by default")
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--rollouts", type=int, default=8, help="of each action")
    parser.add_argument("--depth", type=int, default=30)
    said = parser.parse_args()
    chance = random.Random(7)
    with Cluster("gym:CartPole-v1", address=said.address, store=said.store, hosts=said.hosts) as cluster:
        game = cluster.branch("main")
        game.call("reset", seed=7)
        began = time.perf_counter()
        moves = 0
        while moves < said.moves:
            moves += 1
            moment = game.snapshot()
            action = search(moment, said.iterations, said.rollouts, said.depth, chance)
            played = game.step(action=action)
            moment.drop()
            if played.outputs["terminated"]:
                break
        steps = sum(stats.steps for stats in cluster.host_stats().values())
        took = time.perf_counter() - began
        print(f"{moves} moves, and the pole {'fell' if played.outputs['terminated'] else 'stands'}")
        print(f"{steps:,} ticks in {took:.1f} s on {', '.join(host.name for host in cluster.hosts.values())}")


if __name__ == "__main__":
    main()
