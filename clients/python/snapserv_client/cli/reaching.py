"""The way to the server that a command is for: what is not there is said at once, and what is slow waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..endpoint import chosen_endpoint

if TYPE_CHECKING:
    from .. import Server

WAITS_FOR_S = 30.0
"""A server that is there may take so long to answer at first: it may be at its setup, or hang."""
LOOKS_FOR_S = 0.2


def reach(endpoint: str | None) -> Server:
    """Return a connection to the server that is meant, or to the cluster of ``ray://ADDRESS/NAME``.

    Raises:
        UnreachableError: There is none, or it does not answer; says why, as far as that can be told.
    """
    if endpoint is not None and endpoint.startswith("ray://"):
        return _reach_cluster(endpoint)
    from .. import connect  # with ZeroMQ, which --help does without
    from ..keys import keys_for
    from ..probing import refuse

    chosen = chosen_endpoint(endpoint)
    greeted = refuse(chosen, keys_for(chosen, None), LOOKS_FOR_S)
    return connect(chosen, timeout_s=WAITS_FOR_S) if greeted else connect(chosen)


def _reach_cluster(endpoint: str) -> Server:
    """Return a cluster, which answers to what commands ask of a server."""
    from ..cluster import Cluster
    from ..cluster.engine import address_of

    address, name = address_of(endpoint)
    return cast("Server", Cluster.join(name, address=address))
