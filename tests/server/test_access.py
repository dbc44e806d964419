"""The door of a server with keys."""

from __future__ import annotations

from pathlib import Path

import zmq
from snapserv_client.keys import ClientKeys, KeyPair, read_public

from snapserv.server.access import LockedDoor
from snapserv.server.keymaking import make_server_keys


def test_a_guarded_socket_lets_nobody_in_before_the_door_answers_for_keys(tmp_path: Path) -> None:
    """Clients of a server that was killed knock while the next one is still getting ready."""
    keys = tmp_path / "keys"
    make_server_keys(keys)
    stranger = ClientKeys(KeyPair(*zmq.curve_keypair()), read_public(keys / "server.key"))
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        for socket in (router, dealer):
            socket.setsockopt(zmq.LINGER, 0)
        LockedDoor(keys).guard(router)
        stranger.secure(dealer)
        with dealer.get_monitor_socket(zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.DISCONNECTED) as monitor:
            dealer.connect(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
            dealer.send(b"let me in")
            assert monitor.poll(10_000), "it is still hoped for"
            assert not router.poll(0)
            dealer.disable_monitor()
