"""Commands, put together as a program, and what becomes of whatever they did not expect."""

from __future__ import annotations

from collections.abc import Callable

import click

from ..errors import BadRequestError, InternalError
from .contents import Group
from .group import LazyGroup
from .output import exit_code, report, show_notices


class Program:
    """A program: its commands as one of click's, and how it is run.

    Args:
        name: What it is called in usages, and by shells that complete it, however it was started.
        says: What it is for.
        group: Its commands.
        version: Returns which version it is.
    """

    def __init__(self, name: str, says: str, group: Group, version: Callable[[], str]) -> None:
        self.name = name
        self.app = LazyGroup(group, name=name, help=says)
        flags = {"is_flag": True, "is_eager": True, "expose_value": False}
        self.app.params += [
            click.Option(
                ["--install-completion"],
                callback=self._install,
                help="Have this shell complete commands and names.",
                **flags,
            ),
            click.Option(
                ["--version"],
                callback=lambda context, _, wanted: self._say(context, version, wanted=wanted),
                help="Say which version this is.",
                **flags,
            ),
        ]

    def _say(self, context: click.Context, version: Callable[[], str], *, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            click.echo(f"{self.name} {version()}")
            context.exit()

    def _install(self, context: click.Context, _: click.Parameter, wanted: bool) -> None:
        """Do what `completion --install` does."""
        if wanted and not context.resilient_parsing:
            words = ["completion", "--install"]
            context.exit(self.app.main(words, prog_name=self.name, standalone_mode=False) or 0)

    def run(self, arguments: list[str]) -> int:
        """Run one command and return its exit code; with ``--json`` each error is a JSON document on stdout too."""
        as_json = "--json" in arguments
        show_notices()
        try:
            # click's own way with errors is a text on stderr: for people only.
            status = self.app(arguments, prog_name=self.name, standalone_mode=not as_json)
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
