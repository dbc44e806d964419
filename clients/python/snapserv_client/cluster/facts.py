"""What is said of a cluster between its parts: plain, and pickled by Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import BadRequestError

Durable = Literal["named", "all", "none"]


def durable_of(said: str) -> Durable:
    """Return which snapshots are saved by themselves.

    Raises:
        BadRequestError: It is none of these.
    """
    known: dict[str, Durable] = {"named": "named", "all": "all", "none": "none"}
    if said not in known:
        raise BadRequestError(f"durable: {said!r}", hint=f"one of {', '.join(known)}")
    return known[said]


@dataclass(frozen=True)
class ClusterKeys:
    """The keys of a cluster, in Z85: one pair for its servers, one for whoever joined it."""

    server_public: str
    server_secret: str
    client_public: str
    client_secret: str


@dataclass(frozen=True)
class Settings:
    """How a cluster was started.

    Attributes:
        cluster: Its name.
        uid: 32 hexadecimal digits: servers of it say in the store that they are its.
        target: What is simulated, as ``serve`` takes it.
        params: Parameters of its setup.
        store: The folder or URL where snapshots last, the same for all machines.
        own_store: Whether the store is a temporary folder, which goes with the cluster.
        keys: Its keys.
        hosts: How many machines are to serve; all that there are, and come, for None.
        durable: Which snapshots are saved by themselves.
        num_cpus: How many processors each host asks of Ray.
        resources: What else each asks of Ray.
        runtime_env: Ray's environment of code and packages for the hosts.
        serve: Further options of ``snapserv serve``.
        pickled: The simulation's class by value, where it has no name to import it by.
        detached: Whether it stays when whoever started it ends.
        search_path: Where modules of simulations are looked for first.
        start_within_s: How long the first host may take until it serves.
    """

    cluster: str
    uid: str
    target: str
    params: Mapping[str, Any]
    store: str
    own_store: bool
    keys: ClusterKeys
    hosts: int | None = None
    durable: Durable = "named"
    num_cpus: float = 1.0
    resources: Mapping[str, float] = field(default_factory=dict)
    runtime_env: Mapping[str, Any] | None = None
    serve: Sequence[str] = ()
    pickled: bytes | None = None
    detached: bool = False
    search_path: Sequence[str] = ()
    start_within_s: float = 600.0

    def member(self, number: int) -> str:
        """Return what a host's server says of itself in the store."""
        return f"{self.uid}/{number}"


@dataclass(frozen=True)
class HostInfo:
    """A host: its number, which no other one of the cluster has had, its server, and where it runs.

    Attributes:
        number: Its own; names that nobody chose end with it.
        endpoint: Where its server listens.
        machine: What the machine is called.
        node: Ray's id of it.
        cores: How many children it plays at a time.
        root: The ``uid`` of the tree's root in the store.
        pid: The server's process.
        actor: The actor's process.
    """

    number: int
    endpoint: str
    machine: str
    node: str
    cores: int
    root: str
    pid: int
    actor: int

    @property
    def name(self) -> str:
        """What it is called where nodes are listed."""
        return f"h{self.number}"


@dataclass(frozen=True)
class Admission:
    """What a host is told when it begins: its number, and the root to take up; None to set one up."""

    number: int
    root: str | None


@dataclass(frozen=True)
class LostBranch:
    """A live branch of a server that is gone: where it can go on from, and how far it had come."""

    name: str
    snapshot: str
    step: int
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class Adopted:
    """What became of a branch that was lost: the step at which it goes on, or why it does not."""

    name: str
    step: int = 0
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Place:
    """Where a node is: its host, and whether it came there with all that had been done to it."""

    host: int
    whole: bool = True


@dataclass(frozen=True)
class Hosts:
    """The hosts that there are, by their numbers, and which version of that this is."""

    version: int
    there: Mapping[int, HostInfo] = field(default_factory=dict)
