"""Commands that look at a server: status, spec, watch; and shutdown."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import click

from ..display import describe
from ..errors import UnsavedError
from ..figures import space
from ..looks import parts_of
from ..protocol import Event
from ..terminal import pictured
from .options import Endpoint, Json, connected
from .output import EXIT_CTRL_C, counted, duration, exit_code, plain, show, table
from .parameters import Argument, Option

if TYPE_CHECKING:
    from .. import Server

END_WITHIN_S = 20.0
ITEMS = ("- ", "* ", "+ ", ">>> ", "| ")


def status(endpoint: Endpoint = None, as_json: Json = False) -> None:
    """Say what runs there and how it is doing.

    Examples:
        snapserv status
        snapserv status --json
    """
    with connected(endpoint, as_json=as_json) as server:
        hello, stats = server.hello, server.stats()
        specs = [server.spec(tree.name) for tree in server.tree().trees]

    def people() -> Any:
        rows = table("snapserv " + (hello.server if hello else ""), server.endpoint)
        for each in specs:
            arena = f"{space(each.arena.size_bytes)} of {each.arena.backing}"
            rows.add_row(f"tree {each.tree}", f"{each.simulation} · {arena}")
        nodes = f"{counted(stats.snapshots, 'snapshot')}, {counted(stats.branches, 'branch')}, {stats.dead:,} dead"
        rows.add_row("nodes", nodes)
        errors = counted(stats.errors, "error")
        rows.add_row("requests", f"{stats.requests:,} ({errors}), {stats.in_flight:,} in flight")
        rows.add_row("steps", f"{stats.steps:,}")
        p50, p99 = stats.fork_us_p50 / 1000, stats.fork_us_p99 / 1000
        rows.add_row("forks", f"{stats.forks:,} · p50 {p50:.2f} ms · p99 {p99:.2f} ms")
        memory = stats.memory
        rows.add_row("memory", f"{space(memory.charged_bytes)} of {space(memory.limit_bytes)} charged")
        evicted, stopped = counted(memory.evictions, "snapshot"), f"{memory.stopped:,}"
        rows.add_row("over it", f"{evicted} evicted, {stopped} processes stopped")
        rows.add_row("up", f"{duration(stats.uptime_s)} · {counted(stats.clients, 'client')}")
        rows.add_row("server", f"{space(stats.resident_bytes)} · {stats.descriptors:,} descriptors")
        return rows

    show({"hello": hello, "stats": stats, "specs": specs}, as_json=as_json, people=people)


def spec(
    tree: Annotated[str | None, Argument(help="Which tree; the first by default.")] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Describe a simulation: fields, inputs, parameters, methods.

    Examples:
        snapserv spec
    """
    with connected(endpoint, as_json=as_json) as server:
        found = server.spec(tree)

    def people() -> Any:
        from rich.console import Group
        from rich.text import Text

        rows = table("what", "~name", "type", "meaning")
        for part in parts_of(found):
            rows.add_row(*part)
        return Group(Text(f"{found.tree} · {found.simulation}", "bold"), *map(Text, flowing(found.doc)), rows)

    show(found, as_json=as_json, people=people)


def watch(
    count: Annotated[int | None, Option("--count", "-n", min=1, help="End after so many events.")] = None,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Print events as they happen; with --json one document a line.

    Examples:
        snapserv watch
        snapserv watch --count 10 --json
    """
    with connected(endpoint, as_json=as_json) as server:
        try:
            for number, event in enumerate(server.watch(), 1):
                _print(event, as_json=as_json)
                if number == count:
                    return
        except KeyboardInterrupt as cause:
            raise click.exceptions.Exit(EXIT_CTRL_C) from cause  # the usual end of watching: nothing to say


def shutdown(
    yes: Annotated[bool, Option("--yes", "-y", help="Also where what is not saved would be gone.")] = False,
    endpoint: Endpoint = None,
    as_json: Json = False,
) -> None:
    """End the server and all of its nodes; where something would be gone that is not saved, it asks first.

    Without a terminal to ask at, it refuses, and exits with 2.

    Examples:
        snapserv shutdown
        snapserv shutdown --yes
    """
    with connected(endpoint, as_json=as_json) as server, _process_of(server) as process:
        try:
            server.shutdown(force=yes)
        except UnsavedError as error:
            if as_json or not sys.stdin.isatty():
                raise
            click.echo(pictured(error.message), err=True)
            if not click.confirm("End the server all the same?", err=True):
                raise click.exceptions.Exit(exit_code(error)) from error
            server.shutdown()
        if process is not None:  # until it has ended, so that another may take its address at once
            select.select([process], [], [], END_WITHIN_S)
    show({"shutdown": server.endpoint}, as_json=as_json, people=lambda: f"{server.endpoint} ends")


@contextlib.contextmanager
def _process_of(server: Server) -> Iterator[int | None]:
    """Yield a pidfd of a server on this machine, or None."""
    if server.hello is None or not server.endpoint.startswith("ipc://"):
        yield None
        return
    try:
        process = os.pidfd_open(server.hello.pid)
    except (OSError, AttributeError):  # of another container, or hidden; or no Linux here
        yield None
        return
    try:
        yield process
    finally:
        os.close(process)


def _print(event: Event, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(plain(event)), flush=True)
        return
    from .console import results

    what = describe(event.node) if event.node else ""
    line = f"{event.sequence:>6} {event.kind:<9} {what} {event.text}".rstrip()
    results.print(line, highlight=False, markup=False, soft_wrap=True)


def flowing(doc: str) -> Iterator[str]:
    """Yield the paragraphs and items of a docstring, a line each, to be wrapped anew; what is indented stays."""
    held = ""
    for line in doc.splitlines():
        said = line.strip()
        begins = not said or said.startswith(ITEMS) or line.startswith("    ")
        if held and (begins or not held.strip()):
            yield held
            held = ""
        if not said:
            yield ""
        else:
            held = f"{held} {said}" if held else line.rstrip()
    if held:
        yield held
