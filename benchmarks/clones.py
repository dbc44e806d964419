"""Ways to copy a running simulation by somebody else: is the copy faithful, and what does a copy and a step take?

The same model object is copied in each way. Faithful means that the copy goes on as the original does: the hash of
its next observations is the same. Every way is measured on what it copies faithfully, and the others say why not.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import pickle
import random
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import gymnasium
import msgspec
import numpy as np
import simpy
from snapserv_client import Branch, local

from snapserv import Simulation

AHEAD = 50
DEPTHS = (10, 100, 1000)
MODELS = ("CartPole-v1", "LunarLander-v3", "simpy shop")


class Model(Protocol):
    """A simulation that goes on for ever: an episode that ends is followed by the next."""

    def step(self, action: int) -> bytes:
        """Advance; return the observation's bytes."""
        ...


class Environment:
    """An environment of Gymnasium."""

    def __init__(self, env_id: str) -> None:
        self.env = gymnasium.make(env_id)
        self.episode = 0
        self.env.reset(seed=0)

    def step(self, action: int) -> bytes:
        """Do an action, and begin the next episode where this one ends."""
        observation, reward, terminated, truncated, _ = self.env.step(action)
        if terminated or truncated:
            self.episode += 1
            observation, _ = self.env.reset(seed=self.episode)
        return np.asarray(observation).tobytes() + np.float64(reward).tobytes()


class Shop:
    """Customers who queue for two counters, as generators of SimPy."""

    def __init__(self) -> None:
        self.env = simpy.Environment()
        self.counters = simpy.Resource(self.env, 2)
        self.chance = random.Random(0)
        self.served = 0
        self.env.process(self._arrive())

    def _arrive(self) -> Iterator[Any]:
        while True:
            yield self.env.timeout(self.chance.expovariate(1.0))
            self.env.process(self._shop())

    def _shop(self) -> Iterator[Any]:
        with self.counters.request() as counter:
            yield counter
            yield self.env.timeout(self.chance.expovariate(0.6))
        self.served += 1

    def step(self, action: int) -> bytes:
        """Run for a unit of time."""
        self.env.run(until=self.env.now + 1)
        return repr((self.env.now, self.served, self.counters.count, len(self.counters.queue))).encode()


def make(name: str) -> Model:
    """Return a fresh model."""
    return Shop() if name == "simpy shop" else Environment(name)


class Served(Simulation):
    """A model, served."""

    class Inputs(msgspec.Struct):
        """What to do."""

        action: int = 0

    def setup(self, name: str = "CartPole-v1") -> None:
        """Make it."""
        self.model = make(name)

    def step(self, inputs: Inputs) -> dict[str, bytes]:
        """Advance."""
        return {"observation": self.model.step(inputs.action)}


def actions(count: int, seed: int) -> list[int]:
    """Return actions that every model takes."""
    chance = random.Random(seed)
    return [chance.randrange(2) for _ in range(count)]


def hashed(observations: Iterator[bytes]) -> str:
    """Return a hash of observations."""
    total = hashlib.sha256()
    for observation in observations:
        total.update(observation)
    return total.hexdigest()


def run_on(model: Model) -> str:
    """Return the hash of a model's next observations."""
    return hashed(model.step(action) for action in actions(AHEAD, 99))


# ------------------------------------------------------------------------------------ ways within this process


def deep(model: Model) -> Model:
    """Copy every object that it reaches."""
    return copy.deepcopy(model)


def pickled(model: Model) -> Model:
    """Write it down and read it again."""
    copied: Model = pickle.loads(pickle.dumps(model))
    return copied


def forked(model: Model, work: Callable[[Model], bytes]) -> bytes:
    """Return what ``work`` gives in a forked child, through a pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, work(model))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def measure(rounds: int) -> dict[str, Any]:
    """Return a row for each model and way: faithful or why not, and microseconds of a copy and a step, p50."""
    rows = []
    for name in MODELS:
        ways: dict[str, tuple[Callable[[], str], Callable[[], object]]] = {}
        here = make(name)
        for action in actions(DEPTHS[0], 1):
            here.step(action)
        ways["copy.deepcopy"] = (lambda m=here: run_on(deep(m)), lambda m=here: deep(m).step(0))  # type: ignore[misc]
        ways["pickle"] = (lambda m=here: run_on(pickled(m)), lambda m=here: pickled(m).step(0))  # type: ignore[misc]
        ways["os.fork and a pipe"] = (
            lambda m=here: forked(m, lambda m: run_on(m).encode()).decode(),  # type: ignore[misc]
            lambda m=here: forked(m, lambda m: m.step(0)),  # type: ignore[misc]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Before there is a client here, whose threads are none of a fork's affair.
            found = {way: _measured(proof, work, rounds) for way, (proof, work) in ways.items()}
            found |= _served(name, rounds)
        expected = run_on(here)  # the original goes on last: it is changed by it
        for way, row in found.items():
            said = (
                "yes" if row["hash"] == expected else row["hash"] if row["failed"] else "no: it goes on differently"
            )
            rows.append({"model": name, "way": way, "faithful": said, "copy and step us": row["us"]})
        rows += _replayed(name, rounds)
    return {"rows": rows, "ahead": AHEAD}


def _served(name: str, rounds: int) -> dict[str, dict[str, Any]]:
    with local("benchmarks.clones:Served", name=name) as server:
        main = server.branch("main")
        for action in actions(DEPTHS[0], 1):
            main.step(action=action)
        before = main.snapshot()
        found = {
            "snapserv, branch": _measured(lambda: _branched(before), lambda: _stepped(before), rounds),
            "snapserv, expand of 1": _measured(lambda: _expanded(before), lambda: before.expand([{}]), rounds),
            "snapserv, each of an expand of 64": _measured(
                lambda: _expanded(before), lambda: before.expand([{}] * 64), max(3, rounds // 10)
            ),
        }
    found["snapserv, each of an expand of 64"]["us"] /= 64
    return found


def _replayed(name: str, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for depth in DEPTHS:
        original, given = make(name), actions(depth, 1)
        for action in given:
            original.step(action)

        def again(name: str = name, given: list[int] = given) -> Model:
            model = make(name)
            for action in given:
                model.step(action)
            return model

        found = _measured(lambda: run_on(again()), lambda: again().step(0), max(3, rounds * 10 // depth))
        same = found["hash"] == run_on(original)
        said = "yes" if same else found["hash"] if found["failed"] else "no: it goes on differently"
        rows.append(
            {"model": name, "way": f"replay of {depth} steps", "faithful": said, "copy and step us": found["us"]}
        )
    return rows


def _measured(proof: Callable[[], str], work: Callable[[], object], rounds: int) -> dict[str, Any]:
    try:
        proven = proof()
    except Exception as cause:  # noqa: BLE001 - how it fails is what is measured
        said = ": ".join(filter(None, (type(cause).__name__, str(cause).partition("\n")[0][:60])))
        return {"hash": f"no: {said}", "failed": True, "us": None}
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return {"hash": proven, "failed": False, "us": float(np.median(times)) * 1e6}


def _branched(before: Any) -> str:
    with _temporary(before.branch()) as branch:
        return hashed(branch.step(action=action).outputs["observation"] for action in actions(AHEAD, 99))


def _stepped(before: Any) -> None:
    with _temporary(before.branch()) as branch:
        branch.step(action=0)


def _expanded(before: Any) -> str:
    inputs = [{"action": action} for action in actions(AHEAD, 99)]
    prefixes = [inputs[: count + 1] for count in range(AHEAD)]
    return hashed(outcome["observation"] for outcome in before.expand(prefixes))


@contextlib.contextmanager
def _temporary(branch: Branch) -> Iterator[Branch]:
    try:
        yield branch
    finally:
        branch.drop()
