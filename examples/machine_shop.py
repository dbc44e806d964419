"""Machines that break, and a repairer: a SimPy model. ``snapserv serve simpy:snapserv.examples.machine_shop:Shop``.

Three kinds of processes run: machines make parts, something breaks them, and other work keeps the repairer. They
are generators, so the model can be neither copied nor pickled. After the machine shop of SimPy's documentation.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from typing import Any

import simpy

PART_MINUTES, PART_SPREAD = 10.0, 2.0
FAILURE_EVERY = 300.0
REPAIR_MINUTES = 30.0
OTHER_WORK_MINUTES = 30.0

Process = Generator[simpy.Event, Any, None]


class Shop:
    """A workshop with one repairer, for whom broken machines come before other work."""

    monitored = ("parts", "broken", "repairs")

    def __init__(self, env: simpy.Environment, machines: int = 10, seed: int = 0) -> None:
        self.env = env
        self.chance = random.Random(seed)
        self.repairer = simpy.PreemptiveResource(env, capacity=1)
        self.parts = [0] * machines
        self.broken = 0
        self.repairs = 0
        for number in range(machines):
            env.process(self._fail(env.process(self._work(number))))
        env.process(self._other_work())

    def reseed(self, seed: int) -> None:
        """Let chance go another way from here."""
        self.chance = random.Random(seed)

    def _work(self, number: int) -> Process:
        while True:
            left = max(0.1, self.chance.normalvariate(PART_MINUTES, PART_SPREAD))
            while left:
                began = self.env.now
                try:
                    yield self.env.timeout(left)
                    left = 0
                except simpy.Interrupt:
                    left -= self.env.now - began
                    self.broken += 1
                    with self.repairer.request(priority=1) as request:
                        yield request
                        yield self.env.timeout(REPAIR_MINUTES)
                    self.broken -= 1
                    self.repairs += 1
            self.parts[number] += 1

    def _fail(self, machine: simpy.Process) -> Process:
        while True:
            yield self.env.timeout(self.chance.expovariate(1 / FAILURE_EVERY))
            if not self.broken:
                machine.interrupt()

    def _other_work(self) -> Process:
        while True:
            left = OTHER_WORK_MINUTES
            while left:
                with self.repairer.request(priority=2) as request:
                    yield request
                    began = self.env.now
                    try:
                        yield self.env.timeout(left)
                        left = 0
                    except simpy.Interrupt:
                        left -= self.env.now - began
