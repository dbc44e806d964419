"""Why a server does not answer: what there is at its address, asked in the first bytes that ZeroMQ exchanges.

Whoever listens by ZeroMQ greets whoever connects, before anything else: 64 bytes, of which the first twelve say so,
and the next twenty how it wants clients to prove who they are (RFC 37 of ZeroMQ). So a plain socket can tell a
server that wants keys from one that hangs and from an address at which nobody is.
"""

from __future__ import annotations

import socket
from pathlib import Path

from .errors import UnreachableError
from .keys import KEYS_VARIABLE, ClientKeys

GREETS_WITHIN_S = 0.5
_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_VERSION = b"\x03"
_MECHANISM = slice(12, 32)
START_ONE = "start one with: snapserv serve MODULE:CLASS"
ASK_FOR_SOME = "whoever runs it makes them: snapserv keygen client NAME"


def why_unreachable(endpoint: str, keys: ClientKeys | None, waited_s: float) -> UnreachableError:
    """Return the error for a server that did not answer in time, with what there is in its place.

    Args:
        endpoint: Its address.
        keys: What the client proves itself with.
        waited_s: For how long it was waited for.
    """
    mechanism = None
    try:
        mechanism = greeting_of(endpoint)
        _refuse_mechanism(endpoint, keys, mechanism)
    except UnreachableError as error:
        return error
    except TimeoutError:
        pass
    except OSError as cause:
        return _no_way(endpoint, cause)
    if mechanism == "CURVE":
        told = "this server wants keys, and does not take these"
        hint = f"it does not know this client, or {_folder(keys)}/server.key is another server's; {ASK_FOR_SOME}"
        return _error(endpoint, told, hint, "keys_refused")
    state = "stopped, hung" if mechanism is None else "busy, hung"
    told = f"a process is there that has not answered in {waited_s:g} s: {state}, or no server of snapserv"
    return _error(endpoint, told, "see its log and whether it is stopped; restart it if it stays so", "silent")


def refuse(endpoint: str, keys: ClientKeys | None, within_s: float) -> bool:
    """Refuse an address at which nobody will ever answer; return whether somebody is there who may be waited for.

    Raises:
        UnreachableError: Nobody listens there, or who does wants keys, or wants none.
    """
    try:
        mechanism = greeting_of(endpoint, within_s)
    except TimeoutError:
        return True
    except ConnectionRefusedError as cause:
        raise _no_way(endpoint, cause) from cause
    except OSError:
        return False
    _refuse_mechanism(endpoint, keys, mechanism)
    return mechanism != "CURVE"


def _refuse_mechanism(endpoint: str, keys: ClientKeys | None, mechanism: str) -> None:
    if mechanism == "CURVE" and keys is None:
        told = "this server wants keys, and none were given"
        raise _error(endpoint, told, f"{_how_to_give_keys(endpoint)}; {ASK_FOR_SOME}", "wants_keys")
    if mechanism == "NULL" and keys is not None:
        told = f"keys were given, those in {_folder(keys)}, and this server has none"
        raise _error(endpoint, told, "check the address, or connect without keys", "wants_no_keys")


def _no_way(endpoint: str, cause: OSError) -> UnreachableError:
    if isinstance(cause, ConnectionRefusedError):
        told = "a server was here, and has ended" if endpoint.startswith("ipc://") else "nobody listens there"
        return _error(endpoint, told, START_ONE, "refused")
    return _error(endpoint, str(cause.strerror or cause), f"check the address; {START_ONE}", "no_way")


def greeting_of(endpoint: str, within_s: float = GREETS_WITHIN_S) -> str:
    """Return how whoever listens at an address wants clients to prove who they are: NULL, PLAIN or CURVE.

    Raises:
        ConnectionRefusedError: Nobody listens there.
        TimeoutError: Somebody does, and does not greet.
        OSError: There is no way there.
    """
    with _connected(endpoint, within_s) as stream:
        stream.sendall(_SIGNATURE + _VERSION)
        greeting = b""
        while len(greeting) < _MECHANISM.stop:
            received = stream.recv(_MECHANISM.stop - len(greeting))
            if not received:
                raise ConnectionError("who is there hangs up")
            greeting += received
    if greeting[: len(_SIGNATURE)][::9] != _SIGNATURE[::9]:
        raise ConnectionError("what is there speaks no ZeroMQ")
    return greeting[_MECHANISM].rstrip(b"\0").decode("ascii", "replace")


def _connected(endpoint: str, within_s: float) -> socket.socket:
    if endpoint.startswith("ipc://"):
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.settimeout(within_s)
            stream.connect(endpoint.removeprefix("ipc://"))
        except BaseException:
            stream.close()
            raise
        return stream
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    if not port.isdigit():
        raise OSError(f"{endpoint} names no port")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=within_s)


def _error(endpoint: str, told: str, hint: str, reason: str) -> UnreachableError:
    details = {"endpoint": endpoint, "reason": reason}
    return UnreachableError(f"no server answers at {endpoint}: {told}", hint=hint, details=details)


def _how_to_give_keys(endpoint: str) -> str:
    if endpoint.startswith("tcp://"):
        return f"name the folder of yours: {KEYS_VARIABLE}=FOLDER for commands, connect(..., keys=FOLDER) in Python"
    return "name the folder of yours in Python: connect(..., keys=FOLDER); commands give keys at tcp:// alone"


def _folder(keys: ClientKeys | None) -> Path:
    return keys.folder if keys is not None and keys.folder is not None else Path("the folder")
