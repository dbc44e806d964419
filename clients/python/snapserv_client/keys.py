"""Key files: where they lie, how they are read, and how a socket is secured with them (CURVE, RFC 26 of ZeroMQ).

The files are those of `zmq.auth.create_certificates`: ``NAME.key`` with a public key for everybody, and
``NAME.key_secret`` with both keys for its owner alone. A client has a folder with two of them: ``server.key``,
which tells the right server from another, and ``client.key_secret``, which tells the server who asks.
"""

from __future__ import annotations

import ipaddress
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import zmq

from .errors import KeysError

KEYS_VARIABLE = "SNAPSERV_KEYS"
SERVER_KEY = "server.key"
CLIENT_SECRET = "client.key_secret"
KEY_CHARACTERS = 40
"""A key is 32 bytes, written in Z85 (RFC 32 of ZeroMQ)."""
HOW_TO_MAKE_KEYS = "make keys: snapserv keygen server; then for each client: snapserv keygen client NAME"


@dataclass(frozen=True)
class KeyPair:
    """A public key and its secret one, in Z85."""

    public: bytes
    secret: bytes


@dataclass(frozen=True)
class ClientKeys:
    """What a client needs: keys of its own, the public key of the server that it means, and the folder of both."""

    own: KeyPair
    server: bytes
    folder: Path | None = None

    def secure(self, socket: zmq.Socket[bytes]) -> None:
        """Have ``socket`` prove who it is, and encrypt, wherever it connects to."""
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.own.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.own.secret)
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server)


def default_folder() -> Path:
    """Return the folder of this user's keys: under XDG_CONFIG_HOME, or in ~/.config where that is not set."""
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "snapserv" / "keys"


def chosen_folder(endpoint: str, keys: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder of keys that is meant, or None for a connection without keys.

    That is ``keys``, for any endpoint. Otherwise ipc goes without, and tcp with those that SNAPSERV_KEYS names, or
    beyond loopback with the user's default ones, where there are any.
    """
    if keys is not None:
        return Path(keys).expanduser()
    if not endpoint.startswith("tcp://"):
        return None
    named = os.environ.get(KEYS_VARIABLE)
    if named:
        return Path(named).expanduser()
    folder = default_folder()
    return folder if beyond_loopback(endpoint) and folder.is_dir() else None


def keys_for(endpoint: str, keys: str | os.PathLike[str] | None) -> ClientKeys | None:
    """Return the keys that a client uses at ``endpoint``, or None; see `chosen_folder`.

    Raises:
        KeysError: A file is missing, is none, or others may read the secret one.
    """
    folder = chosen_folder(endpoint, keys)
    return None if folder is None else client_keys(folder)


def beyond_loopback(endpoint: str) -> bool:
    """Return whether other machines can be at the end of ``endpoint``."""
    if not endpoint.startswith("tcp://"):
        return False
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if host in ("localhost", "lo"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def client_keys(folder: Path) -> ClientKeys:
    """Return the keys of the client whose folder this is.

    Raises:
        KeysError: A file is missing, is none, or others may read the secret one.
    """
    return ClientKeys(read_pair(folder / CLIENT_SECRET), read_public(folder / SERVER_KEY), folder)


def read_public(path: Path) -> bytes:
    """Return the public key of a file.

    Raises:
        KeysError: There is none.
    """
    return _read(path)[0]


def read_pair(path: Path) -> KeyPair:
    """Return both keys of a secret file.

    Raises:
        KeysError: There are none, the file is another user's, or others may read it.
    """
    public, secret = _read(path, private=True)
    if secret is None:
        raise KeysError(f"{path} holds no secret key", hint=HOW_TO_MAKE_KEYS)
    return KeyPair(public, secret)


def _read(path: Path, *, private: bool = False) -> tuple[bytes, bytes | None]:
    from zmq.auth import load_certificate

    try:
        found = path.stat()
        if private and (found.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(found.st_mode) & 0o077):
            raise KeysError(
                f"{path} is a secret key, and others may use it", hint=f"make it yours alone: chmod 600 {path}"
            )
        public, secret = load_certificate(path)
    except FileNotFoundError as cause:
        raise KeysError(f"there is no {path}", hint=HOW_TO_MAKE_KEYS, details={"path": str(path)}) from cause
    except (OSError, ValueError) as cause:
        raise KeysError(f"{path} is no key file: {cause}", hint=HOW_TO_MAKE_KEYS) from cause
    for key in (public, secret):
        if key is not None and not _is_key(key):
            raise KeysError(f"{path} is no key file: a key has {KEY_CHARACTERS} characters of Z85")
    return public, secret


def _is_key(text: bytes) -> bool:
    from zmq.utils import z85

    try:
        return len(text) == KEY_CHARACTERS and len(z85.decode(text)) == 32
    except (KeyError, struct.error):  # how z85 says that a character, or five of them, are none of its own
        return False
