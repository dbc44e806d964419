"""snapserv: git for live simulations.

An author writes a `Simulation` with `Field` s and marks methods for clients with `exported`; ``snapserv serve
MODULE:CLASS`` serves it. Clients use the package ``snapserv_client``.

Names are imported on first use: a command line needs none of them, and what they need takes longer to load than it.
"""

import importlib
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .simulation.base import Simulation, exported
    from .simulation.fields import Field


def _compiled(folder: str) -> bool:
    return any(os.path.isfile(f"{folder}/ext/fork{suffix}") for suffix in EXTENSION_SUFFIXES)


def _installed() -> str:
    """Return where the installed snapserv is, for sources that are found before it: in a clone's own folder.

    Raises:
        ImportError: There is none.
    """
    for entry in sys.path:
        if _compiled(f"{entry or os.getcwd()}/snapserv"):
            return f"{entry or os.getcwd()}/snapserv"
    raise ImportError(f"{__path__[0]} is not compiled for this Python, and no other snapserv is: pip install .")


if not _compiled(__path__[0]):
    __path__[:] = [_installed()]

__all__ = ["Field", "Simulation", "__version__", "exported"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(".simulation.base", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
