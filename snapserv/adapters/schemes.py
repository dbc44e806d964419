"""Which adapter a scheme names: one of those here, or one that another package brings.

An adapter is a function ``adapt(rest)``, which returns the class for what is behind the colon. Those here are in
modules that import what they are made for, so that snapserv needs none of it. Another package names its own as an
entry point of the group ``snapserv.adapters``, by its scheme. See docs/adapters.md.

Source: the entry points specification, https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from snapserv.errors import SimulationError, UnsupportedError

if TYPE_CHECKING:
    from snapserv.simulation.base import Simulation

GROUP = "snapserv.adapters"


class Adapt(Protocol):
    """Makes a class of what is behind the colon."""

    def __call__(self, rest: str, /) -> type[Simulation]:
        """Return the class that serves it."""


class Adapter(NamedTuple):
    """Where an adapter is, the package that it is made for, and the extra that installs it."""

    module: str
    package: str
    extra: str


SCHEMES = {
    "dm": Adapter("snapserv.adapters.dm", "dm_env", "dm"),
    "fmu": Adapter("snapserv.adapters.fmu", "fmpy", "fmu"),
    "gym": Adapter("snapserv.adapters.gymnasium", "gymnasium", "gymnasium"),
    "mesa": Adapter("snapserv.adapters.mesa", "mesa", "mesa"),
    "mujoco": Adapter("snapserv.adapters.mujoco", "mujoco", "mujoco"),
    "object": Adapter("snapserv.adapters.object", "", ""),
    "openspiel": Adapter("snapserv.adapters.openspiel", "pyspiel", "openspiel"),
    "pettingzoo": Adapter("snapserv.adapters.pettingzoo", "pettingzoo", "pettingzoo"),
    "simpy": Adapter("snapserv.adapters.simpy", "simpy", "simpy"),
}
"""Every adapter that is here, by its scheme."""


def adapter_of(scheme: str) -> Adapt | None:
    """Return the adapter of a scheme; None where there is none.

    Raises:
        SimulationError: Several packages bring one, or the one that does cannot be imported.
    """
    if scheme in SCHEMES:
        return lambda rest: _adapt(scheme, rest)
    if not scheme.isidentifier():
        return None
    from importlib import metadata  # takes as long as all else that is imported here

    found = {each.value: each for each in metadata.entry_points(group=GROUP, name=scheme)}
    if not found:
        return None
    if len(found) > 1:
        raise SimulationError(
            f"{len(found)} packages bring an adapter for {scheme}: {', '.join(sorted(found))}",
            hint="uninstall all but one of them",
        )
    (only,) = found.values()
    try:
        adapt: Adapt = only.load()
    except (ImportError, AttributeError) as cause:
        raise SimulationError(f"the adapter {only.value} for {scheme} cannot be imported: {cause}") from cause
    return adapt


def _adapt(scheme: str, rest: str) -> type[Simulation]:
    """Return the class that ``scheme:rest`` names.

    Raises:
        UnsupportedError: What it is made for is not installed; says which extra installs it.
        BadRequestError: The adapter makes nothing of ``rest``.
        NotFoundError: There is no such thing; close matches are named.
    """
    adapter = SCHEMES[scheme]
    try:
        module = importlib.import_module(adapter.module)
    except ModuleNotFoundError as cause:
        if cause.name != adapter.package:
            raise
        raise UnsupportedError(
            f"{scheme}:{rest} needs {adapter.package}, which is not installed",
            hint=f"pip install 'snapserv[{adapter.extra}]'",
        ) from cause
    except Exception as cause:
        raise unusable(f"{scheme}:{rest}", adapter.package, cause) from cause
    found: type[Simulation] = module.adapt(rest)
    return found


def unusable(target: str, package: str, cause: Exception) -> UnsupportedError:
    """Return the error for a package that is installed and cannot be imported."""
    drawn = os.environ.get("MUJOCO_GL")
    return UnsupportedError(
        f"{target} needs {package}, which cannot be imported here: {type(cause).__name__}: {cause}",
        hint=f"MUJOCO_GL={drawn} is set, and must be installed: unset it, or see that `import mujoco` works"
        if drawn
        else f"see that `import {package}` works in the environment that the server runs in",
    )
