"""``serve``: run a simulation and answer clients."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import click
import msgspec
from snapserv_client.cli.options import Endpoint, failing, is_typed, pairs
from snapserv_client.cli.parameters import Argument, Option
from snapserv_client.endpoint import chosen_endpoint, default_endpoint, socket_folder
from snapserv_client.figures import dtype_name, space
from snapserv_client.protocol import AutosnapArgs

from snapserv.errors import BadRequestError
from snapserv.machine.cpu import LEVELS
from snapserv.machine.sizes import parse_size
from snapserv.memory import backings
from snapserv.server.rates import DEFAULT_PER_S

if TYPE_CHECKING:
    from snapserv_client.cli.console import PlainTable

    from snapserv.nodes.tree import Autosnap
    from snapserv.operations.saving import Durable
    from snapserv.server.options import ServeOptions
    from snapserv.server.server import Server


def serve(
    context: click.Context,
    targets: Annotated[
        list[str] | None,
        Argument(metavar="MODULE:CLASS...", help="Or FILE.py:CLASS. With --store: none, to go on."),
    ] = None,
    param: Annotated[list[str] | None, Option("--param", "-p", help="NAME=VALUE for setup.")] = None,
    endpoint: Endpoint = None,
    keys: Annotated[
        str | None, Option(help="Folder of keys (see keygen): only clients that it names are let in.")
    ] = None,
    rate: Annotated[float, Option(min=1, help="Requests a second that one client may ask.")] = DEFAULT_PER_S,
    backing: Annotated[str | None, Option(help=f"Arena backing: {', '.join(backings.NAMES)}.")] = None,
    branch_dir: Annotated[
        list[str] | None, Option(help="A folder that each node sees as it wrote it itself; repeatable.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        Option(metavar="KIND", help="Let nodes share what cannot be copied, as pipes; repeatable."),
    ] = None,
    record: Annotated[
        list[str] | None,
        Option(
            "--record",
            metavar="WHAT",
            help="Record an output, mean(FIELD) or FIELD[1, 2] of every node; repeatable.",
        ),
    ] = None,
    record_every: Annotated[int, Option(min=1, help="Only at ticks whose step is a multiple of this.")] = 1,
    stalled_after: Annotated[
        float, Option(min=0.1, help="Seconds without a tick after which a child or a replay is given up.")
    ] = 300.0,
    atomic: Annotated[bool, Option("--atomic", help="Steps are atomic that do not say.")] = False,
    autosnap: Annotated[
        str | None, Option(metavar="N|Ss", help="Snapshot main every N steps, or S seconds (30s), by itself.")
    ] = None,
    autosnap_keep: Annotated[int | None, Option(help="How many of these stay.")] = None,
    memory: Annotated[
        str | None,
        Option(metavar="SIZE", help="The budget of all nodes, as 8GiB; 80 % of what there is by default."),
    ] = None,
    log_json: Annotated[bool, Option(help="Log in JSON.")] = False,
    quiet: Annotated[bool, Option(help="Log only warnings and errors.")] = False,
    verbose: Annotated[bool, Option(help="Log every request, fork and event.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON once requests are answered.")] = False,
    orphan_grace: Annotated[
        float, Option(min=0, help="Seconds for which nodes wait for another server if this one is killed.")
    ] = 60.0,
    fresh: Annotated[bool, Option(help="End the nodes that wait there already.")] = False,
    store: Annotated[
        str | None,
        Option(metavar="STORE", help="Where snapshots last: a folder, a URL, or `default`: your own."),
    ] = None,
    go_on: Annotated[
        bool, Option("--go-on", help="Go on where the store's last server stopped; begin if there is none.")
    ] = False,
    durable: Annotated[
        str, Option(metavar="named|all|none", help="Which snapshots are saved by themselves.")
    ] = "named",
    store_rate: Annotated[
        str | None, Option(metavar="SIZE", help="Write at most so much a second, as 50MiB.")
    ] = None,
    replay: Annotated[
        bool,
        Option("--replay", help="Where an image is refused, save what was done, and do it again to go on."),
    ] = False,
    embed: Annotated[
        bool,
        Option("--embed", help="Save the libraries and files it stands on as well."),
    ] = False,
    cpu_baseline: Annotated[
        str | None,
        Option(metavar="|".join(LEVELS), help="Have libraries use no more of the processor than that level."),
    ] = None,
    metrics: Annotated[
        str | None,
        Option(metavar="[HOST]:PORT", help="Metrics for Prometheus; :0 is any port of loopback."),
    ] = None,
    web: Annotated[
        str | None, Option(metavar="[HOST]:PORT", help="And its page for browsers; beyond loopback with a token.")
    ] = None,
    detach: Annotated[
        bool, Option("--detach", help="Serve in the background; return once requests are answered.")
    ] = False,
    ready_fd: Annotated[int | None, Option(hidden=True)] = None,
    exit_with_stdin: Annotated[bool, Option(hidden=True)] = False,
    own_folder: Annotated[bool, Option("--own-folder", hidden=True)] = False,
    search_path: Annotated[list[str] | None, Option(hidden=True)] = None,
    member: Annotated[str, Option("--member", hidden=True)] = "",
    begin_with: Annotated[str | None, Option("--begin-with", hidden=True)] = None,
) -> None:
    """Run a simulation's setup, then answer clients until SIGTERM, Ctrl-C or `snapserv shutdown`.

    With --detach this returns when clients are answered, and the log goes to a file that is named then.

    Examples:
        snapserv serve snapserv.examples.wildfire:Wildfire --param rows=512 --detach
        snapserv serve counter.py:Counter --name lab --store default
    """
    from snapserv.server import logs
    from snapserv.server.options import ServeOptions
    from snapserv.server.server import serve as run

    logs.configure(as_json=log_json, quiet=quiet, verbose=verbose)
    with failing(as_json=as_json):
        of_store = (go_on, replay, embed, durable != "named", store_rate is not None)
        if store is None and any(of_store):
            raise BadRequestError(
                "--go-on, --durable, --store-rate, --replay and --embed are of a store", hint="name a --store"
            )
        options = ServeOptions(
            targets=_targets(targets, store),
            params=pairs(param or [], "param"),
            endpoint=endpoint,
            keys=keys,
            rate=rate,
            backing=backing,
            search_path=search_path or [],
            branch_dirs=branch_dir or [],
            allow=allow or [],
            record=record or [],
            record_every=record_every,
            stalled_after_s=stalled_after,
            atomic=atomic,
            autosnap=_rule(autosnap, autosnap_keep),
            memory_bytes=parse_size(memory) if memory is not None else None,
            ready_fd=ready_fd,
            exit_with_stdin=exit_with_stdin,
            own_folder=own_folder,
            orphan_grace_s=_grace(context, orphan_grace, exit_with_stdin=exit_with_stdin),
            fresh=fresh,
            store=_store(store),
            go_on=go_on,
            durable=_durable(durable),
            store_bytes_per_s=float(parse_size(store_rate)) if store_rate is not None else None,
            replay=replay,
            embed=embed,
            cpu_baseline=cpu_baseline,
            metrics=metrics,
            member=member,
            begin_with=begin_with,
        )
        from . import beside  # with what a plain server does without

        if detach:
            _detach(context, options, as_json=as_json)
            return
        is_told = as_json or not (quiet or ready_fd is not None)
        announce = None if not is_told else lambda server: _announce(server, as_json=as_json)
        with beside.page(web, endpoint or default_endpoint(), keys):
            run(options, on_ready=announce, then_exit=True)


def _grace(context: click.Context, seconds: float, *, exit_with_stdin: bool) -> float:
    """Return for how long nodes wait for another server: not at all where nobody would start one."""
    return 0.0 if exit_with_stdin and not is_typed(context, "orphan_grace") else seconds


def _targets(targets: list[str] | None, store: str | None) -> list[str]:
    if not targets and store is None:
        raise BadRequestError(
            "there is nothing to serve", hint="name a simulation as MODULE:CLASS, or a --store to go on with"
        )
    return targets or []


def _store(store: str | None) -> str | None:
    if store != "default":
        return store
    from snapserv_client.store.places import chosen_place

    return chosen_place()


def _durable(durable: str) -> Durable:
    found: dict[str, Durable] = {"named": "named", "all": "all", "none": "none"}
    if durable not in found:
        raise BadRequestError(f"--durable {durable}", hint=f"one of {', '.join(found)}")
    return found[durable]


def _detach(context: click.Context, options: ServeOptions, *, as_json: bool) -> None:
    """Have another process serve this, where all that can be refused without it has been."""
    from snapserv_client.cli.output import show, table

    from . import detach

    endpoint = options.endpoint or default_endpoint()
    words = detach.words_again(context, leave_out=("detach", "as_json", "endpoint", "ready_fd"))
    found = detach.start([*words, f"--endpoint={endpoint}", "--", *options.targets], endpoint)

    def facts() -> PlainTable:
        listed = table("serving", " ".join(options.targets) or f"what {options.store} has")
        for name, value in found.items():
            listed.add_row(name, str(value))
        return listed

    show(found, as_json=as_json, people=facts)


def _rule(every: str | None, keep: int | None) -> Autosnap | None:
    """Return when snapshots are taken by themselves: every so many steps, or with an ``s`` behind it, seconds."""
    from snapserv.operations.autosnap import changed  # with the server, which --help does without

    given: dict[str, object] = {"keep": keep}
    if every is not None:
        given["every_s" if every.endswith("s") else "every_steps"] = every.removesuffix("s")
    try:
        args = msgspec.convert(given, AutosnapArgs, strict=False)
    except msgspec.ValidationError as cause:
        from snapserv_client.refusals import in_words

        raise BadRequestError(
            f"--autosnap: {in_words(cause, value=given)}", hint="steps as 1000, seconds as 30s"
        ) from cause
    return changed(None, args)


def _found_by(endpoint: str) -> str:
    """Return what other commands are to be told, if anything, to find this server."""
    name = endpoint.rpartition("/")[2].removesuffix(".sock")
    if endpoint == chosen_endpoint(None):
        return ""
    return f" --name {name}" if endpoint == f"ipc://{socket_folder()}/{name}.sock" else f" -e {endpoint}"


def _announce(server: Server, *, as_json: bool) -> None:
    from snapserv_client.cli.output import show, table

    spec = server.nodes.spec(server.nodes.tree(None))
    if as_json:
        show({"endpoint": server.endpoint, **server.where_metrics, "spec": spec}, as_json=True, people=lambda: None)
        sys.stdout.flush()
        return
    from snapserv_client.cli.console import errors

    facts = table("serving", spec.simulation)
    facts.add_row("endpoint", server.endpoint)
    for what, where in server.where_metrics.items():
        facts.add_row(what, where)
    facts.add_row("setup", f"{spec.setup_s:.2f} s")
    facts.add_row("arena", f"{space(spec.arena.size_bytes)} · {spec.arena.backing}: {spec.arena.reason}")
    facts.add_row("heap", f"{space(spec.huge_heap_bytes)} in huge pages")
    facts.add_row("fork", spec.fork)
    for field in spec.fields:
        facts.add_row("field", f"{field.name} · {dtype_name(field.dtype)} {field.shape} {field.units}".rstrip())
    there = _found_by(server.endpoint)
    tries = (f"snapserv {verb}{there}" for verb in ("status", "step main 10", "snapshot main", "tree"))
    with contextlib.suppress(OSError):  # nobody can read it, and a server needs no reader
        errors.print(facts)
        errors.print(f"try: {' · '.join(tries)}", style="dim", markup=False, highlight=False, soft_wrap=True)
