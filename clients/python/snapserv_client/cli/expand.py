"""``expand``: try many inputs from one moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import click

from ..errors import BadRequestError
from ..expansion import Best, Keep, Outcome
from .drawing import Colours, Filmed, Gif, Limits, Mp4, files_of, limits_of, reel_of, written
from .nodes import NodeName
from .options import Endpoint, Json, Rng, connected, parsed, rng_of
from .outcomes import outcomes_table
from .output import exit_code, plain, show
from .parameters import Argument, Option

if TYPE_CHECKING:
    from .. import Branch, Snapshot
    from ..expansion import Play

PLAIN = ("index", "ok", "step", "ticks", "finished", "elapsed_s", "outputs", "totals", "fields")


def expand(
    node: NodeName,
    inputs: Annotated[list[str], Argument(help="For each child a JSON map of inputs, or an array of maps.")],
    steps: Annotated[int, Option(help="For how many ticks each inputs are held.")] = 1,
    read: Annotated[list[str] | None, Option(help="A field or output to return; all outputs.")] = None,
    sum_: Annotated[list[str] | None, Option("--sum", help="An output to add up over all ticks.")] = None,
    policy: Annotated[str | None, Option(help="An exported method that returns inputs.")] = None,
    policy_steps: Annotated[int, Option(help="For how many more ticks it is asked.")] = 0,
    keep: Annotated[str, Option(help="none, all, or COUNT:NAME: the best by an output or sum.")] = "none",
    smallest: Annotated[bool, Option("--smallest", help="The best are the smallest.")] = False,
    as_snapshots: Annotated[bool, Option("--as-snapshots", help="Keep them frozen.")] = False,
    parallel: Annotated[int | None, Option(help="How many run at a time; as many as cores.")] = None,
    rng: Rng = "same",
    timeout: Annotated[float | None, Option(help="Seconds for each child.")] = None,
    gif: Gif = None,
    mp4: Mp4 = None,
    every: Annotated[int, Option(help="A frame of the film every so many ticks.")] = 1,
    field: Filmed = None,
    limits: Limits = None,
    colours: Colours = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Try every input from a node: a child each, branched, stepped, read and ended in one round trip.

    It has failed where every child has, and exits as it would after the first one's error. A film shows the
    children side by side as they go on, one after the other; none of them is kept.

    Examples:
        snapserv expand before '{"wind": [3, 0]}' '{"wind": [0, 3]}' --steps 50
        snapserv expand before '{"wind": [3, 0]}' '{"wind": [0, 3]}' --keep 1:burnt_ha
        snapserv expand before '{"wind": [3, 0]}' '{"wind": [0, 3]}' --steps 50 --every 10 --gif futures.gif
    """
    with connected(endpoint, as_json=as_json) as server:
        kept, given = _keep(keep, largest=not smallest), [_inputs(text) for text in inputs]
        reel = reel_of(gif, mp4, field=field, limits=limits, colours=colours)
        playing: Play = {
            "steps": steps,
            "policy": policy,
            "policy_steps": policy_steps,
            "read": read or (),
            "sum": sum_ or (),
            "parallel": parallel,
            "rng": rng_of(rng),
            "timeout_s": timeout,
        }
        outcomes: Sequence[Outcome[Branch | Snapshot | None]]
        if reel is None:
            keep_as: Literal["snapshot", "branch"] = "snapshot" if as_snapshots else "branch"
            outcomes = server.node(node).expand(given, keep=kept, keep_as=keep_as, **playing)
        elif kept != "none":
            raise BadRequestError("children that are filmed are not kept", hint="expand once more, without a film")
        else:
            from ..pictures import film_expansion

            with written(reel):
                outcomes = film_expansion(
                    reel, server.node(node), given, every=every, of=field, limits=limits_of(limits),
                    colours=colours, **playing,
                )  # fmt: skip

    found = [
        {
            **{name: plain(getattr(outcome, name)) for name in PLAIN},
            "error": None if outcome.error is None else outcome.error.to_wire(),
            "node": None if outcome.node is None else plain(outcome.node.last),
        }
        for outcome in outcomes
    ]
    best = Best(1, kept.by, kept.largest) if isinstance(kept, Best) else _summed(sum_, largest=not smallest)

    def people() -> Any:
        from rich.console import Group
        from rich.text import Text

        table = outcomes_table(outcomes, given, best)
        return Group(table, *(Text(f"→ {path}") for path in files_of(reel).values()))

    show(found, as_json=as_json, people=people)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(errors) == len(outcomes):
        raise click.exceptions.Exit(exit_code(errors[0]))


def _inputs(text: str) -> Any:
    found = parsed(text)
    if isinstance(found, dict) or (isinstance(found, list) and all(isinstance(each, dict) for each in found)):
        return found
    raise BadRequestError(f"{text!r} are no inputs", hint="""write '{"wind": [3, 0]}' or '[{...}, {...}]'""")


def _keep(text: str, *, largest: bool) -> Keep:
    if text in ("none", "all"):
        return text  # type: ignore[return-value]  # one of the two
    count, colon, name = text.partition(":")
    if not (colon and name and count.isdigit() and int(count)):
        raise BadRequestError(f"--keep {text!r}", hint="none, all, or COUNT:NAME as in 3:reward")
    return Best(int(count), name, largest)


def _summed(names: list[str] | None, *, largest: bool) -> Best | None:
    """Return by what children are compared that none is kept of: by a sum, where there is one alone."""
    return Best(1, names[0], largest) if names and len(names) == 1 else None
