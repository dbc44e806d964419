"""Monte Carlo tree search on a lunar lander: ``python -m snapserv.examples.search.mcts``.

PUCT (Silver et al., "Mastering the game of Go without human knowledge", Nature 550, 2017) with a uniform prior and
random rollouts. The environment is Gymnasium's own, and knows nothing of it: every leaf of the tree is a child of
one snapshot, which plays the actions that lead there and a rollout, and a whole batch of leaves is one request.

A child goes on exactly as the episode would. So the best plan ever found, tree and rollout, can be carried out as
it is, and is followed until a better one is found, as in single-player tree search (Schadd et al., "Single-player
Monte-Carlo tree search", Computers and Games, 2008).
"""

from __future__ import annotations

import argparse
import math
import random
import time
from dataclasses import dataclass, field

from snapserv_client import Branch, Server, Snapshot, local, number

ACTIONS = range(4)
HOLD = 6
"""Ticks for which an action is held: a lander does not change its mind fifty times a second."""
ROLLOUT = 12
"""Actions after those of the tree."""
REMEMBER = 0.5
"""Of so many of the rollouts, some actions are those of the best plan at the same depth; the rest is chance."""
BATCH = 16
EXPLORATION = 1.0


@dataclass
class Node:
    """What is known of the actions that lead to a state: how often they were tried, and what came of it."""

    visits: int = 0
    total: float = 0.0
    children: dict[int, Node] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """The return, on average."""
        return self.total / self.visits if self.visits else 0.0


class Search:
    """The tree of an episode, and the best plan so far.

    Returns are of whole episodes, as far as they were played: what has been earned is in them. So those of earlier
    decisions stay comparable.

    Args:
        seed: Of the rollouts.
    """

    def __init__(self, seed: int) -> None:
        self.tree = Node()
        self.plan: list[int] = []
        self.planned = -math.inf
        self.chance = random.Random(seed)

    def choose(self, root: Snapshot, earned: float, evaluations: int) -> int:
        """Return the next action of the best plan, after so many evaluations of leaves."""
        for _ in range(evaluations // BATCH):
            low, high = extent(self.tree)
            paths = [select(self.tree, low, high) for _ in range(BATCH)]
            plans = [[*actions, *self.rollout(len(actions))] for actions, _ in paths]
            inputs = [[{"action": action} for action in plan] for plan in plans]
            outcomes = root.expand(inputs, steps=HOLD, sum=["reward"])
            for (_, nodes), plan, outcome in zip(paths, plans, outcomes, strict=True):
                found = earned + number(outcome["reward"])
                for node in nodes:
                    node.total += found
                if found > self.planned or not self.plan:
                    self.plan, self.planned = plan, found
        action = self.plan[0]
        self.plan = self.plan[1:]
        self.tree = self.tree.children.get(action, Node())
        return action

    def rollout(self, depth: int) -> list[int]:
        """Return what to do after the first ``depth`` actions."""
        chance, known = self.chance, 0
        if chance.random() < REMEMBER:
            known = chance.randint(0, ROLLOUT)
        remembered = self.plan[depth : depth + known]
        return [*remembered, *chance.choices(ACTIONS, k=ROLLOUT - len(remembered))]


def select(tree: Node, low: float, high: float) -> tuple[list[int], list[Node]]:
    """Return the way to a leaf that has not been tried yet, and count it as tried: so a batch spreads out."""
    actions: list[int] = []
    nodes, node = [tree], tree
    while node.visits:
        children = [node.children.get(action, Node()) for action in ACTIONS]
        explore = EXPLORATION * math.sqrt(node.visits) / len(ACTIONS)
        scores = [
            ((child.mean - low) / (high - low) if child.visits else 0.5) + explore / (1 + child.visits)
            for child in children
        ]
        action = max(ACTIONS, key=scores.__getitem__)
        node = node.children.setdefault(action, Node())
        actions.append(action)
        nodes.append(node)
    for node in nodes:
        node.visits += 1
    return actions, nodes


def extent(tree: Node) -> tuple[float, float]:
    """Return the least and the greatest mean in the tree, for scores between 0 and 1."""
    means, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        means.append(node.mean)
        waiting += node.children.values()
    return min(means), max(max(means), min(means) + 1e-9)


def episode(main: Branch, seed: int, policy: str, evaluations: int) -> tuple[float, int]:
    """Return the reward of an episode under a policy, and how many children were tried for it."""
    main.call("reset", seed=seed)
    chance, search, reward, tried = random.Random(seed), Search(seed), 0.0, 0
    while True:
        if policy == "random":
            action = chance.choice(ACTIONS)
        else:
            here = main.snapshot()
            if policy == "greedy":
                outcomes = here.expand([{"action": each} for each in ACTIONS], steps=HOLD, sum=["reward"])
                action = max(ACTIONS, key=lambda each: number(outcomes[each]["reward"]))
                tried += len(ACTIONS)
            else:
                action = search.choose(here, reward, evaluations)
                tried += evaluations
            here.drop()
        for _ in range(HOLD):
            result = main.step(action=action)
            reward += number(result.outputs["reward"])
            if result.outputs["terminated"] or result.outputs["truncated"]:
                return reward, tried


def play(server: Server, seeds: range, evaluations: int) -> dict[str, list[float]]:
    """Play the episodes of each policy; print a row for each seed, the means, and how fast the search was."""
    rewards: dict[str, list[float]] = {"random": [], "greedy": [], "mcts": []}
    main = server.branch("main")
    print("| seed | random | greedy | MCTS |\n| ---: | ---: | ---: | ---: |", flush=True)
    tried, searching = 0, 0.0
    for seed in seeds:
        for policy, found in rewards.items():
            main.reset()
            began = time.perf_counter()
            reward, count = episode(main, seed, policy, evaluations)
            found.append(reward)
            if policy == "mcts":
                tried += count
                searching += time.perf_counter() - began
        print(f"| {seed} | {' | '.join(f'{found[-1]:.0f}' for found in rewards.values())} |", flush=True)
    means = " | ".join(f"**{sum(found) / len(found):.0f}**" for found in rewards.values())
    print(f"| mean | {means} |\n\n{tried:,} nodes at {tried / searching:,.0f} nodes per second", flush=True)
    return rewards


def main() -> None:
    """Play what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="episodes, from seed 0 on")
    parser.add_argument("--evaluations", type=int, default=256, help="leaves for each action")
    options = parser.parse_args()
    with local("gym:LunarLander-v3") as server:
        play(server, range(options.seeds), options.evaluations)


if __name__ == "__main__":
    main()
