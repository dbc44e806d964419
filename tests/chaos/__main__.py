"""``python -m tests.chaos``: run a schedule, and print what was survived; the status is 1 where not all was."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from .power import cut_power
from .run import Run
from .schedule import make


def main() -> int:
    """Run it as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=int, default=180, help="about how long; it decides how much is done")
    parser.add_argument("--seed", type=int, default=1, help="the same seed does the same")
    parser.add_argument("--cuts", type=int, default=50, help="how often the power is cut, besides")
    parser.add_argument("--snapshots", type=int, default=200, help="how many are saved before the first cut")
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
    with tempfile.TemporaryDirectory(prefix="snapserv-power-") as folder:
        account = cut_power(Path(folder), cuts=options.cuts, snapshots=options.snapshots, seed=options.seed)
    if options.json:
        print(json.dumps({**report.to_plain(), "power": asdict(account)}, indent=2))
    else:
        report.show(console)
        console.print(
            f"power cut {account.cuts} times, {account.saving} of them while a save went on: "
            f"{account.acknowledged} snapshots acknowledged, {len(account.lost)} lost; "
            f"the longest start after one took {account.longest_s:.1f} s"
        )
        for each in account.lost:
            console.print(f"lost: {each}")
    return 0 if report.ok and not account.lost else 1


if __name__ == "__main__":
    sys.exit(main())
