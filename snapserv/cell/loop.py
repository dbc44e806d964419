"""A live cell: the process that holds a simulation, its loop, and the requests it answers.

The first process of a tree runs `main`: it builds the simulation and then freezes for good: it is the master,
the root snapshot. Every branch is a clone that returns from the freeze with a socket of its own and goes
round the same loop. There are no threads and no ZeroMQ here, and few imports: what is mapped is forked.
"""

from __future__ import annotations

import inspect
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from snapserv_client.errors import SnapservError
from snapserv_client.wire import unpack

from ..errors import BadRequestError, SimulationError, StepInterruptedError, ThreadsRunningError
from ..ext import fork
from ..machine.oom import BRANCH, MASTER, prefer, score
from ..memory.arena import Arena
from ..memory.heap import use_huge_pages
from ..memory.rebasing import Rebaser
from ..memory.regions import resolve_region
from ..simulation import streams
from ..simulation.base import Simulation
from ..simulation.blame import AuthorsCode, blame, run_exported
from ..simulation.leaving import flush, leave
from .history import BEGIN, CALL, STEP, WRITE, History, Moment
from .link import CellEnd, encode
from .loading import load_simulation
from .rollout import play, refuse_finished
from .scoreboard import Scoreboard

if TYPE_CHECKING:
    from ..folders.view import Folders
    from .rollback import BranchMark

CONTROL_DESCRIPTOR = 3
LEDGER_DESCRIPTOR = 4

PROGRESS_EVERY_S = 0.05
LISTEN_EVERY_S = 0.001
HOUSEKEEPING_S = 0.01


def main() -> NoReturn:
    """Build the simulation that the server asks for, then be the master, and each of its branches."""
    own_score = score()  # the server's, which it was spawned with
    prefer("self", MASTER, own_score)
    os.closerange(LEDGER_DESCRIPTOR + 1, 1 << 20)  # whatever else a server was started with is not for its cells
    scoreboard = Scoreboard(LEDGER_DESCRIPTOR)  # which stays open: the next server finds it here
    os.set_inheritable(LEDGER_DESCRIPTOR, False)
    os.set_inheritable(CONTROL_DESCRIPTOR, False)
    control = CellEnd(CONTROL_DESCRIPTOR)
    try:
        _, request, _ = _receive(control)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (request["open_files"], most))
        try:
            simulation, folders, described = _build(request)
        except SnapservError as error:
            control.send(fork.REPLY, {"error": error.to_wire()})
            leave(1)
        control.send(fork.REPLY, {"ok": described})
        flush()
        fork.wait_for_servers(request["adoption"], request["orphan_grace_s"], LEDGER_DESCRIPTOR)
        thawed = fork.stay_frozen(control.leave())
        Cell(simulation, CellEnd(thawed), scoreboard, folders, own_score).run()
    except EOFError:
        leave(0)


class Cell:
    """A branch, seen from inside."""

    def __init__(
        self,
        simulation: Simulation,
        control: CellEnd,
        scoreboard: Scoreboard,
        folders: Folders | None = None,
        own_score: int = 0,
    ) -> None:
        self._simulation = simulation
        self._folders = folders
        self._control = control
        self._scoreboard = scoreboard
        self._own_score = own_score
        self._rebaser = Rebaser(simulation.arena)
        self._history = History()
        self._mark: BranchMark | None = None
        self._marked: Moment | None = None
        self._remembers = False
        self._begun = False
        self._slot = 0
        self._step = 0
        self._handlers: dict[str, Callable[[Mapping[str, Any], int | None], Any]] = {
            "begin": self._begin,
            "step": self._run_ticks,
            "play": self._play,
            "write": self._write,
            "call": self._call,
            "mark": self._mark_moment,
            "rewind": self._rewind,
            "remember": self._remember,
            "prepare": self._prepare,
            "freeze": self._freeze,
            "history": self._list_history,
            "trail": self._tell_trail,
            "replay": self._replay,
            "leave": self._leave,
            "resume": self._resume,
        }
        self._last: dict[str, Any] | None = None

    def run(self) -> NoReturn:
        """Answer requests until the server hangs up."""
        while True:
            kind, request, descriptor = _receive(self._control)
            if kind != fork.REQUEST:
                continue  # an interrupt that came after its step had ended
            link = self._control.link
            try:
                reply = {"ok": self._handlers[request["op"]](request, descriptor)}
            except _Thawed as thawed:
                # Another process now: the branch made of this one. Whoever asked is answered by the original.
                self._control = CellEnd(thawed.control)
                self._last = None
                self._rebaser.thawed()
                continue
            except _AnsweredError:
                if self._rebaser.pending:
                    self._housekeep()
                continue
            except SnapservError as error:
                reply = {"error": error.to_wire()}
            if "key" in request:
                # The server may die before it has written down that the client was told.
                self._last = {"key": request["key"], "before": request.get("before", 0), "reply": reply}
            if link == self._control.link:
                self._reply(reply)
            if self._rebaser.pending:
                self._housekeep()

    def _housekeep(self) -> None:
        """Do some of what is to be done between two requests, and more of it while nobody waits."""
        began = time.monotonic()
        while self._rebaser.pending:
            self._rebaser.advance()
            if time.monotonic() - began > HOUSEKEEPING_S and self._control.ready():
                return

    def _reply(self, reply: dict[str, Any]) -> None:
        try:
            self._control.send(fork.REPLY, reply)
        except SnapservError as error:
            error.hint = error.hint or "the simulation returned it"
            told = SimulationError(str(error), details={"completed": True})
            self._control.send(fork.REPLY, {"error": told.to_wire()})

    # ------------------------------------------------------------------------------------------- requests

    def _begin(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        if request.get("again"):
            self._go_back(request)
        self._slot = request["slot"]
        self._scoreboard[self._slot] = self._step
        prefer("self", BRANCH, self._own_score)
        # Before any of the author's code. Where a beginning is replayed, the folders are there already.
        folders = self._folders.begin(**request["folders"]) if self._folders and request.get("folders") else None
        begun = {"step": self._step, "folders": _plain(folders)}
        if request.get("resumes"):
            return begun
        self._begun = not request.get("silent")
        if not self._begun:
            return begun
        seed, kind = request["seed"], type(self._simulation)
        with AuthorsCode(f"{kind.__name__}.on_branch"):
            self._simulation.reseed(seed)
        if seed is not None or kind.on_branch is not Simulation.on_branch:
            self._history.add(BEGIN, self._history.pack(seed))
        return begun

    def _run_ticks(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        simulation, scoreboard, slot, rebaser = self._simulation, self._scoreboard, self._slot, self._rebaser
        if not request.get("before"):
            refuse_finished(simulation)
        inputs = simulation.convert_inputs(request["inputs"])
        asked = self._history.pack(request["inputs"])
        ticks: int = request["ticks"]
        number: int = request["number"]
        # Where a client's request comes in pieces: what was done of it before, of how much, and when to stop.
        before: int = request.get("before", 0)
        total: int = request.get("total", ticks)
        within_s: float | None = request.get("within_s")
        tick = simulation.step
        outputs: Any = None
        done = 0
        began = listened = reported = time.monotonic()
        pause = math.inf if within_s is None else began + within_s
        try:
            if rebaser.first_tick and ticks and not (before and simulation.finished):
                outputs = self._first_tick(inputs)
                done = 1
                scoreboard[slot] = self._step + done
            while done < ticks and not ((before + done) and simulation.finished):
                outputs = tick(inputs)
                done += 1
                scoreboard[slot] = self._step + done
                now = time.monotonic()
                if now - listened < LISTEN_EVERY_S:
                    continue
                listened = now
                if self._control.waiting(fork.INTERRUPT, number):
                    raise StepInterruptedError(f"interrupted after {before + done:,} of {total:,} ticks")
                if now - reported >= PROGRESS_EVERY_S and before + done < total:
                    reported = now
                    self._control.send(fork.PROGRESS, {"done": before + done, "total": total})
                if now >= pause:
                    break
        except EOFError:
            raise
        except BaseException as cause:
            error = blame(cause, f"{type(simulation).__name__}.step")
            error.details |= {"step": self._step + done, "ticks": before + done}
            raised = not isinstance(error, StepInterruptedError)
            self._history.add(STEP, asked, ticks=done, raised=raised, told=outputs)
            raise error from cause
        finally:
            self._step += done
        elapsed_us = round((time.monotonic() - began) * 1e6)
        if done or not before:
            self._history.add(STEP, asked, ticks=done, told=outputs)
        return {"step": self._step, "ticks": done, "outputs": outputs, "elapsed_us": elapsed_us}

    def _first_tick(self, inputs: Any) -> Any:
        """Do the first tick since a clone, which may be spared its faults, or be learnt from."""
        rebaser, tick = self._rebaser, self._simulation.step
        rebaser.first_tick = False
        if rebaser.watching:
            faults = rebaser.before_first_tick()
            outputs = tick(inputs)
            rebaser.after_first_tick(faults)
        else:
            began = time.monotonic()
            outputs = tick(inputs)
            rebaser.suspect(time.monotonic() - began)
        return outputs

    def _play(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        began = time.monotonic()
        from_step = self._step

        def tick(inputs: Any) -> Any:
            outputs = self._first_tick(inputs) if self._rebaser.first_tick else self._simulation.step(inputs)
            self._step += 1
            self._scoreboard[self._slot] = self._step
            return outputs

        def record(kind: int, asked: Any, **how: Any) -> None:
            self._history.add(kind, self._history.pack(asked), **how)

        try:
            played = play(self._simulation, request, tick, record)
        except EOFError:
            raise
        except BaseException as cause:
            error = blame(cause, f"{type(self._simulation).__name__}.step")
            error.details |= {"step": self._step, "ticks": self._step - from_step}
            raise error from cause
        return {**played, "step": self._step, "elapsed_us": round((time.monotonic() - began) * 1e6)}

    def _write(self, request: Mapping[str, Any], _: int | None) -> None:
        field, value = request["field"], request["value"]
        array = self._simulation.array(field)
        region = resolve_region(request["region"], array.shape, what=field)
        target = array[region.select]
        try:
            # An array must fit as it is. A plain number may be any that the dtype can hold.
            given = value if hasattr(value, "dtype") else _scalar(value, array.dtype)
            if hasattr(value, "dtype") and not _same_kind(value.dtype, array.dtype):
                raise BadRequestError(
                    f"{field}: the value has dtype {value.dtype}, and the field {array.dtype}",
                    hint="convert it with astype",
                )
            if getattr(given, "shape", ()) not in ((), target.shape):
                raise BadRequestError(
                    f"{field}: the value has shape {list(given.shape)}, and the region {list(target.shape)}"
                )
            array[region.select] = given
        except (TypeError, ValueError, OverflowError) as cause:
            raise BadRequestError(f"{field}: {cause}", hint=f"the field has dtype {array.dtype}") from cause
        self._history.add(WRITE, self._history.pack((field, request["region"], value)))

    def _call(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        name = request["method"]
        self._simulation.exported_method(name)  # what is refused is no action
        asked = self._history.pack((name, request["args"], request["kwargs"]))
        value, raised = None, True
        try:
            value = run_exported(self._simulation, name, request["args"], request["kwargs"])
            raised = False
        finally:
            self._history.add(CALL, asked, raised=raised, told=value)
        return {"value": value}

    def _mark_moment(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        from .rollback import BranchMark  # mapped only where it is needed: what is mapped is forked

        if self._folders is not None:
            raise BadRequestError("a rewind does not take folders back", hint="take a snapshot, and restore it")
        began = time.monotonic_ns()
        self._mark = None if request["remove"] else BranchMark(self._simulation, self._step)
        self._marked = None if request["remove"] else self._history.moment()
        kept = self._mark.kept_bytes if self._mark is not None else 0
        return {"step": self._step, "kept_bytes": kept, "elapsed_us": (time.monotonic_ns() - began) // 1000}

    def _rewind(self, _: Mapping[str, Any], __: int | None) -> dict[str, Any]:
        if self._mark is None or self._marked is None:
            raise BadRequestError("the branch has no mark", hint="mark it first")
        began = time.monotonic_ns()
        pages = self._mark.rewind()
        self._history.rewind(self._marked)
        self._step = self._scoreboard[self._slot] = self._mark.step
        return {"step": self._step, "pages": pages, "elapsed_us": (time.monotonic_ns() - began) // 1000}

    def _remember(self, _: Mapping[str, Any], descriptor: int | None) -> dict[str, Any]:
        """Have `_go_back` take this whole process back to here, whatever it holds, and have it begin from here."""
        if descriptor is None:
            raise BadRequestError("a mark of a process comes with its twin's socket")
        flush()  # what is buffered now would be printed each time
        try:
            refuse_threads()
            self._remembers = True  # also in what is gone back to
            thawed, asked = fork.mark(self._control.fileno(), descriptor)
        except OSError as cause:
            self._remembers = False
            raise cannot_clone(cause) from cause
        except (SnapservError, fork.CannotGoBackError) as cause:
            self._remembers = False
            os.close(descriptor)
            raise BadRequestError(f"the process cannot be taken back: {cause}") from cause
        if thawed is not None:
            self._control.leave()
            raise _Thawed(thawed)
        if asked is None:
            raise _AnsweredError
        return self._begin(unpack(asked), None)

    def _go_back(self, request: Mapping[str, Any]) -> NoReturn:
        if not self._remembers:
            raise BadRequestError("the process has no mark")
        flush()
        try:
            fork.go_back(self._history.pack({"slot": request["slot"], "seed": request["seed"]}))
        except fork.CannotGoBackError as cause:
            raise BadRequestError(f"the process cannot be taken back: {cause}") from cause

    def _list_history(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        return self._history.page(request["start"])

    def _tell_trail(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        trail = self._history.trail
        told = {"count": trail.count, "running": trail.running, "stride": trail.stride, "marks": bytes(trail.marks)}
        return {**told, "digests": self._history.digests(request.get("at", [trail.count]))}

    def _replay(self, request: Mapping[str, Any], _: int | None) -> None:
        from ..operations.replaying import do_again  # mapped only where it is needed: what is mapped is forked

        number = request["number"]

        def do(op: str, **arguments: Any) -> Any:
            return self._handlers[op]({"number": number, "slot": self._slot, **arguments}, None)

        do_again(request["action"], do, lambda: self._control.waiting(fork.INTERRUPT, number))

    def _resume(self, _: Mapping[str, Any], __: int | None) -> dict[str, Any]:
        """Tell another server what the last one may not have heard."""
        folders, last = self._folders, self._last
        if folders is not None:
            folders.abandon()  # what was got ready for a snapshot that was not taken
        if last is not None:
            try:
                encode(fork.REPLY, last)
            except SnapservError as error:
                last["reply"] = {"error": SimulationError(str(error)).to_wire()}
        return {"last": last, "standing": _plain(folders.standing) if folders is not None else None}

    def _leave(self, _: Mapping[str, Any], __: int | None) -> None:
        if not self._begun:
            return  # a temporary branch, of which the author's code knows nothing
        with AuthorsCode(f"{type(self._simulation).__name__}.on_drop"):
            self._simulation.on_drop()

    def _prepare(self, request: Mapping[str, Any], _: int | None) -> Any:
        if self._folders is None:
            raise BadRequestError("the simulation branches no folders")
        self._tell_of_snapshot()
        return _plain(self._folders.prepare(**request["folders"]))

    def _tell_of_snapshot(self) -> None:
        with AuthorsCode(f"{type(self._simulation).__name__}.on_snapshot"):
            self._simulation.on_snapshot()

    def _freeze(self, _: Mapping[str, Any], descriptor: int | None) -> NoReturn:
        if descriptor is None:
            raise BadRequestError("a freeze comes with the snapshot's socket")
        folders = self._folders
        try:
            if folders is None:
                self._tell_of_snapshot()
            refuse_threads()
        except BaseException:
            os.close(descriptor)
            if folders is not None:
                folders.abandon()
            raise
        flush()  # what is buffered now would be printed by both
        try:
            spares = folders.spares if folders is not None else range(0)
            thawed, clone_ns = fork.freeze(self._control.fileno(), descriptor, spares)
        except OSError as cause:
            if folders is not None:
                folders.abandon()
            raise cannot_clone(cause) from cause
        if thawed is not None:
            self._control.leave()
            raise _Thawed(thawed)
        if folders is not None:
            folders.commit()
        self._rebaser.cloned(clone_ns)
        raise _AnsweredError


def refuse_threads() -> None:
    """Check that this process has one thread, since a fork copies only the thread that asks for it.

    Raises:
        ThreadsRunningError: Counts and names them; the simulation's fault.
    """
    if fork.count_threads() == 1:
        return
    names = thread_names()
    raise ThreadsRunningError(
        f"the simulation runs {len(names)} threads ({', '.join(names)}), and a fork would lose all but one",
        hint="turn thread pools off: OPENBLAS_NUM_THREADS=1, OMP_NUM_THREADS=1, torch.set_num_threads(1); "
        "join threads of your own before a step returns",
        details={"threads": len(names), "names": names},
    )


def thread_names() -> list[str]:
    """Return the names of this process's threads: Python's own names where it has started them."""
    threading = sys.modules.get("threading")
    known = {thread.native_id: thread.name for thread in threading.enumerate()} if threading is not None else {}
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                names.append(known.get(int(task)) or comm.read().strip())
        except FileNotFoundError:
            continue  # it ended meanwhile
    return names


def cannot_clone(cause: OSError) -> SnapservError:
    """Return the typed error for a clone that the kernel refused."""
    from ..machine.limits import exhausted

    return exhausted("the kernel made no process", cause)


class _Thawed(BaseException):
    """Unwinds the request of the process that was copied, in the copy."""

    def __init__(self, control: int) -> None:
        self.control = control


class _AnsweredError(Exception):
    """The request was answered already, from C."""


def _build(request: Mapping[str, Any]) -> tuple[Simulation, Folders | None, dict[str, Any]]:
    """Return the simulation whose setup has run and whose arena is sealed, its folders, and its description."""
    began = time.monotonic()
    sys.path[:0] = [path for path in request["path"] if path not in sys.path]
    kind = load_simulation(request["target"])
    params = kind.bind(request["params"])  # before anything is made: setup's own are bound alike
    folders = _branch_folders([*kind.branch_dirs, *request["branch_dirs"]], request["stores"])
    with AuthorsCode(f"{kind.__name__}.setup"):
        arena = Arena(backing=request["backing"])
        simulation = kind.build(arena, **request["params"])
    seed = params.get("seed", 0)
    streams.seed_later(seed if isinstance(seed, int) and seed >= 0 else 0)
    refuse_threads()
    if folders is not None:
        folders.note()
    arena.seal()
    huge_heap_bytes = use_huge_pages(arena.addresses)
    described = {
        "simulation": kind.__name__,
        "doc": inspect.getdoc(kind) or "",
        "fields": simulation.describe_fields(),
        "addresses": {name: extent.address for name, extent in arena.extents.items()},
        "segments": [(segment.address, segment.size_bytes) for segment in arena.segments],
        "inputs": kind.describe_inputs(),
        "params": kind.describe_params(),
        "param_values": {name: _plain(value) for name, value in params.items()},
        "methods": kind.describe_methods(),
        "arena": arena.describe(),
        "fork": " · ".join(part for part in fork.mode() if part),
        "huge_heap_bytes": huge_heap_bytes,
        "folders": folders.describe() if folders is not None else None,
        "says_goodbye": kind.on_drop is not Simulation.on_drop,
        "setup_s": time.monotonic() - began,
    }
    return simulation, folders, described


def _branch_folders(named: list[str], stores: list[str]) -> Folders | None:
    if not named:
        return None
    from ..folders.view import HOW_VARIABLE, Folders  # mapped only where it is needed: what is mapped is forked

    refuse_threads()  # which would go on seeing the folders as they were
    return Folders.mount(named, stores, how=os.environ.get(HOW_VARIABLE))


def _receive(control: CellEnd) -> tuple[int, dict[str, Any], int | None]:
    from .link import decode

    prefix, header, payload, descriptor = control.receive()
    return prefix.kind, decode(header, payload) if header else {}, descriptor


def _scalar(value: Any, dtype: Any) -> Any:
    import numpy as np

    made = np.asarray(value)
    if made.dtype.hasobject or (made.dtype.kind in "US") != (dtype.kind in "US"):
        raise BadRequestError(f"{value!r} is no value of dtype {dtype}")
    fitted = made.astype(dtype)
    if dtype.kind in "iub" and not np.array_equal(fitted, made):
        raise BadRequestError(f"{value!r} does not fit dtype {dtype}")
    return fitted


def _same_kind(given: Any, wanted: Any) -> bool:
    import numpy as np

    return bool(np.can_cast(given, wanted, "same_kind"))


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value, enc_hook=str)
