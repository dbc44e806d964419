"""Options that many commands share, and how their text becomes values."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from ..errors import BadRequestError, SnapservError, StepInterruptedError
from .completing import servers
from .output import EXIT_CTRL_C, exit_code, report
from .parameters import Option

if TYPE_CHECKING:
    from .. import Server

NAME = "snapserv.name"
"""Where a command's context keeps the name of the server that is meant."""


def is_typed(context: click.Context, option: str) -> bool:
    """Return whether an option was typed, rather than taken from the environment."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _named(context: click.Context, _: click.Parameter, name: str | None) -> None:
    """Have the endpoint be that of the server of that name."""
    if name is None or context.resilient_parsing:
        return
    context.meta[NAME] = name
    if is_typed(context, "endpoint"):
        _chosen(context, _, context.params["endpoint"])


def _chosen(context: click.Context, _: click.Parameter, endpoint: str | None) -> str | None:
    """Return the endpoint that is meant; what is typed comes before what the environment says."""
    name = context.meta.get(NAME)
    if name is None:
        return endpoint
    from ..endpoint import chosen_endpoint

    try:
        return chosen_endpoint(endpoint if is_typed(context, "endpoint") else None, name)
    except BadRequestError as cause:
        raise click.UsageError(f"{cause.message}: {cause.hint}") from cause


Json = Annotated[bool, Option("--json", help="Print one JSON document.")]
Endpoint = Annotated[
    str | None,
    Option(
        "--endpoint",
        "-e",
        envvar="SNAPSERV_ENDPOINT",
        help="ipc:///PATH, tcp://HOST:PORT or ray://ADDRESS/CLUSTER.",
        callback=_chosen,
        beside=click.Option(
            ["server_name", "--name"],
            help="Rather than an endpoint: this user's server of that name.",
            expose_value=False,
            callback=_named,
            shell_complete=servers,
        ),
    ),
]
Rng = Annotated[str, Option("--rng", help="same, split, or an integer seed.")]


@contextmanager
def failing(*, as_json: bool) -> Iterator[None]:
    """Turn a typed error into what the user reads and the exit code."""
    try:
        yield
    except SnapservError as error:
        report(error, as_json=as_json)
        raise click.exceptions.Exit(exit_code(error)) from error
    except KeyboardInterrupt as cause:
        report(StepInterruptedError("stopped by Ctrl-C"), as_json=as_json)
        raise click.exceptions.Exit(EXIT_CTRL_C) from cause


@contextmanager
def connected(endpoint: str | None, *, as_json: bool) -> Iterator[Server]:
    """Yield a connection to the server that is meant."""
    from .reaching import reach

    with failing(as_json=as_json), reach(endpoint) as server:
        yield server


def pairs(texts: list[str], what: str, *, reserved: Collection[str] = ()) -> dict[str, Any]:
    """Return ``name=value`` texts as a mapping; a value is JSON where it parses, and text otherwise.

    Args:
        texts: What was written.
        what: What they are called in an error.
        reserved: Names that the client's own method takes, and so cannot pass on.

    Raises:
        BadRequestError: One has no ``=``, a name comes twice, or it is reserved.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadRequestError(f"{what} {text!r} is not NAME=VALUE", hint="as in wind='[3, 0]' or rows=512")
        if name in values:
            raise BadRequestError(f"{what} {name!r} is given twice", hint="give it once")
        if name in reserved:
            raise BadRequestError(f"{what} {name!r} cannot be given here", hint="rename it in the simulation")
        values[name] = parsed(value)
    return values


def parsed(text: str) -> Any:
    """Return a text as JSON where it parses, and as it is otherwise."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def rng_of(text: str) -> Any:
    """Return the random stream policy that ``--rng`` names.

    Raises:
        BadRequestError: Neither a policy nor an integer.
    """
    if text in ("same", "split"):
        return text
    try:
        return int(text)
    except ValueError:
        raise BadRequestError(f"--rng {text!r}", hint="same, split, or an integer seed") from None


def region_of(text: str | None) -> tuple[int | slice, ...] | None:
    """Return the region that ``--region`` writes, as ``0:64,10,::2``.

    Raises:
        BadRequestError: It is not written like that.
    """
    if text is None:
        return None
    parts: list[int | slice] = []
    try:
        for axis in text.split(","):
            bounds = [int(bound) if bound.strip() else None for bound in axis.split(":")]
            if len(bounds) == 1 and bounds[0] is not None:
                parts.append(bounds[0])
            elif 2 <= len(bounds) <= 3:
                parts.append(slice(*bounds))
            else:
                raise ValueError(axis)
    except ValueError:
        raise BadRequestError(
            f"--region {text!r}", hint="write START:STOP[:STEP] or INDEX, one an axis, with commas"
        ) from None
    return tuple(parts)


def value_of(text: str) -> Any:
    """Return what ``write`` writes: a JSON value, or the array of ``@FILE.npy``.

    Raises:
        BadRequestError: The file is no array.
    """
    if not text.startswith("@"):
        return parsed(text)
    import numpy as np

    try:
        loaded = np.load(Path(text[1:]), allow_pickle=False)
    except (OSError, ValueError, EOFError) as cause:
        raise BadRequestError(f"{text[1:]}: {cause}", hint="a file of numpy.save is wanted") from cause
    if not isinstance(loaded, np.ndarray):
        raise BadRequestError(f"{text[1:]} holds several arrays", hint="a file of numpy.save is wanted, not savez")
    return loaded
