"""Models of SimPy: ``simpy:MODULE:FACTORY``, where FACTORY is called with an Environment and setup's parameters.

A process of SimPy is a generator, which can be neither copied nor pickled, and a fork copies it like anything else.
What FACTORY returns is the model: resources among its attributes are outputs by their names, and so is whatever its
attribute ``monitored`` names.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import msgspec
import simpy
from simpy.events import URGENT
from simpy.resources.container import Container
from simpy.resources.resource import Resource
from simpy.resources.store import Store
from snapserv_client.plain import Value

from snapserv.errors import BadRequestError
from snapserv.simulation.base import Simulation, exported

from .attributes import attributes
from .forwarding import Wrapping
from .wrapping import found, names, refuse_suspended, sendable


def adapt(rest: str) -> type[Simulation]:
    """Return the class that serves the model that ``rest`` names.

    Raises:
        BadRequestError: It is itself a process, and makes none.
    """
    factory = found(rest, "model")
    refuse_suspended(factory, rest)
    name = getattr(factory, "__name__", "Model")
    doc = inspect.getdoc(factory) or f"The SimPy model {rest}."
    return type(name, (SimPySimulation,), {"factory": staticmethod(factory), "__doc__": doc})


class SimPySimulation(Wrapping):
    """A model of SimPy. A tick runs it for a while."""

    supplied = 1

    class Inputs(msgspec.Struct):
        """Until when, in the model's time; or else for how long. Attributes are ``set`` before."""

        until: float | None = None
        delta: Annotated[float, msgspec.Meta(gt=0)] = 1.0
        set: dict[str, Value] | None = None

    def make(self, **params: Any) -> Any:
        """Return the model, with an environment of its own."""
        self.env = simpy.Environment()
        return type(self).factory(self.env, **params)

    def step(self, inputs: Inputs) -> dict[str, Value]:
        """Run until a time, or for a while; where it is that time already, nothing happens.

        Raises:
            BadRequestError: That time is before now.
        """
        until = self.env.now + inputs.delta if inputs.until is None else inputs.until
        if not until >= self.env.now:
            raise BadRequestError(f"until {until:g}, and it is {self.env.now:g}", hint="time does not go back")
        self.put(self.prepare_settings(inputs.set))
        if until == self.env.now:
            return self.outputs()  # the second tick of a request with ``until``, and those after it
        self.env.run(until=until)
        # SimPy 4.1.2 puts the event that ended the run back, to be looked at once more: nothing happens in it.
        if self.env._queue and self.env._queue[0][1] < URGENT:
            self.env.step()
        return self.outputs()

    @property
    def finished(self) -> bool:  # type: ignore[override]  # the environment says so, and nobody sets it
        """Whether there is nothing more to happen."""
        return bool(self.env.peek() == float("inf"))

    @exported
    def outputs(self) -> dict[str, Value]:
        """Return the time, the number of events to come, resources and monitored values."""
        said: dict[str, Any] = {}
        for name, value in attributes(self.model).items():
            described = _resource(value)
            if described is not None:
                said[name] = described
        for name in names(getattr(self.model, "monitored", ())):
            said[name] = sendable(getattr(self.model, name))
        return {**said, "now": self.env.now, "events": len(self.env._queue)}


def _resource(value: Any) -> dict[str, Any] | None:
    match value:
        case Resource():
            return {"count": value.count, "capacity": value.capacity, "queue": len(value.queue)}
        case Container():
            return {"level": value.level, "capacity": value.capacity, **_waiting(value)}
        case Store():
            return {"items": len(value.items), "capacity": value.capacity, **_waiting(value)}
    return None


def _waiting(value: Any) -> dict[str, int]:
    return {"putting": len(value.put_queue), "getting": len(value.get_queue)}
