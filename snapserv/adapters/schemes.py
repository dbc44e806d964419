"""Which adapter a scheme names.

An adapter is a module that has one function, ``adapt(rest)``, which returns the class for what is behind the colon.
What it is made for is imported there and not here, so that snapserv needs none of it. See docs/adapters.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from snapserv.errors import UnsupportedError

if TYPE_CHECKING:
    from snapserv.simulation.base import Simulation


class Adapter(NamedTuple):
    """Where an adapter is, the package that it is made for, and the extra that installs it."""

    module: str
    package: str
    extra: str


SCHEMES = {
    "gym": Adapter("snapserv.adapters.gymnasium", "gymnasium", "gymnasium"),
    "mesa": Adapter("snapserv.adapters.mesa", "mesa", "mesa"),
    "object": Adapter("snapserv.adapters.object", "", ""),
    "simpy": Adapter("snapserv.adapters.simpy", "simpy", "simpy"),
}
"""Every adapter by its scheme."""


def adapt(scheme: str, rest: str) -> type[Simulation]:
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
    found: type[Simulation] = module.adapt(rest)
    return found
