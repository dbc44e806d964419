"""snapserv: git for live simulations.

An author writes a `Simulation` with `Field` s and marks methods for clients with `exported`; ``snapserv serve
MODULE:CLASS`` serves it. Clients use the package ``snapserv_client``.

This module imports little, because the processes that hold simulations import it.
"""

from .simulation.base import Field, Simulation, exported

__all__ = ["Field", "Simulation", "__version__", "exported"]
__version__ = "0.1.0"
