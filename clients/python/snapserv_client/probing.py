"""Why a server does not answer: what there is at its address, asked in the first bytes that ZeroMQ exchanges.

Whoever listens by ZeroMQ greets whoever connects, before anything else: 64 bytes, of which the first twelve say so, and
the next twenty how it wants clients to prove who they are (RFC 37 of ZeroMQ). So a plain socket can tell a server that
wants keys from one that hangs and from an address at which nobody is.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from .errors import UnreachableError
from .keys import KEYS_VARIABLE, ClientKeys

GREETS_WITHIN_S = 0.5
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_VERSION = b"\x03"
_MECHANISM = slice(12, 32)
START_ONE = "start one with: snapserv serve MODULE:CLASS"
KEYS_ARE_GIVEN = f"--keys FOLDER or {KEYS_VARIABLE} in the shell, connect(..., keys=FOLDER) in Python"


def why_unreachable(endpoint: str, keys: ClientKeys | None, waited_s: float) -> UnreachableError:
    """Return the error for a server that did not answer in time, with what there is in its place.

    Args:
        endpoint: Its address.
        keys: What the client proves itself with.
        waited_s: For how long it was waited for.
    """
    try:
        mechanism = greeting_of(endpoint)
    except ConnectionRefusedError:
        told = "a server was here, and has ended" if endpoint.startswith("ipc://") else "nobody listens there"
        return _error(endpoint, told, START_ONE, "refused")
    except TimeoutError:
        told = f"a process is there that has not answered in {waited_s:g} s: stopped, hung, or no server of snapserv"
        return _error(endpoint, told, "see its log and state; restart it if it stays so", "silent")
    except OSError as cause:
        told = str(cause.strerror or cause)
        return _error(endpoint, told, f"check the address; {START_ONE}", "no_way")
    if mechanism == "CURVE" and keys is None:
        told = "this server wants keys, and none were given"
        return _error(endpoint, told, f"give yours: {KEYS_ARE_GIVEN}; {_ask_for_some()}", "wants_keys")
    if mechanism == "CURVE":
        told = "this server wants keys, and does not take these"
        hint = f"it does not know this client, or {_folder(keys)}/server.key is another server's; {_ask_for_some()}"
        return _error(endpoint, told, hint, "keys_refused")
    if keys is not None:
        told = "keys were given, and this server asks for none"
        return _error(endpoint, told, f"connect without keys, or check the address: {_folder(keys)}", "wants_no_keys")
    told = f"a process is there that has not answered in {waited_s:g} s: busy, hung, or no server of snapserv"
    return _error(endpoint, told, "see its log; wait for longer with connect(timeout_s=...)", "silent")


def greeting_of(endpoint: str) -> str:
    """Return how whoever listens at an address wants clients to prove who they are: NULL, PLAIN or CURVE.

    Raises:
        ConnectionRefusedError: Nobody listens there.
        TimeoutError: Somebody does, and does not greet.
        OSError: There is no way there.
    """
    with _connected(endpoint) as stream:
        stream.sendall(_SIGNATURE + _VERSION)
        greeting = b""
        while len(greeting) < _MECHANISM.stop:
            received = stream.recv(_MECHANISM.stop - len(greeting))
            if not received:
                raise TimeoutError("it hung up without a greeting")
            greeting += received
    if greeting[: len(_SIGNATURE)][::9] != _SIGNATURE[::9]:
        raise TimeoutError("what is there speaks no ZeroMQ")
    return greeting[_MECHANISM].rstrip(b"\0").decode("ascii", "replace")


def _connected(endpoint: str) -> socket.socket:
    if endpoint.startswith("ipc://"):
        path = endpoint.removeprefix("ipc://")
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(f"{path} is no socket")
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.settimeout(GREETS_WITHIN_S)
            stream.connect(path)
        except BaseException:
            stream.close()
            raise
        return stream
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if not port.isdigit():
        raise OSError(f"{endpoint} names no port")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=GREETS_WITHIN_S)


def _error(endpoint: str, told: str, hint: str, reason: str) -> UnreachableError:
    details = {"endpoint": endpoint, "reason": reason}
    return UnreachableError(f"no server answers at {endpoint}: {told}", hint=hint, details=details)


def _ask_for_some() -> str:
    return "whoever runs it makes them: snapserv keygen client NAME"


def _folder(keys: ClientKeys | None) -> Path:
    return keys.folder if keys is not None and keys.folder is not None else Path("the folder")
