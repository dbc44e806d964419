"""Find the simulation that somebody named: ``module:Class``, ``path/to/file.py:Class``, or ``gym:CartPole-v1``."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

from ..adapters.schemes import adapter_of
from ..errors import BadRequestError
from ..simulation.base import Simulation
from ..simulation.blame import AuthorsCode
from ..simulation.checking import check
from ..simulation.modules import load_object


def load_simulation(target: str) -> type[Simulation]:
    """Return the class that ``target`` names.

    ``gym:CartPole-v1`` and the like are other people's simulators; see `snapserv.adapters.schemes`.
    ``pickle:/file`` is a class that ``snapserv_client.local`` wrote by value for a notebook, on this machine and
    by this user; nothing that comes over the network is ever unpickled.

    Raises:
        BadRequestError: Not of the form ``module:Class``, or no simulation.
        NotFoundError: No such module or class; close matches are named.
        SimulationError: The module raised while it was imported, or what it holds while it was looked at, where
            ``details`` has the traceback; or the class is none that can be served, see `simulation.checking.check`.
        UnsupportedError: An adapter for a package that is not installed; names the extra.
    """
    scheme, _, rest = target.partition(":")
    with AuthorsCode(f"looking {target} up"):  # what is found there is asked for its signature, and more
        if scheme == "pickle" and rest:
            return _checked(pickle.loads(Path(rest).read_bytes()), target)
        if rest and (adapt := adapter_of(scheme)) is not None:
            return adapt(rest)
        return _checked(load_object(target, wanted="class", fits=_is_simulation), target)


def _checked(found: object, target: str) -> type[Simulation]:
    if not _is_simulation(found):
        raise BadRequestError(
            f"{target} is not a subclass of snapserv.Simulation", hint="object:MODULE:NAME serves any object"
        )
    kind: type[Simulation] = found  # type: ignore[assignment]  # it is one
    check(kind)
    return kind


def _is_simulation(found: object) -> bool:
    return inspect.isclass(found) and issubclass(found, Simulation) and found is not Simulation
