"""From nothing to a master: the first process of a tree, which builds the simulation and then freezes for good.

Every branch is a clone that returns from the freeze with a socket of its own, and goes round `snapserv.cell.loop`.
"""

from __future__ import annotations

import inspect
import os
import resource
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from snapserv_client.errors import SnapservError

from ..ext import fork
from ..machine.oom import MASTER, prefer, score
from ..memory.arena import Arena
from ..memory.heap import use_huge_pages
from ..memory.touched import mode
from ..simulation import streams, writers
from ..simulation.base import Simulation
from ..simulation.blame import AuthorsCode
from ..simulation.calling import learn_what_is_taken
from ..simulation.leaving import flush, flush_all, leave
from ..simulation.modules import search
from ..simulation.provenance import source_of, version_of
from . import loops
from .files import Files
from .holdings import Holdings
from .lasting import gather_code, keep_code, keep_what_is_there
from .link import CONTROL_DESCRIPTOR, LEDGER_DESCRIPTOR, CellEnd, plain
from .loading import load_simulation
from .loop import Cell
from .records import Records
from .scoreboard import Scoreboard
from .threads import refuse_threads


def main() -> NoReturn:
    """Build the simulation that the server asks for, then be the master, and each of its branches."""
    own_score = score()  # the server's, which it was spawned with
    prefer("self", MASTER, own_score)
    os.closerange(LEDGER_DESCRIPTOR + 1, 1 << 20)  # whatever else a server was started with is not for its cells
    scoreboard = Scoreboard(LEDGER_DESCRIPTOR)  # which stays open: the next server finds it here
    os.set_inheritable(LEDGER_DESCRIPTOR, False)
    fork.answer_for_children()
    fork.keep_from_children(LEDGER_DESCRIPTOR)  # by it cells are known: nothing that a simulation forks is one
    os.set_inheritable(CONTROL_DESCRIPTOR, False)
    control = CellEnd(CONTROL_DESCRIPTOR)
    try:
        _, request, _ = control.next_request()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (request["open_files"], most))
        try:
            simulation, holdings, files, described = _build(request)
            records = _standing(simulation, request)
            flush_all()
        except SnapservError as error:
            control.send(fork.REPLY, {"error": error.to_wire()})
            leave(1)
        control.send(fork.REPLY, {"ok": described})
        flush()
        fork.wait_for_servers(request["adoption"], request["orphan_grace_s"], LEDGER_DESCRIPTOR)
        thawed = fork.stay_frozen(control.leave())
        loops.renew()
        Cell(simulation, CellEnd(thawed), scoreboard, holdings, files, own_score, records).run()
    except EOFError:
        leave(0)


def _standing(simulation: Simulation, request: Mapping[str, Any]) -> Records:
    """Return the records of a tree's nodes, with what is recorded of all of them from the root on."""
    records = Records()
    if request.get("record"):
        records.order(simulation, {"record": request["record"], "every": request["record_every"]})
    return records


def _build(request: Mapping[str, Any]) -> tuple[Simulation, Holdings, Files, dict[str, Any]]:
    """Return the simulation whose setup has run, what else the process holds, and the description of it all."""
    began = time.monotonic()
    mode()  # of which an unknown one is refused here
    files = Files(request["temporary"], request["stores"])  # before anything can ask where temporary files are
    search(request["path"])
    streams.watch()
    writers.watch()
    keep_what_is_there()
    kind = load_simulation(request["target"])
    params = kind.bind(request["params"])  # before anything is made: setup's own are bound alike
    named = [*kind.branch_dirs, *request["branch_dirs"]]
    allowed = [*kind.allow, *request["allow"]]
    holdings = Holdings(allowed, named, temporary=files.temporary)
    files.begin_setup(named, shared="temporary_files" in allowed)
    with AuthorsCode(f"{kind.__name__}.setup"):
        arena = Arena(backing=request["backing"], where=request.get("arena"))
        simulation = kind.build(arena, **request["params"])
    seed = params.get("seed", 0)
    streams.seed_later(seed if isinstance(seed, int) and seed >= 0 else 0)
    simulation.find_streams()
    learn_what_is_taken(simulation)
    refuse_threads()
    gather_code()
    keep_code()
    arena.seal()
    holdings.refuse([CONTROL_DESCRIPTOR], whole=True)
    files.finish_setup()
    files.note()
    huge_heap_bytes = use_huge_pages(arena.addresses)
    described = {
        "simulation": kind.__name__,
        "version": version_of(kind),
        "source": source_of(kind),
        "doc": inspect.getdoc(kind) or "",
        "fields": simulation.describe_fields(),
        "addresses": {name: extent.address for name, extent in arena.extents.items()},
        "segments": [(segment.address, segment.size_bytes) for segment in arena.segments],
        "inputs": kind.describe_inputs(),
        "params": kind.describe_params(),
        "param_values": {name: plain(value) for name, value in params.items()},
        "methods": type(simulation).describe_methods(),
        "arena": arena.describe(),
        "fork": " · ".join(part for part in fork.mode() if part),
        "huge_heap_bytes": huge_heap_bytes,
        "made_private": holdings.made_private,
        "shared": [str(held) for held in holdings.allowed],
        **files.describe(),
        "has_on_drop": simulation.has_hook("on_drop"),
        "setup_s": time.monotonic() - began,
    }
    return simulation, holdings, files, described
