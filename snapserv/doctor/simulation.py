"""Try a simulation out before it is served: what of it will not branch well, and what to do about each.

Setup and one tick run once, in a process of their own with the settings that cells have; then that process looks at
itself. What is found is what a fork shares or loses: see "good fork citizens" in docs/writing-a-simulation.md.
Another process does the same ticks again from the beginning. What they print goes to standard error.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..cell.files import Files
from ..cell.holdings import ADVICE, Held, Holdings
from ..cell.pools import advice, owned
from ..cell.temporary import NAMED
from ..cell.threads import running
from ..errors import (
    BadRequestError,
    InternalError,
    NotBranchableError,
    SnapservError,
    UnsupportedError,
    error_from_wire,
)
from ..machine.descendants import become_subreaper, children, end_all
from ..simulation import streams
from ..simulation.base import Simulation, is_exported
from ..simulation.blame import blame, named
from ..simulation.calling import prepare_call
from ..simulation.modules import search
from ..simulation.naming import shortened
from . import garbage
from .chance import compare_again, ticks_of, try_clones, try_seeds
from .machine import Finding
from .readings import Readings

MOST_SETUP_S = 20.0
"""What takes longer to set up is not set up twice."""
HELD = {
    "shared memory": ("shared_memory", "lost_memory"),
    "sockets and pipes": ("pipes", "sockets", "terminals", "events"),
    "locks": ("locks",),
    "timers": ("timers",),
    "devices": ("devices",),
    "temporary files": ("temporary_files",),
}
"""What is looked for of what no clone could have, and the kinds that it stands for."""


def examine(
    target: str,
    params: Mapping[str, Any],
    branch_dirs: Sequence[str] = (),
    inputs: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Return what was found of the simulation that ``target`` names; an empty list does not happen.

    Args:
        target: As ``serve`` takes it.
        params: Parameters of ``setup``.
        branch_dirs: Folders that each node is to see as it wrote them, besides those that the simulation names.
        inputs: Of each tick; what it gives as an example without any.

    Raises:
        SnapservError: What the target, its parameters or its setup met.
    """
    request = {
        "target": target,
        "params": dict(params),
        "inputs": None if inputs is None else dict(inputs),
        "path": [os.getcwd(), *sys.path],
        "branch_dirs": [name if name == NAMED else os.path.abspath(name) for name in branch_dirs],
        "again": False,
    }
    said = _ask(request)
    findings = msgspec.convert(said["findings"], list[Finding])
    if said["setup_s"] > MOST_SETUP_S:
        findings.append(Finding("a replay", "ok", f"not tried: setup takes {said['setup_s']:.0f} s"))
    elif said["ticks"]:
        findings.append(_again(said, request))
    return findings


def _again(said: Mapping[str, Any], request: Mapping[str, Any]) -> Finding:
    """Return what becomes of the same ticks where they are done from the beginning."""
    return compare_again(said["ticks"], _ask({**request, "again": True})["ticks"], seeded=said["seeded"])


def _ask(request: Mapping[str, Any]) -> dict[str, Any]:
    from ..nodes.process_table import cell_environment

    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "snapserv.doctor.simulation", str(writing)],
            stdin=subprocess.PIPE,
            stdout=2,  # what is said to programs on standard output is said once, and by us
            pass_fds=[writing],
            env=cell_environment(),
        )
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        process.communicate(json.dumps(request).encode())
        answer = answers.read()
    if not answer:
        raise InternalError(
            f"trying {request['target']} out ended with status {process.returncode}", hint="see its output"
        )
    found: dict[str, Any] = msgspec.json.decode(answer)
    if "error" in found:
        raise error_from_wire(found["error"])
    return found


def main() -> None:
    """Run setup and a tick of what stdin names; write what was found to the descriptor that is the argument."""
    answers = int(sys.argv[1])
    request = json.load(sys.stdin)
    become_subreaper()
    search(request["path"])
    streams.watch()
    try:
        answer = _examine(request, {0, 1, 2, answers})
    except SnapservError as error:
        answer = {"error": error.to_wire()}
    end_all()  # what the simulation has started
    os.write(answers, msgspec.json.encode(answer))
    os._exit(0)  # a simulator's threads and exit handlers are not ours to wait for


def _examine(request: Mapping[str, Any], known: set[int]) -> dict[str, Any]:
    from ..cell.loading import load_simulation
    from ..nodes.stacks import TEMPORARY, Stores

    stores = Stores()
    files = Files(stores.name(TEMPORARY), stores.name())
    try:
        kind = load_simulation(request["target"])
        named = [*kind.branch_dirs, *request["branch_dirs"]]
        # What is tried out is not to change the user's own folders, where a node would not change them.
        files.begin_setup(named, shared="temporary_files" in kind.allow)
        simulation, readings, setup_s = _build(kind, request)
        answer: dict[str, Any] = {"setup_s": setup_s}
        if request["again"]:
            _begin_as_a_branch(files)
            _tick(simulation, readings, request["inputs"])
            return {**answer, "ticks": ticks_of(simulation, request["inputs"])}
        tried = _Tried(simulation, readings, request["inputs"], [])
        findings = [Finding("setup", "ok", f"{setup_s:.2f} s"), *_try_out(tried, known, files, named)]
        return {
            **answer,
            "findings": msgspec.to_builtins(findings),
            "ticks": tried.ticks,
            "seeded": "seed" in simulation._params,
        }
    finally:
        files.abolish()


class _Tried(NamedTuple):
    """A simulation that is tried out, what it reads, inputs of ticks, and a digest of each tick of its clones."""

    simulation: Simulation
    readings: Readings
    inputs: Mapping[str, Any] | None
    ticks: list[str]


def _build(kind: type[Simulation], request: Mapping[str, Any]) -> tuple[Simulation, Readings, float]:
    """Return a simulation whose setup has run, what it has read, and how long that took, in seconds."""
    readings = Readings()
    began = time.monotonic()
    try:
        with readings:
            simulation = kind.build(**request["params"])
    except SnapservError:
        raise
    except Exception as cause:  # whatever the author's code raises
        raise blame(cause, f"{kind.__name__}.setup") from cause
    readings.end_setup()
    simulation.arena.seal()
    return simulation, readings, time.monotonic() - began


def _try_out(tried: _Tried, known: set[int], files: Files, named: Sequence[str]) -> Iterator[Finding]:
    simulation, readings, inputs, ticks = tried
    kind = type(simulation)
    temporary = _begin_as_a_branch(files)
    early = {task for task, _ in running()}
    yield _tick(simulation, readings, inputs)
    yield garbage.look_at(simulation)
    alike, found = try_clones(simulation, inputs)
    ticks += found
    yield alike
    yield try_seeds(simulation, inputs, alike=alike.verdict == "ok")
    yield from _played(simulation)
    yield _threads(early)
    own = [] if files.temporary is None else [files.temporary.root]
    yield _written(known, [os.path.realpath(folder) for folder in (*named, *own)])
    yield from _held(Holdings(kind.allow, named, ledger=None, temporary=files.temporary), known, temporary)
    yield from _children()
    yield readings.finding(theirs=simulation.authors is not simulation)


def _tick(simulation: Any, readings: Readings, given: Mapping[str, Any] | None) -> Finding:
    own = simulation.authors is simulation
    try:
        example = simulation.example_inputs() if given is None else given
        inputs = simulation.convert_inputs(example)
        began = time.monotonic()
        with readings:
            simulation.step(inputs)
    except Exception as cause:  # noqa: BLE001 - whatever the author's code raises: it may need inputs
        if not isinstance(cause, SnapservError):
            traceback.print_exception(cause)
        also = ", or let example_inputs return some" if own else ""
        return Finding(
            "a tick",
            "weak",
            cause.message if isinstance(cause, SnapservError) else named(cause),
            f"what a tick does was not looked at: where it needs inputs, give them with --input NAME=VALUE{also}",
        )
    with_what = f"with {dict(example)}" if example else "without inputs"
    return Finding("a tick", "ok", f"{(time.monotonic() - began) * 1000:.2f} ms, {with_what}")


def _played(simulation: Simulation) -> Iterator[Finding]:
    """Call what environments have besides, and what may start threads that were not there before."""
    for name in ("reset", "render"):
        if not is_exported(getattr(type(simulation), name, None)):
            continue
        began = time.monotonic()
        try:
            prepare_call(simulation, name)()
        except BadRequestError as refused:
            yield Finding(f"its {name}", "ok", f"not to be had: {refused.message}")
        except UnsupportedError as refused:
            yield Finding(f"its {name}", "weak", refused.message, f"it branches without: {refused.hint}")
        except Exception as cause:  # noqa: BLE001 - whatever the author's code raises
            yield Finding(f"its {name}", "weak", named(cause)[:200], f"a call of {name} fails")
        else:
            yield Finding(f"its {name}", "ok", f"{(time.monotonic() - began) * 1000:.2f} ms")


def _threads(early: Collection[int]) -> Finding:
    """Say whose threads there are; ``early`` are those that there were before the first tick."""
    tasks = running()
    if len(tasks) == 1:
        return Finding("threads", "ok", "one")
    threads = [owned(task, name) for task, name in tasks]
    late = sum(task not in early for task, _ in tasks)
    since = f"; {late} of them since the first tick" if late else ""
    return Finding(
        "threads",
        "missing",
        f"{len(threads)}: {', '.join(shortened([str(each) for each in threads]))}{since}",
        f"a fork keeps one and is refused: {advice(threads)}",
    )


def _written(known: set[int], branched: Sequence[str]) -> Finding:
    """Look for files whose contents all nodes share: those with a name, that are written, in no branched folder."""
    written = []
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor in known:
            continue
        try:
            path, status = os.readlink(f"/proc/self/fd/{name}"), os.fstat(descriptor)
            writes = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        except OSError:
            continue  # the listing's own
        if any(path.startswith(f"{folder}/") for folder in branched):
            continue  # each node has its own
        if stat.S_ISREG(status.st_mode) and status.st_nlink and writes:
            written.append(path)
    return _each(
        "files open for writing",
        written,
        "every node writes the same file, at an offset of its own: branch its folder, or open it in on_branch",
    )


def _begin_as_a_branch(files: Files) -> list[Held]:
    """Have temporary files where a branch has them; return those of setup that all nodes would share."""
    try:
        files.finish_setup()
    except NotBranchableError as error:
        held: Any = error.details["held"]
        return [Held(*(each[name] for name in Held._fields)) for each in held]
    if not files.branched and files.temporary is not None:
        files.begin({"temporary": {"name": "000001", "fresh": True, "root": files.temporary.root}})
    return []


def _held(holdings: Holdings, known: set[int], temporary: Sequence[Held]) -> Iterator[Finding]:
    """Look for what no clone could have, as a master and its branches do; ``temporary`` is known already."""
    held = [*temporary, *holdings.look(known, whole=True)]
    for what, kinds in HELD.items():
        found = [each for each in held if each.kind in kinds]
        allowed = [each for each in holdings.allowed if each.kind in kinds]
        if found:
            yield Finding(what, "missing", "; ".join(map(str, found)), f"refused: {ADVICE[found[0].kind]}")
        elif allowed:
            yield Finding(what, "weak", "; ".join(map(str, allowed)), "allowed: all nodes share it, or lack it")
        elif what == "shared memory" and holdings.made_private:
            yield Finding(what, "ok", f"made private: {', '.join(holdings.made_private)}")
        else:
            yield Finding(what, "ok", "none")


def _children() -> Iterator[Finding]:
    yield _each(
        "child processes",
        [f"{_command(pid)} ({pid})" for pid in children()],
        "they are not branched: what they hold is shared by all nodes, or lost",
    )


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return "one that has ended"


def _each(what: str, found: list[str], improve: str, verdict: Any = "weak") -> Finding:
    if not found:
        return Finding(what, "ok", "none")
    return Finding(what, verdict, ", ".join(sorted(set(found))), improve)


if __name__ == "__main__":
    main()
