"""Making keys: the server's own, and a folder for each client with all that it needs.

::

    keys/                              0700
      server.key  server.key_secret    the server's keys
      authorized_clients/              whom the server lets in: public keys
        ana.key
        read-only/
          rob.key                      may only read
      clients/
        ana/                           to be handed to its owner, as it is
          client.key_secret  server.key
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import zmq
from snapserv_client.keys import CLIENT_SECRET, HOW_TO_MAKE_KEYS, SERVER_KEY, KeyPair, read_pair
from snapserv_client.protocol import NAME_PATTERN

from ..errors import BadRequestError, KeysError
from .access import SERVER_SECRET
from .authorized import FOLDER, READ_ONLY, SUFFIX

CLIENTS = "clients"


@dataclass(frozen=True)
class MadeKeys:
    """What was made: the public key, the files, and what its owner does with them."""

    public: str
    files: list[str]
    next: str


def make_server_keys(keys: Path) -> MadeKeys:
    """Make the server's keys, and the folders of whom it lets in.

    Raises:
        KeysError: There are keys already, or no permission.
    """
    secret, public = keys / SERVER_SECRET, keys / SERVER_KEY
    _refuse_existing(secret, public)
    pair = _new_pair()
    for folder in (keys, keys / FOLDER, keys / FOLDER / READ_ONLY):
        _make_folder(folder)
    _write(secret, pair, with_secret=True)
    _write(public, pair)
    return MadeKeys(pair.public.decode(), [str(secret), str(public)], "snapserv keygen client NAME")


def make_client_keys(keys: Path, name: str, *, read_only: bool) -> MadeKeys:
    """Make a client's keys, and have the server let it in.

    Raises:
        BadRequestError: The name is none.
        KeysError: The server has no keys, there is such a client already, or no permission.
    """
    if not re.match(NAME_PATTERN, name):
        raise BadRequestError(f"{name!r} is no name", hint="letters, digits and _.- are allowed, not first . or -")
    server = read_pair(keys / SERVER_SECRET)
    authorized = keys / FOLDER
    bundle = keys / CLIENTS / name
    public = (authorized / READ_ONLY if read_only else authorized) / f"{name}{SUFFIX}"
    _refuse_existing(authorized / f"{name}{SUFFIX}", authorized / READ_ONLY / f"{name}{SUFFIX}", bundle)
    pair = _new_pair()
    for folder in (public.parent, keys / CLIENTS, bundle):
        _make_folder(folder)
    _write(bundle / CLIENT_SECRET, pair, with_secret=True)
    _write(bundle / SERVER_KEY, KeyPair(server.public, b""))
    _write(public, pair)  # last: whom the server lets in has all of its files
    files = [str(bundle / CLIENT_SECRET), str(bundle / SERVER_KEY), str(public)]
    return MadeKeys(pair.public.decode(), files, f"give {bundle} to its owner, who sets SNAPSERV_KEYS to it")


def _new_pair() -> KeyPair:
    return KeyPair(*zmq.curve_keypair())


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise KeysError(
                f"{path} is there already", hint="keys are never overwritten: choose another, or remove it"
            )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as cause:
        raise KeysError(f"{folder}: {cause.strerror}", hint="choose another folder with --keys") from cause


def _write(path: Path, pair: KeyPair, *, with_secret: bool = False) -> None:
    """Write a file as `zmq.auth.create_certificates` does, but readable by others at no moment."""
    lines = ["# made by snapserv keygen", "metadata", "curve", f'    public-key = "{pair.public.decode()}"']
    if with_secret:
        lines[0] += "; a secret: give it to nobody but its owner"
        lines.append(f'    secret-key = "{pair.secret.decode()}"')
    try:
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if with_secret else 0o644
        )
        with os.fdopen(descriptor, "w") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as cause:
        raise KeysError(f"{path}: {cause.strerror}", hint=HOW_TO_MAKE_KEYS) from cause
