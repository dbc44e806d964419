"""Neighbours who move away: a Mesa model. ``snapserv serve mesa:snapserv.examples.schelling:Schelling``.

Thomas C. Schelling, "Dynamic models of segregation", Journal of Mathematical Sociology 1, 1971: agents of two kinds
move to a free place while too few of their neighbours are like them.
"""

from __future__ import annotations

from typing import Any

import mesa  # type: ignore[import-untyped]
from mesa.discrete_space import CellAgent, OrthogonalMooreGrid  # type: ignore[import-untyped]


class Neighbour(CellAgent):  # type: ignore[misc]  # mesa has no types
    """Somebody of a kind."""

    def __init__(self, model: Schelling, cell: Any, kind: int) -> None:
        super().__init__(model)
        self.cell = cell
        self.kind = kind
        self.content = False

    def step(self) -> None:
        """Move where too few neighbours are alike."""
        neighbours = list(self.cell.neighborhood.agents)
        alike = sum(each.kind == self.kind for each in neighbours)
        self.content = not neighbours or alike / len(neighbours) >= self.model.wanted
        if not self.content:
            self.cell = self.model.grid.select_random_empty_cell()


class Schelling(mesa.Model):  # type: ignore[misc]
    """A town."""

    def __init__(self, size: int = 20, density: float = 0.8, wanted: float = 0.4, seed: int = 0) -> None:
        super().__init__(rng=seed)
        self.wanted = wanted
        self.grid = OrthogonalMooreGrid((size, size), random=self.random, capacity=1)
        self.datacollector = mesa.DataCollector(model_reporters={"content": self.content})
        for cell in self.grid.all_cells:
            if self.random.random() < density:
                Neighbour(self, cell, self.random.randrange(2))

    def content(self) -> int:
        """Return how many stay where they are."""
        return sum(agent.content for agent in self.agents)

    def step(self) -> None:
        """Let everybody look around once."""
        self.agents.shuffle_do("step")
        self.datacollector.collect(self)
        self.running = self.content() < len(self.agents)
