"""The client for asyncio: the same names as `snapserv_client`, awaited. Many requests may be in flight at once.

Cancelling the task that awaits a step interrupts the step: the branch stops between two ticks.
Users come in here. ``connection.py`` and ``own.py`` are its own; its other modules are the source of `sync` too.
"""

from .branch import Branch
from .connecting import connect, local
from .connection import Connection
from .node import Node, Snapshot
from .server import Server

__all__ = ["Branch", "Connection", "Node", "Server", "Snapshot", "connect", "local"]
