"""Servers and nodes in another process: what stands for them is pickled as an address, and connected to there.

A process connects once to each server that it is sent, for each of its threads, and is disconnected when nothing
there stands for that server any more. Keys travel as the folder that they are in, and never themselves.
"""

from __future__ import annotations

import copyreg
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import KeysError, NotFoundError
from .branch import Branch, DirectBranch
from .connecting import connect
from .node import Node, Snapshot
from .server import Server


class Address(NamedTuple):
    """How to get to a server.

    Attributes:
        endpoint: Where it listens.
        keys: The folder with this client's keys; None without.
        request_timeout_s: As for `connect`.
    """

    endpoint: str
    keys: Path | None
    request_timeout_s: float | None


CONNECT_WITHIN_S = 10.0
_known: weakref.WeakValueDictionary[tuple[Address, int, int], Server] = weakref.WeakValueDictionary()


def server_at(address: Address) -> Server:
    """Return the server at an address, as this thread knows it.

    Raises:
        UnreachableError: Nobody answers there.
        KeysError: The folder of keys is not here.
    """
    key = (address, os.getpid(), threading.get_ident())
    found = _known.get(key)
    if found is None or found._connection.closed:
        endpoint, keys, request_timeout_s = address
        found = connect(endpoint, keys=keys, timeout_s=CONNECT_WITHIN_S, request_timeout_s=request_timeout_s)
        found._closes_itself = True
        _known[key] = found
    return found


def node_of(server: Server, number: int, name: str, created: float) -> Branch | Snapshot:
    """Return a node of a server: that very one, and no other that is called so by now.

    Raises:
        NotFoundError: It is gone.
    """
    node = server.node(number)
    if node.last.created != created:
        raise NotFoundError(
            f"{name} is gone: another server is at {server.endpoint} now, and its node {number} is {node.name}",
            hint="tree lists what is there",
        )
    return node


def _address(server: Server) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    keys = server._connection.keys
    if keys is not None and keys.folder is None:
        raise KeysError("keys that are in no folder are not pickled", hint="connect with keys=FOLDER")
    address = Address(server.endpoint, None if keys is None else keys.folder, server._connection.timeout_s)
    return server_at, (address,)


def _which(node: Node) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return node_of, (node._server, node.id, node.name, node.last.created)


def _direct_of(branch: Branch) -> DirectBranch:
    return branch.direct()


def _directly(node: DirectBranch) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return _direct_of, (Branch(node._server, node.last),)


copyreg.pickle(Server, _address)
copyreg.pickle(Branch, _which)
copyreg.pickle(DirectBranch, _directly)
copyreg.pickle(Snapshot, _which)
