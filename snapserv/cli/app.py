"""The commands, put together, and what becomes of whatever they did not expect."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

import snapserv
from snapserv.errors import BadRequestError, InternalError

from . import (
    data,
    demo,
    doctor,
    durable,
    expand,
    export,
    history,
    keygen,
    lab,
    nodes,
    observe,
    pages,
    safety,
    serve,
    store,
    top,
)
from .output import exit_code, report, show_notices

app = typer.Typer(
    name="snapserv",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
GROUPS = (
    *(serve, demo, observe, top, nodes, safety, history, expand, data, pages),
    *(durable, store, export, doctor, lab, keygen),
)
for group in GROUPS:
    group.register(app)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"snapserv {snapserv.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Git for live simulations: serve one, snapshot it, branch it, compare, go back."""


USAGE_ERROR: type[Any] = typer.BadParameter.__bases__[0]
"""click's UsageError, wherever this typer keeps click: newer ones bring their own."""


def main() -> None:
    """Run the command line and exit; see `snapserv.cli.output.EXIT_CODES`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; with ``--json`` every error is a JSON document on stdout too."""
    as_json = "--json" in arguments
    show_notices()
    try:
        # Typer's own way with errors is a panel on stderr: for people only.
        status = app(arguments, standalone_mode=not as_json)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except Exception as cause:  # noqa: BLE001 - the outermost place; a mistake of ours gets a code too
        if isinstance(cause, USAGE_ERROR):
            error = BadRequestError(cause.format_message(), hint="see --help of the command")
            report(error, as_json=as_json)
            return exit_code(error)
        return _internal(cause, as_json=as_json)
    return status if isinstance(status, int) else 0


def _internal(cause: Exception, *, as_json: bool) -> int:
    import traceback

    error = InternalError(
        f"the command failed: {type(cause).__name__}: {cause}",
        hint="please report it with the traceback",
        details={"traceback": "".join(traceback.format_exception(cause))},
    )
    report(error, as_json=as_json)
    return exit_code(error)
