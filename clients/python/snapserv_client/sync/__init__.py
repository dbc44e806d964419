"""The synchronous client. Users come in by way of `snapserv_client`; it uses all of that but `aio`, and no asyncio.

A connection belongs to the thread and the process that made it, because its ZeroMQ socket does: every use from
elsewhere is refused. ``connection.py``, ``own.py`` and ``pickled.py`` are its own; the others are generated from
`aio`.
"""

from . import pickled as pickled
from .branch import Branch
from .connecting import connect, local
from .connection import Connection
from .node import Node, Snapshot
from .server import Server

__all__ = ["Branch", "Connection", "Node", "Server", "Snapshot", "connect", "local"]
