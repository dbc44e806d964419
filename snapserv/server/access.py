"""Who may do what: keys at the door, and what each key may ask for.

Without keys everybody who reaches a socket may do everything, as is right for a socket in a folder of the user's
own. With keys, ZeroMQ's CURVE proves who a client is and encrypts, on the socket for requests and on that for
events; ZeroMQ asks for each connection whether its key is known (ZAP, RFC 27 of ZeroMQ) and names the key with
each message.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import structlog
import zmq
from snapserv_client.keys import (
    HOW_TO_MAKE_KEYS,
    KEY_CHARACTERS,
    KeyPair,
    beyond_loopback,
    chosen_folder,
    read_pair,
)
from snapserv_client.protocol import Verb
from snapserv_client.transport import NOBLOCK
from zmq.auth.asyncio import AsyncioAuthenticator

from ..errors import KeysError, UnauthorizedError
from .authorized import AuthorizedClients
from .connections import Connections
from .listening import admit_own_user
from .throttled_log import ThrottledLog

log = structlog.get_logger(__name__)

SERVER_SECRET = "server.key_secret"
DOMAIN = b"snapserv"
MOST_OWNERS = 1 << 16


def door_of(endpoint: str, keys: str | None) -> Door:
    """Return the door for a server that listens on ``endpoint``.

    Args:
        endpoint: The address.
        keys: A folder of keys; see `snapserv_client.keys.chosen_folder` for None.

    Raises:
        KeysError: Others can reach the address and there are no keys, or there is something wrong with them.
    """
    folder = chosen_folder(endpoint, keys)
    if folder is not None:
        return LockedDoor(folder)
    if beyond_loopback(endpoint):
        raise KeysError(
            f"whoever reaches {endpoint} would command this server: beyond loopback it needs keys",
            hint=f"{HOW_TO_MAKE_KEYS}; or listen on 127.0.0.1",
            details={"endpoint": endpoint},
        )
    if endpoint.startswith("tcp://"):
        log.warning("no_keys", endpoint=endpoint, risk="every user of this machine commands this server")
    return Door()


class Door:
    """A door without a lock. A client is known by the routing id of its connection."""

    locked = False
    """Whether what a client may do depends on its key, and not on its user alone."""

    def __init__(self) -> None:
        self._connections: Connections | None = None

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Secure a socket before it is bound: on ipc, users are told apart."""
        admit_own_user(socket)

    def open(self, context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]) -> None:
        """Let clients in; a loop runs."""
        self._connections = Connections(router, self._note_refused)

    def connected(self) -> int:
        """Return how many clients are connected."""
        return 0 if self._connections is None else self._connections.count()

    def receive_client(self, router: zmq.Socket[bytes]) -> bytes:
        """Receive a message's first frame, and return what its client is called in the server."""
        return router.recv(NOBLOCK)

    def routing_id(self, client: bytes) -> bytes | None:
        """Return where a client's replies are sent, or None where somebody else is connected there by now."""
        return client

    def user(self, client: bytes) -> bytes:
        """Return whose limits a client shares."""
        return client

    def check(self, client: bytes, verb: Verb) -> None:
        """Check that a client may ask for ``verb``.

        Raises:
            UnauthorizedError: It may not.
        """

    def close(self) -> None:
        """Let nobody in any more; before the context ends."""
        if self._connections is not None:
            self._connections.close()

    def _note_refused(self) -> None:
        """Note that a connection was refused."""


class LockedDoor(Door):
    """A door that opens to keys. A client is its key and the routing id of its connection.

    So another key that uses the same routing id is another client, with replies of its own.

    Args:
        folder: The server's keys.

    Raises:
        KeysError: There is something wrong with them.
    """

    locked = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._own: KeyPair = read_pair(folder / SERVER_SECRET)
        self._clients = AuthorizedClients(folder)
        self._owners: OrderedDict[bytes, bytes] = OrderedDict()
        self._refused = ThrottledLog()
        self._porter: _Porter | None = None

    def guard(self, socket: zmq.Socket[bytes]) -> None:
        """Have a socket speak with known keys only, and with nobody while no one answers for keys."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._own.secret)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._own.public)
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody is let in where nobody answers for keys

    def open(self, context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]) -> None:
        """Answer for keys from now on, and watch for those that were refused."""
        self._porter = _Porter(context, self._clients)
        self._porter.start()
        super().open(context, router)

    def receive_client(self, router: zmq.Socket[bytes]) -> bytes:
        """Receive the first frame, and note which key is at its routing id now."""
        frame = router.recv(NOBLOCK, copy=False)
        user, routing_id = str(frame.get("User-Id")).encode(), frame.bytes
        self._owners[routing_id] = user
        self._owners.move_to_end(routing_id)
        if len(self._owners) > MOST_OWNERS:
            self._owners.popitem(last=False)
        return user + routing_id

    def routing_id(self, client: bytes) -> bytes | None:
        """Return the routing id, if the client's key spoke there last."""
        user, routing_id = client[:KEY_CHARACTERS], client[KEY_CHARACTERS:]
        return routing_id if self._owners.get(routing_id) == user else None

    def user(self, client: bytes) -> bytes:
        """Return the key."""
        return client[:KEY_CHARACTERS]

    def check(self, client: bytes, verb: Verb) -> None:
        """Check that the key is known still, and does not only read where ``verb`` changes something."""
        known = self._clients.find(client[:KEY_CHARACTERS].decode())
        if known is None:
            raise UnauthorizedError(
                "this key is not authorized any more",
                hint="ask whoever runs the server",
                details={"verb": verb.name},
            )
        if known.read_only and not verb.reads:
            raise UnauthorizedError(
                f"the key {known.name!r} may only read, and {verb.name} changes or runs something",
                hint="ask whoever runs the server for a key without --read-only",
                details={"verb": verb.name, "key": known.name},
            )

    def close(self) -> None:
        """Stop answering for keys."""
        super().close()
        if self._porter is not None:
            self._porter.stop()

    def _note_refused(self) -> None:
        stranger = "" if self._porter is None else self._porter.stranger
        self._refused.warn("strangers_refused", last_unknown_key_from=stranger)


class _Porter(AsyncioAuthenticator):
    """Answers ZeroMQ's question whether a key is known; ``stranger`` is where the last unknown one came from."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], clients: AuthorizedClients) -> None:
        super().__init__(context)
        self.stranger = ""
        self._address = ""
        self._clients = clients
        self.configure_curve_callback(domain=DOMAIN.decode(), credentials_provider=self)

    def callback(self, domain: str, key: bytes) -> bool:
        """Return whether the key is known."""
        known = self._clients.find(key.decode(), now=True)
        if known is None:
            self.stranger = self._address
        return known is not None

    async def handle_zap_message(self, msg: list[bytes]) -> None:
        """Answer, and note where the question comes from."""
        self._address = msg[3].decode(errors="replace") if len(msg) > 3 else ""
        await super().handle_zap_message(msg)

    def _send_zap_reply(
        self, request_id: bytes, status_code: bytes, status_text: bytes, user_id: str = "anonymous"
    ) -> None:
        # After 400 ZeroMQ tells the stranger that it was refused; after 300 it never says a word, and hangs up.
        status = status_code if status_code == b"200" else b"300"
        super()._send_zap_reply(request_id, status, b"", user_id)
