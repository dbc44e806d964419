"""The commands, put together, and what becomes of whatever they did not expect."""

from __future__ import annotations

import sys

import click

import snapserv
from snapserv.errors import BadRequestError, InternalError

from .contents import SNAPSERV
from .group import LazyGroup
from .legible import settle_streams
from .output import exit_code, report, show_notices

PROGRAM = "snapserv"
"""What it is called in usages, and by shells that complete it, however it was started."""

app = LazyGroup(
    SNAPSERV, name="snapserv", help="Git for live simulations: serve one, snapshot it, branch it, compare, go back."
)


def _install(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Do what `snapserv completion --install` does."""
    if wanted and not context.resilient_parsing:
        context.exit(app.main(["completion", "--install"], prog_name=PROGRAM, standalone_mode=False) or 0)


click.option(
    "--install-completion",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_install,
    help="Have this shell complete commands and names.",
)(app)
click.version_option(snapserv.__version__, message="snapserv %(version)s", help="Say which version this is.")(app)


def main() -> None:
    """Run the command line and exit; see `snapserv.cli.output.EXIT_CODES`."""
    settle_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; with ``--json`` every error is a JSON document on stdout too."""
    as_json = "--json" in arguments
    show_notices()
    try:
        # click's own way with errors is a text on stderr: for people only.
        status = app(arguments, prog_name=PROGRAM, standalone_mode=not as_json)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except click.UsageError as cause:
        error = BadRequestError(cause.format_message(), hint="see --help of the command")
        report(error, as_json=as_json)
        return exit_code(error)
    except Exception as cause:  # noqa: BLE001 - the outermost place; a mistake of ours gets a code too
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
