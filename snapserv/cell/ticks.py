"""Ticks: the loop that a simulation's steps are, what listens meanwhile, and what is noted of them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import to_builtins

from ..errors import StepInterruptedError
from ..ext import fork
from ..simulation.blame import blame
from ..simulation.inputs import EachTick
from .history import STEP
from .rollout import play, refuse_finished

if TYPE_CHECKING:
    from snapserv_client.protocol import ExpandArgs, RunArgs, StepArgs

    from ..memory.rebasing import Rebaser
    from ..simulation.base import Simulation
    from .history import History
    from .records import Records
    from .scoreboard import Scoreboard
    from .watching import Watch

SAID = "step", "ticks", "outputs", "elapsed_us"
"""What there is to say of every step."""
FOUND = "stopped", "series"
"""What there is to say as well where ticks were looked at."""
PROGRESS_EVERY_S = 0.05
LISTEN_EVERY_S = 0.001


def looked_at(args: StepArgs | RunArgs | ExpandArgs) -> dict[str, Any]:
    """Return what a cell is told of what is to be looked at after each tick: most requests want nothing of it."""
    if not args.record and args.until is None:
        return {}
    return {"record": to_builtins(args.record), "every": args.every, "until": to_builtins(args.until)}


class Asker(Protocol):
    """Who asked for ticks."""

    def waiting(self, kind: int, number: int) -> bool:
        """Return whether the request of that number is to stop."""

    def send(self, kind: int, value: Any) -> None:
        """Tell how far it has come."""


class Ticks:
    """What a branch has of its own time.

    Args:
        simulation: What ticks.
        scoreboard: Where the server and all cells see how far each branch is.
        rebaser: Spares the first tick after a clone its faults.
        history: What was done is noted there.
        records: What is recorded is kept there.

    Attributes:
        slot: The branch's place on the scoreboard.
        step: How many ticks its state is from its tree's root.
    """

    def __init__(
        self, simulation: Simulation, scoreboard: Scoreboard, rebaser: Rebaser, history: History, records: Records
    ) -> None:
        self.simulation = simulation
        self._scoreboard = scoreboard
        self._rebaser = rebaser
        self.history = history
        self._records = records
        self.slot = 0
        self.step = 0

    def count_in(self, slot: int) -> None:
        """Count at a place of the scoreboard from now on."""
        self.slot = slot
        self._scoreboard[slot] = self.step

    def go_to(self, step: int) -> None:
        """Stand at another step: the state is another one."""
        self.step = self._scoreboard[self.slot] = step

    def run(self, request: Mapping[str, Any], asker: Asker) -> dict[str, Any]:
        """Do the ticks that a request asks for, until the simulation is finished or somebody wants it to stop.

        Args:
            request: ``ticks`` with ``inputs``, its ``number``, and what is to be looked at after each.
            asker: Who may stop it, and is told how far it has come.

        Returns:
            Where it stands now, how many ticks were done, what the last one put out, and what was recorded.

        Raises:
            SnapservError: What the simulation met, or who stopped it; the details say how far it came.
        """
        simulation, scoreboard, slot, rebaser = self.simulation, self._scoreboard, self.slot, self._rebaser
        if not request.get("before"):
            refuse_finished(simulation)
        ticks: int = request["ticks"]
        given = EachTick(simulation, request["inputs"], ticks)
        stale = given.stale
        asked = self.history.pack(request["inputs"])
        number: int = request["number"]
        # Where a client's request comes in pieces: what was done of it before, of how much, and when to stop.
        before: int = request.get("before", 0)
        total: int = request.get("total", ticks)
        within_s: float | None = request.get("within_s")
        watch = self.watch(request)
        tick = simulation.step
        at, now_of = self.step, time.monotonic  # looked up once: a tick may take less than a microsecond
        inputs: Any = None
        outputs: Any = None
        done = 0
        began = reported = now_of()
        listen = began + LISTEN_EVERY_S
        pause = math.inf if within_s is None else began + within_s
        try:
            if rebaser.first_tick and ticks and not (before and simulation.finished):
                inputs = given.take()
                outputs = self._first_tick(inputs)
                done = 1
                scoreboard[slot] = at + done
                if watch is not None and watch.after(outputs, at + done):
                    ticks = done
            while done < ticks and not ((done or before) and simulation.finished):
                if stale:
                    inputs = given.take()
                outputs = tick(inputs)
                done += 1
                scoreboard[slot] = at + done
                if watch is not None and watch.after(outputs, at + done):
                    break
                now = now_of()
                if now < listen:
                    continue
                listen = now + LISTEN_EVERY_S
                if asker.waiting(fork.INTERRUPT, number):
                    raise StepInterruptedError(f"interrupted after {before + done:,} of {total:,} ticks")
                if now - reported >= PROGRESS_EVERY_S and before + done < total:
                    reported = now
                    asker.send(fork.PROGRESS, {"done": before + done, "total": total})
                if now >= pause:
                    break
        except EOFError:
            raise
        except BaseException as cause:
            error = blame(cause, f"{type(simulation).__name__}.step")
            error.details |= {"step": self.step + done, "ticks": before + done}
            raised = not isinstance(error, StepInterruptedError)
            self.history.add(STEP, asked, ticks=done, raised=raised, told=outputs)
            error.details["action"] = self.history.trail.count - 1
            raise error from cause
        finally:
            self.step += done
        elapsed_us = round((now_of() - began) * 1e6)
        if done or not before:
            self.history.add_soon(STEP, asked, done, outputs)
        told = {"step": self.step, "ticks": done, "outputs": outputs, "elapsed_us": elapsed_us}
        if watch is not None:
            if watch.error is not None:
                watch.error.details |= {"step": self.step, "ticks": before + done, "whole": True}
                raise watch.error
            told |= watch.told()
        return told

    def play(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a child of an expansion does; see `snapserv.cell.rollout.play`.

        Raises:
            SnapservError: What the simulation met; the details say how far it came.
        """
        began = time.monotonic()
        from_step = self.step
        watch = self.watch(request)
        ended = False

        def tick(inputs: Any) -> Any:
            nonlocal ended
            outputs = self.tick(inputs)
            ended = watch is not None and watch.after(outputs, self.step)
            return outputs

        def note(kind: int, asked: Any, **how: Any) -> None:
            self.history.add(kind, self.history.pack(asked), **how)

        try:
            played = play(self.simulation, request, tick, note, lambda: ended)
            if watch is not None:
                if watch.error is not None:
                    raise watch.error
                played |= watch.told()
        except EOFError:
            raise
        except BaseException as cause:
            error = blame(cause, f"{type(self.simulation).__name__}.step")
            error.details |= {"step": self.step, "ticks": self.step - from_step}
            raise error from cause
        return {**played, "step": self.step, "elapsed_us": round((time.monotonic() - began) * 1e6)}

    def tick(self, inputs: Any) -> Any:
        """Do one tick, and return what it puts out."""
        outputs = self._first_tick(inputs) if self._rebaser.first_tick else self.simulation.step(inputs)
        self.step += 1
        self._scoreboard[self.slot] = self.step
        return outputs

    def watch(self, request: Mapping[str, Any]) -> Watch | None:
        """Return what looks at each tick of a request that begins now; None where nothing is to be looked at."""
        return self._records.watch(self.simulation, request, self.step)

    def _first_tick(self, inputs: Any) -> Any:
        """Do the first tick since a clone, which may be spared its faults, or be learnt from."""
        rebaser, tick = self._rebaser, self.simulation.step
        rebaser.begin_tick()
        if rebaser.watching:
            faults = rebaser.before_first_tick()
            outputs = tick(inputs)
            rebaser.after_first_tick(faults)
        else:
            began = time.monotonic()
            outputs = tick(inputs)
            rebaser.suspect(time.monotonic() - began)
        return outputs
