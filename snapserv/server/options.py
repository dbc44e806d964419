"""What to serve and where, as whoever starts a server says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..nodes.process_table import STALLED_AFTER_S
from ..nodes.tree import Autosnap
from ..operations.saving import Durable
from .rates import DEFAULT_PER_S

ORPHAN_GRACE_S = 60.0


@dataclass(frozen=True)
class ServeOptions:
    """What to serve and where.

    Args:
        targets: Simulations, as `snapserv.cell.loading.load_simulation` takes them; the first one's ``setup`` is
            run at once, the others are there for ``create``. Without any, what the store's last server had is
            gone on with.
        params: Parameters of the first one's ``setup``.
        endpoint: Where to listen; the user's default ipc socket for None.
        keys: A folder of keys: only clients that it names are let in; see `snapserv_client.keys.chosen_folder`.
        rate: Requests a second that one client may ask, or with keys one key.
        backing: The arena's backing; the best that there is for None.
        search_path: Where modules of simulations are looked for, before the working folder.
        branch_dirs: Folders that belong to the node, besides those that simulations name.
        allow: Kinds of what clones share or lose that are meant, besides those that simulations allow.
        record: What is recorded of every node from the root on: outputs, ``mean(field)``, ``field[1, 2]``.
        record_every: Only at ticks whose step is a multiple of this.
        stalled_after_s: For how long a child of an expansion, a replay or a verification may complete no tick.
        atomic: Whether steps are atomic that do not say.
        autosnap: When snapshots of each tree's ``main`` are taken by themselves.
        memory_bytes: The budget of memory; a share of what there is for None, see `snapserv.budget.budget`.
        ready_fd: A descriptor that gets one line of JSON when the server answers, or why it does not.
        exit_with_stdin: End when standard input is closed: the server then never outlives who started it.
        own_folder: Whether the socket's folder is this server's alone, and goes with it.
        orphan_grace_s: For how long nodes wait for another server, where this one is killed outright.
        fresh: End the nodes that wait there already, rather than to take them in.
        store: Where snapshots last, a folder or a URL; nowhere for None.
        go_on: Whether to go on where the store's last server stopped, if there was one, rather than to begin.
        durable: Which of them are saved by themselves; see `snapserv.operations.saving.Saving`.
        store_bytes_per_s: How fast it is written at most; without a bound for None.
        replay: Whether what was done to nodes stands in for images where these are refused: what is saved by itself
            lasts as its recording then, and what cannot be brought back is done again.
        embed: Whether the files that snapshots stand on are written as well.
        cpu_baseline: The level of processors that libraries of what is set up here are held to; see
            `snapserv.machine.cpu`. They may use all of this one for None.
        member: Of which cluster the server is, and which of its hosts, as ``UID/NUMBER``; empty for none. Names
            that nobody chose end with the number, so that each is there once in the cluster.
        begin_with: The ``uid`` of a node in the store: its tree is the first one, in the place of a setup.
        metrics: Where Prometheus may read metrics, as HOST:PORT; see `snapserv.server.metrics.MetricsPage`.
    """

    targets: list[str]
    params: Mapping[str, Any] = field(default_factory=dict)
    endpoint: str | None = None
    keys: str | None = None
    rate: float = DEFAULT_PER_S
    backing: str | None = None
    search_path: list[str] = field(default_factory=list)
    branch_dirs: list[str] = field(default_factory=list)
    allow: list[str] = field(default_factory=list)
    record: list[str] = field(default_factory=list)
    record_every: int = 1
    stalled_after_s: float = STALLED_AFTER_S
    atomic: bool = False
    autosnap: Autosnap | None = None
    memory_bytes: int | None = None
    ready_fd: int | None = None
    exit_with_stdin: bool = False
    own_folder: bool = False
    orphan_grace_s: float = ORPHAN_GRACE_S
    fresh: bool = False
    store: str | None = None
    go_on: bool = False
    durable: Durable = "named"
    store_bytes_per_s: float | None = None
    replay: bool = False
    embed: bool = False
    cpu_baseline: str | None = None
    metrics: str | None = None
    member: str = ""
    begin_with: str | None = None
