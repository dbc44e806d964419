"""The command line: the commands of the client's package, and those that need the server's."""

from __future__ import annotations

import sys

from snapserv_client.cli.app import Program
from snapserv_client.cli.legible import settle_streams

import snapserv

from .contents import SNAPSERV

PROGRAM = Program(
    "snapserv",
    "Git for live simulations: serve one, snapshot it, branch it, compare, go back.",
    SNAPSERV,
    lambda: snapserv.__version__,
)
app, run = PROGRAM.app, PROGRAM.run


def main() -> None:
    """Run the command line and exit; see `snapserv_client.cli.output.EXIT_CODES`."""
    settle_streams()
    sys.exit(run(sys.argv[1:]))
