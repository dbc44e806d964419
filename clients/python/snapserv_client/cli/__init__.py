"""The command line of a client: all that needs a server alone, and none of its packages.

``snapserv-client`` is this, and ``snapserv`` has the same commands and its own. A module a group of commands, which
`app` puts together.
"""

from __future__ import annotations

import importlib.util
import sys

NEEDS = ("click", "rich")
MACHINE = 4
"""What is exited with where the machine lacks something; see `snapserv_client.cli.output.EXIT_CODES`."""


def main() -> None:
    """Run the command line and exit."""
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"unsupported snapserv-client needs {' and '.join(missing)}\n→ pip install 'snapserv-client[cli]'\n"
        )
        sys.exit(MACHINE)
    from importlib.metadata import version

    from .app import Program
    from .contents import CLIENT
    from .legible import settle_streams

    says = "Drive a snapserv server: step, snapshot, branch and compare live simulations."
    program = Program("snapserv-client", says, CLIENT, lambda: version("snapserv-client"))
    settle_streams()
    sys.exit(program.run(sys.argv[1:]))
