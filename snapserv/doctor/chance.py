"""Whether clones of a simulation go the same way, and whether another random stream changes that."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from ..ext import fork
from ..simulation import streams
from ..simulation.base import Simulation
from ..simulation.blame import named
from ..simulation.leaving import flush
from ..simulation.naming import shortened
from .machine import Finding

TICKS = 8
WITHIN_S = 2.0
WHAT = "random streams"
NO_TICK = "not tried: no tick ran"
SEED = "set its parameter, as in --param seed=1"
THEIRS = "nothing can be done from here: what is drawn there goes on alike in all branches"
Inputs = Mapping[str, Any] | None
"""Of a tick; None for what the simulation gives as an example."""


class _Tried(msgspec.Struct):
    """What a child says: what was reseeded and missed, a digest of each tick, and where streams stood at last."""

    names: list[str]
    missed: list[str]
    ticks: list[str]
    stood: list[tuple[str, bytes]] = []
    raised: str = ""


def try_clones(simulation: Simulation, inputs: Inputs) -> tuple[Finding, list[str]]:
    """Say whether two clones of a simulation do the same, whose setup and first tick have run.

    Args:
        simulation: The one to clone.
        inputs: Of each tick.

    Returns:
        What was found, and a digest of each of their ticks.
    """
    what = "two clones"
    if fork.count_threads() > 1:
        return Finding(what, "ok", "not tried, since a fork is refused"), []
    flush()
    one, other = _child(simulation, None, inputs), _child(simulation, None, inputs)
    if one is None or other is None or one.raised:
        return Finding(what, "weak", f"not tried: {one.raised if one else 'a child ended'}"), []
    if not one.ticks or not other.ticks:
        return Finding(what, "ok", NO_TICK), []
    ticks = min(len(one.ticks), len(other.ticks))
    parts = next((n for n, (a, b) in enumerate(zip(one.ticks, other.ticks, strict=False), 1) if a != b), None)
    if parts is None:
        return Finding(what, "ok", f"did the same for {ticks} ticks"), one.ticks
    return (
        Finding(
            what,
            "weak",
            f"differ from tick {parts} on, with the same streams and inputs",
            "something of it is no part of its state: a clock, chance from the system, a file, another process, or "
            "the order of addresses in memory, as of a set of objects",
        ),
        one.ticks,
    )


def compare_again(ticks: list[str], again: list[str], *, seeded: bool) -> Finding:
    """Say whether a simulation that was set up anew did the same ticks as one before.

    Args:
        ticks: A digest of each of those before.
        again: Of each of those now.
        seeded: Whether its setup takes a seed.
    """
    what = "a replay"
    parts = next((n for n, (a, b) in enumerate(zip(ticks, again, strict=False), 1) if a != b), None)
    if not ticks or not again:
        return Finding(what, "ok", NO_TICK)
    if parts is None:
        return Finding(what, "ok", f"set up anew, it did the same for {min(len(ticks), len(again))} ticks")
    return Finding(
        what,
        "weak",
        f"set up anew, it differs from tick {parts} on",
        f"replay will say so as well: {SEED if seeded else 'give setup a seed'}, and have all chance come of it",
    )


def ticks_of(simulation: Simulation, inputs: Inputs) -> list[str]:
    """Return a digest of each of the next ticks of a simulation, in this process."""
    return _try(simulation, None, inputs).ticks


def try_seeds(simulation: Simulation, inputs: Inputs, *, alike: bool) -> Finding:
    """Say whether ``rng="split"`` makes futures of a simulation differ, whose setup and first tick have run.

    Args:
        simulation: The one to clone.
        inputs: Of each tick.
        alike: Whether clones do the same where all streams are.
    """
    if fork.count_threads() > 1:
        return Finding(WHAT, "ok", "not tried, since a fork is refused")
    simulation.find_streams()
    flush()
    one, other = _child(simulation, 1, inputs), _child(simulation, 2, inputs)
    if one is None or other is None or one.raised or other.raised:
        raised = next((each.raised for each in (one, other) if each is not None and each.raised), "a child ended")
        return Finding(
            WHAT, "weak", f"not tried: {raised}", "see that reseed and on_branch can be called at any time"
        )
    listed = ", ".join(one.names) or "none found"
    if one.missed:
        cure = "reseed them in reseed(seed) or on_branch" if simulation.authors is simulation else THEIRS
        return Finding(WHAT, "weak", f"not reseeded: {'; '.join(one.missed)}; reseeded: {listed}", cure)
    parts = next((n for n, (a, b) in enumerate(zip(one.ticks, other.ticks, strict=False), 1) if a != b), None)
    if parts is not None and alike:
        return Finding(WHAT, "ok", f'{listed}; with rng="split" branches differ from tick {parts} on')
    if parts is not None:
        return Finding(WHAT, "ok", f"{listed}; what rng does cannot be told, since clones differ without it")
    ticks = min(len(one.ticks), len(other.ticks))
    if not ticks:
        return Finding(WHAT, "ok", f"{listed}; {NO_TICK}")
    same = f'with rng="split" two branches were the same for {ticks} ticks'
    back = [a[0] for a, b in zip(one.stood, other.stood, strict=False) if a == b]
    if back:
        return Finding(
            WHAT,
            "weak",
            f"set back by what runs in a tick: {', '.join(shortened(back))}; {same}",
            "what a simulator sets its streams to, it computes from a seed of its own: give that another value in "
            "reseed(seed) or on_branch",
        )
    return Finding(WHAT, "ok", f"{listed}; {same}: where there is chance in it, give it reseed(seed) or on_branch")


def _child(simulation: Simulation, seed: int | None, inputs: Inputs) -> _Tried | None:
    """Return what a forked child says that was given a seed, or keeps its streams; None where it said nothing."""
    reading, writing = os.pipe()
    stood = streams.states()
    pid = _clone()
    if not pid:
        streams.put_back(stood)  # Python seeds its own anew in whatever is forked
        with contextlib.suppress(BaseException):
            os.write(writing, msgspec.json.encode(_try(simulation, seed, inputs)))
        os._exit(0)  # without what is the parent's to do
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        said = answers.read()
    os.waitpid(pid, 0)
    return msgspec.json.decode(said, type=_Tried) if said else None


def _clone() -> int:
    """Fork as a cell is cloned: without what libraries have others do at a fork, and as no child of who is copied.

    Numba asks for its parent, and ends a child of a process that has used GNU OpenMP.
    """
    # Of glibc 2.34 and later; as a PyDLL it keeps the interpreter's lock.
    fork_alone = getattr(ctypes.PyDLL(None), "_Fork", os.fork)
    pid: int = fork_alone()
    if pid:
        return pid
    inner = fork_alone()
    if inner:
        os.waitpid(inner, 0)
        os._exit(0)
    return 0


def _try(simulation: Simulation, seed: int | None, inputs: Inputs) -> _Tried:
    tried = _Tried([], [], [])
    began = time.monotonic()
    try:
        tried.names, tried.missed = simulation.begin_branch(seed)
        while len(tried.ticks) < TICKS and time.monotonic() - began < WITHIN_S and not simulation.finished:
            try:
                raw = simulation.example_inputs() if inputs is None else inputs
                given: Any = simulation.convert_inputs(raw)
                outputs: Any = simulation.step(given)
            except Exception:  # noqa: BLE001 - it may need inputs, which the finding about ticks says
                break
            digest = hashlib.sha256(repr(outputs).encode())
            for name in simulation.fields:
                digest.update(simulation.array(name).tobytes())
            tried.stood = simulation.streams_stand()
            tried.ticks.append(digest.hexdigest()[:16])
    except Exception as cause:  # noqa: BLE001 - whatever the author's code raises
        tried.raised = named(cause)[:200]
    return tried
