# Generated from ../aio/connecting.py by generate_sync.py: change that one, and run `make client`.
"""The ways to a server: one that runs, or a private one."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..connection import REQUEST_TIMEOUT_S, START_WITHIN_S
from ..endpoint import chosen_endpoint
from ..keys import keys_for
from ..plain import Sendable
from .connection import Connection
from .own import blocking
from .server import Server


def connect(
    endpoint: str | None = None,
    *,
    name: str | None = None,
    keys: str | os.PathLike[str] | None = None,
    timeout_s: float = 1.0,
    request_timeout_s: float | None = REQUEST_TIMEOUT_S,
) -> Server:
    """Connect to a server.

    Args:
        endpoint: ``ipc:///PATH`` or ``tcp://HOST:PORT``; SNAPSERV_ENDPOINT or the user's default server otherwise.
        name: What a server of this user's was called when it was started, with ``snapserv serve --name``.
        keys: A folder with this client's keys and the server's public one, as ``snapserv keygen client`` makes it.
            By default ipc goes without keys, and tcp with those that SNAPSERV_KEYS names, or beyond loopback with
            the user's own in ~/.config/snapserv/keys, where there are any.
        timeout_s: How long the server may take to answer the first time.
        request_timeout_s: How long any request may take that does not run the simulation's code; None for ever.

    Raises:
        UnreachableError: Nobody answers there; says how to start a server. A server that does not know the key
            does not answer either.
        KeysError: A key file is missing, or others may use the secret one.
        UntrustedError: An ipc socket or its folder is another user's, or others may write to the folder.
        VersionMismatchError: The server speaks another version of the protocol.
    """
    chosen = chosen_endpoint(endpoint, name)
    server = Server(Connection(chosen, request_timeout_s, keys_for(chosen, keys)))
    try:
        server.greet(timeout_s)
    except BaseException:
        server.close()
        raise
    return server


def local(
    target: str | type,
    /,
    *,
    backing: str | None = None,
    branch_dirs: Sequence[str | os.PathLike[str]] = (),
    start_within_s: float = START_WITHIN_S,
    **params: Sendable,
) -> Server:
    """Start a private server and connect to it; closing the connection ends it.

    Args:
        target: ``"module:Class"``, ``"path/to/file.py:Class"`` or the class itself; a class of a notebook or of a
            script is taken by value.
        backing: The arena's backing; the best that there is by default.
        branch_dirs: Folders that each node sees as it wrote it itself, besides those that the simulation names.
        start_within_s: How long ``setup`` may take.
        **params: Parameters of ``setup``.

    Raises:
        UnreachableError: snapserv, the server's package, is not installed here.
        SnapservError: What the start of the server met: no such simulation, or its setup raised.
    """
    from ..private import PrivateServer  # with what starts and ends processes

    started = blocking(PrivateServer, target, backing, branch_dirs, start_within_s, params)
    try:
        server = connect(started.endpoint, timeout_s=10.0)
    except BaseException:
        blocking(started.end)
        raise
    server._on_close = started.end
    return server
