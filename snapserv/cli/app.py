"""The commands, put together."""

from __future__ import annotations

import sys

import typer

from . import data, demo, doctor, nodes, observe, serve

app = typer.Typer(
    name="snapserv",
    help="Git for live simulations: serve one, snapshot it, branch it, compare, go back.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for group in (serve, demo, observe, nodes, data, doctor):
    group.register(app)


def main() -> None:
    """Run the command line; Ctrl-C ends a command with 130, as in a shell."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
