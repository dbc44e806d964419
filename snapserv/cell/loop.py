"""A live cell: the process that holds a simulation, its loop, and the requests it answers.

There are no threads and no ZeroMQ here, and few imports: what is mapped is forked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from snapserv_client.errors import SnapservError

from ..errors import BadRequestError, SimulationError, StepInterruptedError
from ..ext import fork
from ..machine.limits import cannot_clone
from ..machine.oom import BRANCH, adjustment
from ..memory.rebasing import Rebaser
from ..simulation.base import Simulation
from ..simulation.blame import AuthorsCode
from ..simulation.calling import prepare_call
from ..simulation.inputs import fresh
from ..simulation.leaving import flush, flush_all
from ..simulation.reseeding import MOST_OBJECTS
from . import loops
from .files import Files
from .going_back import begin_again, go_back
from .history import BEGIN, CALL, WRITE, History, Moment
from .holdings import ADVICE, Held, Holdings
from .link import CellEnd, encode, unsendable
from .records import Records
from .scoreboard import Scoreboard
from .threads import refuse_threads, told_of_threads
from .ticks import Ticks
from .until import held
from .writing import write_field

if TYPE_CHECKING:
    from .lease import Lease
    from .rollback import BranchMark

HOUSEKEEPING_S = 0.01


class Cell:
    """A branch, seen from inside."""

    def __init__(
        self,
        simulation: Simulation,
        control: CellEnd,
        scoreboard: Scoreboard,
        holdings: Holdings,
        files: Files,
        own_score: int = 0,
        records: Records | None = None,
    ) -> None:
        self._simulation = simulation
        self._holdings = holdings
        self._looked_after_a_tick = self._looked_whole = False
        self._files = files
        self._control = control
        self._asker: CellEnd | Lease = control
        self._own_score = adjustment(BRANCH, own_score)
        self._rebaser = Rebaser(simulation.arena)
        self._history = History()
        self._records = Records() if records is None else records
        self._ticks = Ticks(simulation, scoreboard, self._rebaser, self._history, self._records)
        self._mark: BranchMark | None = None
        self._marked: Moment | None = None
        self._remembers = False
        self._begun = False
        self._looked_at = 0
        self._handlers: dict[str, Callable[[Mapping[str, Any], int | None], Any]] = {
            "begin": self._begin,
            "step": self._run_ticks,
            "play": self._play,
            "write": self._write,
            "call": self._call,
            "record": self._order_records,
            "records": self._tell_records,
            "retrace": self._retrace,
            "hand_over": lambda request, _: {"told": self._records.hand_over(request["after"], request["until"])},
            "take_over": self._take_over,
            "run": self._run_inputs,
            "tell": self._tell_condition,
            "mark": self._mark_moment,
            "rewind": self._rewind,
            "remember": self._remember,
            "prepare": self._prepare,
            "freeze": self._freeze,
            "history": self._list_history,
            "stream": lambda request, _: self._history.stream(request["most"]),
            "trail": lambda request, _: self._history.tell_trail(request.get("at")),
            "onward": lambda request, _: self._history.onward(request["path"]),
            "replay": self._replay,
            "leave": self._leave,
            "resume": self._resume,
            "lease": self._lease,
            "yield": lambda request, _: None,
        }
        self._last: dict[str, Any] | None = None
        self._put_out: Mapping[str, Any] | None = None

    def run(self) -> NoReturn:
        """Answer requests until the server hangs up."""
        while True:
            kind, request, descriptor = self._control.next_request()
            if kind != fork.REQUEST:
                continue  # an interrupt that came after its step had ended
            link = self._control.link
            try:
                reply = self.answer(request, descriptor)
            except _Thawed as thawed:
                # Another process now: the branch made of this one. Whoever asked is answered by the original.
                self._control = self._asker = CellEnd(thawed.control)
                loops.renew()
                self._last = None
                self._rebaser.thawed()
                continue
            except _AnsweredError:
                self.housekeep()
                continue
            if link == self._control.link:
                self._reply(reply)
            self.housekeep()

    def answer(self, request: Mapping[str, Any], descriptor: int | None = None) -> dict[str, Any]:
        """Do a request, and return its reply."""
        try:
            reply = {"ok": self._handlers[request["op"]](request, descriptor)}
        except SnapservError as error:
            reply = {"error": error.to_wire()}
        begun = reply.get("ok") if request["op"] == "begin" else None
        if begun is None or "reseeded" in begun:  # and not a branch in which no code of the author's has run
            flush()  # from here on the process may be ended at any time, and nothing is lost by it
        if "key" in request:
            # The server may die before it has written down that the client was told.
            self._last = {"key": request["key"], "before": request.get("before", 0), "reply": reply}
        return reply

    def delivered(self) -> None:
        """Take note that whoever asked last has the reply: nobody needs to be told again."""
        self._last = None

    def housekeep(self) -> None:
        """Do some of what is to be done between two requests, and more of it while nobody waits."""
        self._history.catch_up()
        began = time.monotonic() if self._rebaser.pending else 0.0
        while self._rebaser.pending:
            self._rebaser.advance()
            if time.monotonic() - began > HOUSEKEEPING_S and self._asker.ready():
                return

    @property
    def step(self) -> int:
        """How many ticks its state is from its tree's root."""
        return self._ticks.step

    def _reply(self, reply: dict[str, Any]) -> None:
        try:
            self._control.send(fork.REPLY, reply)
        except SnapservError as error:
            self._control.send(fork.REPLY, {"error": unsendable(error).to_wire()})

    def _lease(self, request: Mapping[str, Any], descriptor: int | None) -> NoReturn:
        """Let a client ask without the server, until either of them has enough of it."""
        from .lease import Lease  # mapped only where it is needed: what is mapped is forked

        if descriptor is None:
            raise BadRequestError("a lease comes with the client's socket")
        link = self._control.link
        self._asker = lease = Lease(self._control, descriptor, request)
        try:
            told = lease.serve(self._simulation, self)
            if link == self._control.link:
                self._reply({"ok": told})
        finally:
            self._asker = self._control
            lease.close()
        raise _AnsweredError

    # ------------------------------------------------------------------------------------------- requests

    def _begin(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        if "again" in request:
            self._reset_in_place(request)
        self._ticks.count_in(request["slot"])
        fork.prefer(self._own_score)
        # Before any of the author's code. Where a beginning is replayed, the folders are there already.
        begun = {"step": self.step, "folders": self._files.begin(request)}
        if request.get("resumes"):
            return begun
        self._begun = not request.get("silent")
        simulation, seed = self._simulation, request["seed"]
        if seed is None and not simulation.has_hook("on_branch"):
            return begun  # none of the author's code is run
        if seed is not None and self._looked_at != self._history.trail.count:
            # What ticks have made since: once for a branch and its descendants, until they tick again.
            simulation.find_streams(MOST_OBJECTS)
            self._looked_at = self._history.trail.count
        if not self._begun:
            return begun
        with AuthorsCode(f"{type(simulation).__name__}.on_branch"):
            reseeded, missed = simulation.begin_branch(seed)
        self._history.add(BEGIN, self._history.pack(seed))
        return {**begun, "reseeded": reseeded, "missed": missed}

    def _run_ticks(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        return self._look_after(self._ticks.run(request, self._asker))

    def _run_inputs(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        from .sequence import run_inputs  # mapped only where it is needed: what is mapped is forked

        return self._look_after(run_inputs(self._ticks, request, self._asker))

    def _look_after(self, told: dict[str, Any]) -> dict[str, Any]:
        """Look at what the process holds after the first ticks of a branch."""
        if told["ticks"] and not self._looked_after_a_tick:
            self._looked_after_a_tick = True  # by the branches of this one as well
            ours = (*self._asker.descriptors, *self._rebaser.touched.descriptors)
            found = self._holdings.look(ours, self._rebaser.building)
            told["held"] = [*map(_told, found), *told_of_threads()]
        return told

    def _play(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        return self._ticks.play(request)

    def _order_records(self, request: Mapping[str, Any], _: int | None) -> None:
        self._records.order(self._simulation, request)

    def _tell_records(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        return {"series": self._records.tell(request["after"])}

    def _write(self, request: Mapping[str, Any], _: int | None) -> None:
        write_field(self._simulation, request["field"], request["region"], request["value"])
        self._history.add(WRITE, self._history.pack((request["field"], request["region"], request["value"])))

    def _call(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        name = request["method"]
        # What is refused is no action.
        run = prepare_call(self._simulation, name, fresh(request["args"]), fresh(request["kwargs"]))
        asked = self._history.pack((name, request["args"], request["kwargs"]))
        value, raised = None, True
        try:
            value = run()
            raised = False
        except SnapservError as error:
            error.details["action"] = self._history.trail.count
            raise
        finally:
            self._history.add(CALL, asked, raised=raised, told=value)
        return {"value": value}

    def _mark_moment(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        from .rollback import BranchMark  # mapped only where it is needed: what is mapped is forked

        self._files.refuse_going_back()
        began = time.monotonic_ns()
        self._mark = None if request["remove"] else BranchMark(self._simulation, self.step)
        self._marked = None if request["remove"] else self._history.moment()
        kept = self._mark.kept_bytes if self._mark is not None else 0
        return {"step": self.step, "kept_bytes": kept, "elapsed_us": (time.monotonic_ns() - began) // 1000}

    def _rewind(self, _: Mapping[str, Any], __: int | None) -> dict[str, Any]:
        if self._mark is None or self._marked is None:
            raise BadRequestError("the branch has no mark", hint="mark it first")
        self._files.refuse_going_back()
        began = time.monotonic_ns()
        pages = self._mark.rewind()
        self._history.rewind(self._marked)
        self._records.cut(self._mark.step)
        self._ticks.go_to(self._mark.step)
        return {"step": self.step, "pages": pages, "elapsed_us": (time.monotonic_ns() - began) // 1000}

    def _remember(self, _: Mapping[str, Any], descriptor: int | None) -> dict[str, Any]:
        """Have `_reset_in_place` put this whole process back to here, whatever it holds, and begin from here."""
        if descriptor is None:
            raise BadRequestError("a mark of a process comes with its twin's socket")
        try:
            flush_all()  # what is buffered now would be written each time
            refuse_threads()
            self._files.refuse_going_back()
            self._rebaser.touched.hold_off()
            self._refuse_what_cannot_be_cloned(descriptor)
            self._remembers = True  # also in what is gone back to
            thawed, asked = fork.mark(self._control.fileno(), descriptor)
        except OSError as cause:
            self._remembers = False
            raise cannot_clone(cause) from cause
        except (SnapservError, fork.CannotResetError) as cause:
            self._remembers = False
            os.close(descriptor)
            raise BadRequestError(f"the process cannot be reset in place: {cause}") from cause
        if thawed is not None:
            self._control.leave()
            raise _Thawed(thawed)
        if asked is None:
            raise _AnsweredError
        return begin_again(asked, self._begin, self._play)

    def _reset_in_place(self, request: Mapping[str, Any]) -> NoReturn:
        if not self._remembers:
            raise BadRequestError("the process has no mark")
        self._files.refuse_going_back()
        flush()
        go_back(request)

    def _list_history(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        return self._history.page(request["start"])

    def _retrace(self, _: Mapping[str, Any], __: int | None) -> dict[str, Any]:
        """Be there for what was done to be done again, and say what led here.

        Of that nothing is recorded twice, and the author's code is not told if it fails.
        """
        self._begun = False
        self._records.set_aside()
        return {"path": self._history.path(), "trail": self._history.tell_trail(None)}

    def _take_over(self, request: Mapping[str, Any], _: int | None) -> None:
        """Be a branch that has come here by what was done again, with what was recorded then."""
        self._begun, self._put_out = True, None
        self._records.take_over(request["told"])

    def _tell_condition(self, request: Mapping[str, Any], _: int | None) -> dict[str, Any]:
        """Say whether a condition holds after what was done again last, where that is a tick."""
        return {"holds": held(self._simulation, request["until"], self._put_out)}

    def _replay(self, request: Mapping[str, Any], _: int | None) -> Any:
        from .again import do_again  # mapped only where it is needed: what is mapped is forked

        number = request["number"]

        def do(op: str, **arguments: Any) -> Any:
            self._history.catch_up()  # what was put out may be a view of what this changes
            return self._handlers[op]({"number": number, "slot": self._ticks.slot, **arguments}, None)

        try:
            last = do_again(request["action"], do, lambda: self._control.waiting(fork.INTERRUPT, number))
        except StepInterruptedError as error:
            error.details["step"] = self.step
            raise
        if last is None or not request.get("telling"):
            return None
        self._put_out = last["outputs"] or {}
        try:
            encode(fork.REPLY, last)
        except SnapservError:
            last["outputs"] = None  # nobody was told of it then, either
        return last

    def _resume(self, _: Mapping[str, Any], __: int | None) -> dict[str, Any]:
        """Tell another server what the last one may not have heard."""
        last, files = self._last, self._files.resume()
        if last is not None:
            try:
                encode(fork.REPLY, last)
            except SnapservError as error:
                last["reply"] = {"error": SimulationError(str(error)).to_wire()}
        return {"last": last, **files}

    def _leave(self, _: Mapping[str, Any], __: int | None) -> None:
        if not self._begun:
            return  # a temporary branch, of which the author's code knows nothing
        with AuthorsCode(f"{type(self._simulation).__name__}.on_drop"):
            self._simulation.on_drop()

    def _prepare(self, request: Mapping[str, Any], _: int | None) -> Any:
        self._tell_of_snapshot()
        flush_all()  # before folders are copied
        self._refuse_what_cannot_be_cloned()
        return self._files.prepare(request["folders"])

    def _tell_of_snapshot(self) -> None:
        with AuthorsCode(f"{type(self._simulation).__name__}.on_snapshot"):
            self._simulation.on_snapshot()

    def _refuse_what_cannot_be_cloned(self, *ours: int) -> None:
        ours = (self._control.fileno(), *self._rebaser.touched.descriptors, *ours)
        self._holdings.refuse(ours, self._rebaser.building, whole=not self._looked_whole)
        self._looked_whole = True

    def _freeze(self, _: Mapping[str, Any], descriptor: int | None) -> dict[str, Any]:
        if descriptor is None:
            raise BadRequestError("a freeze comes with the snapshot's socket")
        files = self._files
        try:
            unknown = files.unknown()
            if not files.branched:
                self._tell_of_snapshot()
                self._refuse_what_cannot_be_cloned(descriptor)
                unknown = files.unknown()  # on_snapshot may be the first to write
            refuse_threads()
            flush_all()  # what is buffered now would be written by both
        except BaseException:
            os.close(descriptor)
            files.abandon()
            raise
        if unknown is not None:
            os.close(descriptor)
            return {"folders": unknown}  # and the server asks again, for a snapshot that is prepared
        try:
            spares = files.spares if files.branched else range(0)
            thawed, clone_ns = fork.freeze(self._control.fileno(), descriptor, spares)
        except OSError as cause:
            files.abandon()
            raise cannot_clone(cause) from cause
        if thawed is not None:
            self._control.leave()
            raise _Thawed(thawed)
        if files.branched:
            files.commit()
        self._rebaser.cloned(clone_ns)
        raise _AnsweredError


class _Thawed(BaseException):
    """Unwinds the request of the process that was copied, in the copy."""

    def __init__(self, control: int) -> None:
        self.control = control


class _AnsweredError(Exception):
    """The request was answered already."""


def _told(held: Held) -> dict[str, str]:
    return {**held._asdict(), "text": str(held), "advice": ADVICE[held.kind]}
