"""``serve``: run a simulation and answer clients."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from snapserv_client.endpoint import chosen_endpoint, default_endpoint
from snapserv_client.protocol import NAME_PATTERN

from snapserv import backings
from snapserv.errors import BadRequestError
from snapserv.sizes import parse_size

from .options import Endpoint, failing, pairs

if TYPE_CHECKING:
    from snapserv.server import Server


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    context: typer.Context,
    targets: Annotated[list[str], typer.Argument(metavar="MODULE:CLASS...", help="Or FILE.py:CLASS.")],
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="NAME=VALUE for setup.")] = None,
    name: Annotated[str | None, typer.Option(help="Listen on this user's socket of that name.")] = None,
    endpoint: Endpoint = None,
    backing: Annotated[str | None, typer.Option(help=f"Arena backing: {', '.join(backings.NAMES)}.")] = None,
    branch_dir: Annotated[
        list[str] | None, typer.Option(help="A folder that each node sees as it wrote it itself; repeatable.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The budget of all nodes, as 8GiB; 80 % of what there is by default."),
    ] = None,
    log_json: Annotated[bool, typer.Option(help="Log in JSON.")] = False,
    quiet: Annotated[bool, typer.Option(help="Log only warnings and errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON once requests are answered.")] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    exit_with_stdin: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run a simulation's setup, then answer clients until SIGTERM, Ctrl-C or `snapserv shutdown`."""
    from snapserv import logs
    from snapserv.server import ServeOptions
    from snapserv.server import serve as run

    logs.configure(as_json=log_json, quiet=quiet)
    with failing(as_json=as_json):
        if name is not None:
            if _is_typed(context, "endpoint"):
                raise BadRequestError("--name and --endpoint both say where to listen", hint="give one of them")
            endpoint = _named(name)
        options = ServeOptions(
            targets=targets,
            params=pairs(param or [], "param"),
            endpoint=endpoint,
            backing=backing,
            branch_dirs=branch_dir or [],
            memory_bytes=parse_size(memory) if memory is not None else None,
            ready_fd=ready_fd,
            exit_with_stdin=exit_with_stdin,
        )
        announce = None if quiet and not as_json else lambda server: _announce(server, as_json=as_json)
        run(options, on_ready=announce, then_exit=True)


def _is_typed(context: typer.Context, option: str) -> bool:
    """Return whether an option was typed, rather than taken from the environment."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _named(name: str) -> str:
    if not re.match(NAME_PATTERN, name):
        raise BadRequestError(f"--name {name!r}", hint="letters, digits and _.- are allowed, not first . or -")
    return default_endpoint(name)


def _announce(server: Server, *, as_json: bool) -> None:
    from .output import errors, mebibytes, show, table

    spec = server.nodes.spec(server.nodes.tree(None))
    if as_json:
        show({"endpoint": server.endpoint, "spec": spec}, as_json=True, people=lambda: None)
        sys.stdout.flush()
        return
    facts = table("serving", spec.simulation)
    facts.add_row("endpoint", server.endpoint)
    facts.add_row("setup", f"{spec.setup_s:.2f} s")
    facts.add_row("arena", f"{mebibytes(spec.arena.size_bytes)} MiB · {spec.arena.backing}: {spec.arena.reason}")
    facts.add_row("heap", f"{mebibytes(spec.huge_heap_bytes)} MiB in huge pages")
    facts.add_row("fork", spec.fork)
    for field in spec.fields:
        facts.add_row("field", f"{field.name} · {field.dtype} {field.shape} {field.units}".rstrip())
    there = "" if server.endpoint == chosen_endpoint(None) else f" -e {server.endpoint}"
    tries = (f"snapserv {verb}{there}" for verb in ("status", "step main 10", "snapshot main", "tree"))
    with contextlib.suppress(OSError):  # nobody can read it, and a server needs no reader
        errors.print(facts)
        errors.print(f"try: {' · '.join(tries)}", style="dim", markup=False, highlight=False, soft_wrap=True)
