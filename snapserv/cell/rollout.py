"""What a child of an expansion does in its own process: play inputs, follow a policy, and say what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import BadRequestError
from ..simulation.base import is_exported
from ..simulation.blame import AuthorsCode
from ..simulation.calling import prepare_call
from ..simulation.inputs import EachTick, kept
from .history import CALL, STEP

if TYPE_CHECKING:
    import msgspec

    from ..simulation.base import Simulation


def play(
    simulation: Simulation,
    request: Mapping[str, Any],
    tick: Callable[[msgspec.Struct], Any],
    note: Callable[..., None],
    ended: Callable[[], bool],
) -> dict[str, Any]:
    """Run the ticks that a request asks for, until the simulation is finished; return what is to be reported.

    Args:
        simulation: What is read.
        request: ``sequence``, inputs that are held for ``ticks`` ticks each; ``policy``, an exported method whose
            result is the inputs of the next tick, for ``policy_ticks`` more; ``read``, names of fields, outputs and
            exported methods to call (all outputs where there is none); ``sum``, names of outputs to add up; ``by``,
            the name of what children are compared by.
        tick: Steps it in place with some inputs, and returns what it puts out.
        note: Called with each action that this amounts to, as `snapserv.cell.history.History.add` takes them.
        ended: Says whether the last tick was the last one.

    Raises:
        BadRequestError: Inputs that do not fit, something to read or to sum that is not there, or a simulation that
            is finished.
        SimulationError: What an exported method raised.
    """
    totals: dict[str, Any] = dict.fromkeys(request["sum"], 0)
    outputs: Mapping[str, Any] = {}
    inputs: Any = None
    ticks = 0
    for raw, given, wanted in _runs(simulation, request, note):
        if not ticks:
            refuse_finished(simulation)
        done = 0
        while done < wanted and not (done and (ended() or simulation.finished)):
            if given.stale:
                inputs = given.take()
            said = tick(inputs)
            outputs = said or {}
            done += 1
            for name in totals:
                totals[name] = _sum(totals[name], _of(outputs, name, "sum"), name)
        note(STEP, raw, ticks=done, told=said)
        ticks += done
        if ended() or simulation.finished:
            break
    fields = {name: simulation.array(name) for name in request["read"] if name in simulation.fields}
    asked = [name for name in request["read"] if name not in fields]
    found = {name: _read(simulation, outputs, name, note) for name in asked}
    return {
        "ticks": ticks,
        "outputs": found if request["read"] else outputs,
        "totals": totals,
        "fields": fields,
        "finished": bool(simulation.finished),
        "score": _score({**found, **outputs, **totals}, request["by"]) if request["by"] else None,
    }


def _runs(
    simulation: Simulation, request: Mapping[str, Any], note: Callable[..., None]
) -> Iterator[tuple[Mapping[str, Any], EachTick, int]]:
    """Yield inputs, as they came and as the simulation takes them, and for how many ticks they hold."""
    for raw in request["sequence"]:
        yield raw, EachTick(simulation, raw, request["ticks"]), request["ticks"]
    if request["policy"] is not None:
        for _ in range(request["policy_ticks"]):
            chosen = prepare_call(simulation, request["policy"])()
            if not isinstance(chosen, Mapping):
                raise BadRequestError(
                    f"the policy {request['policy']} returned {type(chosen).__name__}",
                    hint="return a dict of inputs",
                )
            note(CALL, (request["policy"], [], {}), told=chosen)
            chosen = kept(chosen)  # its parts may be the simulation's own, which the tick changes
            yield chosen, EachTick(simulation, chosen, 1), 1


def _read(simulation: Simulation, outputs: Mapping[str, Any], name: str, note: Callable[..., None]) -> Any:
    if name not in outputs and is_exported(getattr(type(simulation), name, None)):
        value = prepare_call(simulation, name)()
        note(CALL, (name, [], {}), told=value)
        return value
    return _of(outputs, name, "read")


def _of(outputs: Mapping[str, Any], name: str, what: str) -> Any:
    try:
        return outputs[name]
    except KeyError:
        known: Sequence[str] = sorted(map(str, outputs))
        raise BadRequestError(
            f"{what}: {name!r} is no field, output or exported method",
            hint=f"outputs: {', '.join(known) or 'none'}",
        ) from None


def _sum(total: Any, value: Any, name: str) -> Any:
    try:
        return total + value
    except (TypeError, ValueError) as cause:
        raise BadRequestError(
            f"sum: {name!r} does not add up: {cause}", hint="only numbers do, and arrays of one shape"
        ) from cause


def _score(found: Mapping[str, Any], name: str) -> float:
    try:
        return float(found[name])
    except (KeyError, TypeError, ValueError):
        raise BadRequestError(
            f"by: {name!r} is no number among the outputs and sums", hint="name an output, or one of sum"
        ) from None


def refuse_finished(simulation: Simulation) -> None:
    """Check that there is something to step.

    Raises:
        BadRequestError: The simulation is finished.
        SimulationError: It says so by a property, which raised.
    """
    if type(simulation).finished is False and "finished" not in vars(simulation):
        return  # it never says so
    kind = type(simulation).__name__
    with AuthorsCode(f"{kind}.finished"):
        finished = bool(simulation.finished)
    if finished:
        raise BadRequestError(
            f"{kind} is finished: there is nothing more to step",
            hint="restore a snapshot, or call what begins again, as an environment's reset",
            details={"finished": True},
        )
