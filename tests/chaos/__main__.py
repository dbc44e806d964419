"""``python -m tests.chaos``: run a schedule, and print what was survived; the status is 1 where not all was."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from .run import Run
from .schedule import make


def main() -> int:
    """Run it as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=int, default=180, help="about how long; it decides how much is done")
    parser.add_argument("--seed", type=int, default=1, help="the same seed does the same")
    parser.add_argument("--json", action="store_true", help="print the account as JSON")
    options = parser.parse_args()
    schedule = make(options.seed, options.seconds)
    console = Console()
    if not options.json:
        console.print(
            f"seed {schedule.seed}, schedule {schedule.digest}: {schedule.operations:,} operations of "
            f"{len(schedule.clients)} clients, {len(schedule.events):,} events"
        )
    with tempfile.TemporaryDirectory(prefix="snapserv-chaos-") as folder:
        report = asyncio.run(Run(schedule, Path(folder)).go())
        if not report.ok:
            kept = Path(tempfile.gettempdir()) / f"snapserv-chaos-{schedule.seed}-{schedule.digest}.log"
            kept.write_bytes((Path(folder) / "server.log").read_bytes())
            print(f"the server's log: {kept}", file=sys.stderr)
    if options.json:
        print(json.dumps(report.to_plain(), indent=2))
    else:
        report.show(console)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
