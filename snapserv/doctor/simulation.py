"""Try a simulation out before it is served: what of it will not branch well, and what to do about each.

Setup and one tick run once, in a process of their own with the settings that cells have; then that process looks at
itself. What is found is what a fork shares or loses: see "good fork citizens" in docs/writing-a-simulation.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from ..cell.holdings import ADVICE, Holdings
from ..cell.threads import thread_names
from ..errors import InternalError, SimulationError, SnapservError, error_from_wire
from ..simulation.base import Simulation
from ..simulation.modules import search
from . import garbage
from .chance import try_seeds
from .machine import Finding

ANSWER_DESCRIPTOR = 3
MOST_PLACES = 3
CLOCKS = {
    time.time: "time.time",
    time.time_ns: "time.time_ns",
    time.monotonic: "time.monotonic",
    time.monotonic_ns: "time.monotonic_ns",
    time.perf_counter: "time.perf_counter",
    time.perf_counter_ns: "time.perf_counter_ns",
    os.urandom: "os.urandom",
}
METHODS = {
    ("datetime", "now"): "datetime.now",
    ("datetime", "utcnow"): "datetime.utcnow",
    ("date", "today"): "today",
}
HELD = {
    "shared memory": ("shared_memory", "lost_memory"),
    "sockets and pipes": ("pipes", "sockets", "terminals", "events"),
    "locks": ("locks",),
    "timers": ("timers",),
    "devices": ("devices",),
}
"""What is looked for of what no clone could have, and the kinds that it stands for."""


def examine(target: str, params: Mapping[str, Any]) -> list[Finding]:
    """Return what was found of the simulation that ``target`` names; an empty list does not happen.

    Raises:
        SnapservError: What the target, its parameters or its setup met.
    """
    from ..nodes.process_table import cell_environment

    reading, writing = os.pipe()
    request = json.dumps({"target": target, "params": dict(params), "path": [os.getcwd(), *sys.path]})
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "snapserv.doctor.simulation", str(writing)],
            stdin=subprocess.PIPE,
            pass_fds=[writing],
            env=cell_environment(),
        )
    finally:
        os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        process.communicate(request.encode())
        answer = answers.read()
    if not answer:
        raise InternalError(f"trying {target} out ended with status {process.returncode}", hint="see its output")
    found = msgspec.json.decode(answer)
    if "error" in found:
        raise error_from_wire(found["error"])
    return msgspec.convert(found["findings"], list[Finding])


def main() -> None:
    """Run setup and a tick of what stdin names; write what was found to the descriptor that is the argument."""
    answers = int(sys.argv[1])
    request = json.load(sys.stdin)
    search(request["path"])
    try:
        findings = [msgspec.to_builtins(finding) for finding in _examine(request, {0, 1, 2, answers})]
        answer: dict[str, Any] = {"findings": findings}
    except SnapservError as error:
        answer = {"error": error.to_wire()}
    os.write(answers, msgspec.json.encode(answer))
    os._exit(0)  # a simulator's threads and exit handlers are not ours to wait for


def _examine(request: Mapping[str, Any], known: set[int]) -> Iterator[Finding]:
    from ..cell.loading import load_simulation

    kind = load_simulation(request["target"])
    with _as_a_node(kind.branch_dirs):
        yield from _try_out(kind, request, known)


@contextlib.contextmanager
def _as_a_node(branch_dirs: Sequence[str]) -> Iterator[None]:
    """Keep what is tried out from changing the user's own folders, where a node would not change them."""
    if not branch_dirs:
        yield
        return
    from ..folders.view import Folders
    from ..nodes.stacks import Stores

    folders = Folders.mount(branch_dirs, Stores().name())
    try:
        yield
    finally:
        folders.abolish()


def _try_out(kind: type[Simulation], request: Mapping[str, Any], known: set[int]) -> Iterator[Finding]:
    readings = _Readings()
    began = time.monotonic()
    try:
        with readings:
            simulation = kind.build(**request["params"])
    except SnapservError:
        raise
    except Exception as cause:  # whatever the author's code raises
        text = "".join(traceback.format_exception(cause))
        raise SimulationError(
            f"setup raised {type(cause).__name__}: {cause}", details={"traceback": text}
        ) from cause
    simulation.arena.seal()
    yield Finding("setup", "ok", f"{time.monotonic() - began:.2f} s")
    yield _tick(simulation, readings)
    yield garbage.look_at(simulation)
    yield try_seeds(simulation)
    yield from _threads()
    yield _written(known, [os.path.realpath(folder) for folder in kind.branch_dirs])
    yield from _held(Holdings(kind.allow, kind.branch_dirs, ledger=None), known)
    yield from _children()
    yield readings.finding()


def _tick(simulation: Any, readings: _Readings) -> Finding:
    try:
        example = simulation.example_inputs()
        inputs = simulation.convert_inputs(example)
        began = time.monotonic()
        with readings:
            simulation.step(inputs)
    except Exception as cause:  # noqa: BLE001 - whatever the author's code raises: it may need inputs
        return Finding(
            "a tick",
            "weak",
            f"{type(cause).__name__}: {cause}",
            "what a tick does was not looked at: where it needs inputs, let example_inputs return some",
        )
    given = f"with {dict(example)}" if example else "without inputs"
    return Finding("a tick", "ok", f"{(time.monotonic() - began) * 1000:.2f} ms, {given}")


def _threads() -> Iterator[Finding]:
    names = thread_names()
    if len(names) == 1:
        yield Finding("threads", "ok", "one")
        return
    yield Finding(
        "threads",
        "missing",
        f"{len(names)}: {', '.join(names)}",
        "a fork keeps one and is refused: OPENBLAS_NUM_THREADS=1, OMP_NUM_THREADS=1, torch.set_num_threads(1); "
        "end threads of your own before setup and step return",
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


def _held(holdings: Holdings, known: set[int]) -> Iterator[Finding]:
    """Look for what no clone could have, as a master and its branches do."""
    held = holdings.look(known, whole=True)
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
    children = Path("/proc/thread-self/children").read_text().split()
    yield _each(
        "child processes", children, "they are not branched: what they hold is shared by all nodes, or lost"
    )


def _each(what: str, found: list[str], improve: str, verdict: Any = "weak") -> Finding:
    if not found:
        return Finding(what, "ok", "none")
    return Finding(what, verdict, ", ".join(sorted(set(found))), improve)


class _Readings:
    """Notices who reads clocks or the kernel's randomness, and where (sys.setprofile); Python code only."""

    def __init__(self) -> None:
        self._places: dict[str, set[str]] = {}
        self._ignored = (str(Path(__file__).parent), sys.prefix, sys.base_prefix, "<frozen")

    def __enter__(self) -> None:
        sys.setprofile(self._on_event)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call":
            return
        name = CLOCKS.get(called) if _hashable(called) else None
        if name is None:
            owner = getattr(called, "__self__", None)
            name = METHODS.get((getattr(owner, "__name__", ""), getattr(called, "__name__", "")))
        if name is None:
            return
        caller: FrameType | None = frame
        if called is os.urandom:  # by way of secrets, uuid or numpy, and not of an import that makes a generator
            while caller is not None and caller.f_code.co_filename.startswith(self._ignored):
                caller = caller.f_back if "importlib" not in caller.f_code.co_filename else None
        if caller is not None and not caller.f_code.co_filename.startswith(self._ignored):
            place = f"{Path(caller.f_code.co_filename).name}:{caller.f_lineno}"
            self._places.setdefault(name, set()).add(place)

    def finding(self) -> Finding:
        """Return what was noticed."""
        if not self._places:
            return Finding("clocks and chance", "ok", "no reading seen in setup and a tick")
        said = [
            f"{name} ({', '.join(sorted(places)[:MOST_PLACES])})" for name, places in sorted(self._places.items())
        ]
        return Finding(
            "clocks and chance",
            "weak",
            ", ".join(said),
            "what is computed from them differs in every branch: count ticks, and draw from self.rng",
        )


def _hashable(called: Callable[..., Any]) -> bool:
    try:
        hash(called)
    except TypeError:
        return False
    return True


if __name__ == "__main__":
    main()
