"""Models of Mesa: ``mesa:MODULE:MODEL``. What its data collector reports are the outputs of a step.

Parameters of the model's ``step`` are the inputs.
"""

from __future__ import annotations

import inspect

import mesa  # type: ignore[import-untyped]
import msgspec
from snapserv_client.plain import Value

from snapserv.errors import BadRequestError
from snapserv.simulation.base import Simulation, exported

from .attributes import attribute
from .forwarding import Stepping, forwarded_by
from .wrapping import found, names, sendable


def adapt(rest: str) -> type[Simulation]:
    """Return the class that serves the model that ``rest`` names.

    Raises:
        BadRequestError: It is no model of Mesa.
    """
    factory = found(rest, "model")
    if not (inspect.isclass(factory) and issubclass(factory, mesa.Model)):
        raise BadRequestError(f"{rest} is no subclass of mesa.Model", hint="object:MODULE:CLASS serves any object")
    doc = inspect.getdoc(factory) or f"The Mesa model {rest}."
    forwarded_by(factory, MesaSimulation, names(getattr(factory, "exported", ())))  # said before setup
    said = {"factory": staticmethod(factory), "__doc__": doc, **Stepping.stepped_by(factory, "step")}
    return type(factory.__name__, (MesaSimulation,), said)


class MesaSimulation(Stepping):
    """A model of Mesa."""

    def step(self, inputs: msgspec.Struct) -> dict[str, Value]:
        """Let the model step."""
        self.advance(inputs)
        return self.outputs()

    @property
    def finished(self) -> bool:  # type: ignore[override]  # the model says so, and nobody sets it
        """Whether the model has stopped running."""
        return not self.model.running

    @exported
    def outputs(self) -> dict[str, Value]:
        """Return the number of steps and of agents, and what the data collector has reported last."""
        last = {name: values[-1] for name, values in self.collected().items() if values}
        return {**last, "steps": int(self.model.steps), "agents": len(self.model.agents)}

    @exported
    def collected(self) -> dict[str, list[Value]]:
        """Return all that the data collector has reported of the model, by name."""
        collector = getattr(self.model, "datacollector", None)
        return {} if collector is None else sendable(dict(collector.model_vars))

    @exported
    def agents(self, name: str) -> list[Value]:
        """Return an attribute of every agent, in order."""
        return [attribute([agent], name) for agent in self.model.agents]
