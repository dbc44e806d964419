"""The keys of a cluster: made when it begins, in nobody's files but its hosts' own, handed out through Ray."""

from __future__ import annotations

from pathlib import Path

import zmq

from ..keys import CLIENT_SECRET, SERVER_KEY, ClientKeys, KeyPair
from .facts import ClusterKeys

SERVER_SECRET = "server.key_secret"
AUTHORIZED = "authorized_clients"


def make_keys() -> ClusterKeys:
    """Return new keys."""
    server, client = (tuple(key.decode() for key in zmq.curve_keypair()) for _ in range(2))
    return ClusterKeys(*server, *client)


def client_keys(keys: ClusterKeys) -> ClientKeys:
    """Return what a client of any of the cluster's servers needs."""
    own = KeyPair(keys.client_public.encode(), keys.client_secret.encode())
    return ClientKeys(own, keys.server_public.encode())


def write_server_keys(folder: Path, keys: ClusterKeys) -> None:
    """Write the folder of keys that a server is started with, which lets in who joined the cluster alone."""
    for each in (folder, folder / AUTHORIZED, folder / AUTHORIZED / "read-only"):
        each.mkdir(mode=0o700)
    _write(folder / SERVER_SECRET, keys.server_public, keys.server_secret)
    _write(folder / SERVER_KEY, keys.server_public)
    _write(folder / AUTHORIZED / "cluster.key", keys.client_public)


def write_client_keys(folder: Path, keys: ClusterKeys) -> None:
    """Write a client's folder of keys, for programs that take nothing else."""
    folder.mkdir(mode=0o700, exist_ok=True)
    _write(folder / CLIENT_SECRET, keys.client_public, keys.client_secret)
    _write(folder / SERVER_KEY, keys.server_public)


def _write(path: Path, public: str, secret: str | None = None) -> None:
    lines = ["metadata", "curve", f'    public-key = "{public}"']
    lines += [] if secret is None else [f'    secret-key = "{secret}"']
    path.touch(0o600)
    path.write_text("\n".join(lines) + "\n")
