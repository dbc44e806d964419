"""Where the server listens: the folder and lock of an ipc socket, and what goes wrong with addresses."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from snapserv_client.channel import SUFFIX
from snapserv_client.endpoint import socket_folder
from snapserv_client.trust import others_may_replace

from ..errors import AddressError, BadRequestError

MOST_PATH_BYTES = 107
"""sockaddr_un.sun_path holds 108 bytes, one of them the end (unix(7))."""

HANDSHAKE_WITHIN_MS = 10_000
KEEPALIVE_AFTER_S = 10
KEEPALIVE_EVERY_S = 5
KEEPALIVE_TIMES = 4
UNACKNOWLEDGED_AT_MOST_MS = 30_000


@dataclass
class Place:
    """An address made ready to bind, and what must be removed when the server ends.

    ``channel`` is where the side channel of an ipc address is.
    """

    endpoint: str
    events_endpoint: str
    channel: Path | None = None
    files: list[Path] = field(default_factory=list)
    lock: int | None = None

    def leave(self) -> None:
        """Remove the socket files and release the lock; last of all, so that nobody else is disturbed."""
        for path in self.files:
            path.unlink(missing_ok=True)
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


def prepare(endpoint: str) -> Place:
    """Return ``endpoint`` ready to bind.

    An ipc socket's folder is made for this user alone where it is missing, and a lock beside the socket keeps a
    second server off: ZeroMQ would take over the socket file of a running one.

    Raises:
        BadRequestError: Neither ``ipc://PATH`` nor ``tcp://HOST:PORT``.
        AddressError: In use, no permission, or the path is too long.
    """
    scheme, separator, rest = endpoint.partition("://")
    if not separator or scheme not in ("ipc", "tcp") or not rest:
        raise BadRequestError(f"{endpoint!r} is no endpoint", hint="write ipc:///PATH or tcp://HOST:PORT")
    if scheme == "tcp":
        host, colon, port = rest.rpartition(":")
        if not colon or not (port.isdigit() or port == "*"):
            raise BadRequestError(f"{endpoint!r} names no port", hint="write tcp://HOST:PORT")
        return Place(endpoint, f"tcp://{host}:*")
    path = Path(rest).absolute()
    events = path.with_name(path.name + ".events")
    if len(os.fsencode(events)) > MOST_PATH_BYTES:
        raise AddressError(
            f"{path} is too long for a socket", hint=f"at most {MOST_PATH_BYTES - len('.events')} bytes"
        )
    _make_folder(path.parent)
    channel = path.with_name(path.name + SUFFIX)
    place = Place(f"ipc://{path}", f"ipc://{events}", channel)
    lock_path = path.with_name(path.name + ".lock")
    try:
        place.lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(place.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        os.close(place.lock or -1)
        raise AddressError(
            f"a server listens on {place.endpoint} already",
            hint="choose another with --name or --endpoint, or end that one with: snapserv shutdown",
            details={"endpoint": place.endpoint},
        ) from cause
    except PermissionError as cause:
        raise _no_permission(path.parent) from cause
    place.files = [path, events, channel, lock_path]
    return place


def adoption_path(endpoint: str) -> Path:
    """Return the Unix socket on which the server that is bound to ``endpoint`` takes in what another one left.

    Raises:
        AddressError: It would be too long, or there is no permission on its folder.
    """
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        return Path(rest + ".adopt")
    folder = socket_folder()
    _make_folder(folder)
    host, _, port = rest.rpartition(":")
    path = folder / f"tcp-{host.strip('[]').replace(':', '-')}-{port}.adopt"
    if len(os.fsencode(path)) > MOST_PATH_BYTES:
        raise AddressError(f"{path} is too long for a socket", hint="set XDG_RUNTIME_DIR to a shorter folder")
    return path


def watch_peers(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Have a socket that will be bound notice peers that went away without a word (zmq_setsockopt(3), tcp(7)).

    A connection must have said who it is within `HANDSHAKE_WITHIN_MS`. Over TCP the kernel asks a silent peer's
    kernel for a sign of life, and gives up half a minute after the last one. Not ZeroMQ's own heartbeats: in libzmq
    4.3.5 the timer of a connection that broke while messages of it waited to be read ends the process.
    """
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_WITHIN_MS)
    if endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_AFTER_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_EVERY_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_TIMES)
        socket.setsockopt(zmq.TCP_MAXRT, UNACKNOWLEDGED_AT_MOST_MS)


def admit_own_user(socket: zmq.Socket[bytes]) -> None:
    """Have an ipc socket that will be bound refuse other users than this one and root (SO_PEERCRED of unix(7))."""
    for user in {os.geteuid(), 0}:
        socket.setsockopt(zmq.IPC_FILTER_UID, user)


def bind(socket: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind, and return the address with the port that was chosen.

    Raises:
        AddressError: In use, no permission, or no such address.
    """
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as cause:
        if cause.errno == errno.EADDRINUSE:
            raise AddressError(
                f"{endpoint} is in use", hint="choose another port", details={"endpoint": endpoint}
            ) from cause
        if cause.errno == errno.EACCES:
            raise AddressError(f"no permission to listen on {endpoint}") from cause
        raise AddressError(f"cannot listen on {endpoint}: {cause.strerror}") from cause
    bound = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    return bound.rstrip("\0")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        why = others_may_replace(folder, {os.geteuid(), 0})
    except (PermissionError, FileExistsError, NotADirectoryError) as cause:
        raise _no_permission(folder) from cause
    if why:
        raise AddressError(
            f"a socket in {folder} could be anybody's: {why}",
            hint=f"choose a folder of your own with --endpoint: ipc://{folder}/NAME/s.sock",
            details={"folder": str(folder)},
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _no_permission(folder)


def _no_permission(folder: Path) -> AddressError:
    return AddressError(
        f"no permission to make a socket in {folder}",
        hint="choose another place with --endpoint ipc:///PATH, or set XDG_RUNTIME_DIR",
        details={"folder": str(folder)},
    )
