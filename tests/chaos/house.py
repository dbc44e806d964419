"""The server under test: started with keys on loopback, killed outright, and started again at the same address."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from snapserv.server.keymaking import make_client_keys, make_server_keys

from . import leaks

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 60.0
END_WITHIN_S = 30.0
OWNER, READER = "owner", "reader"


class House:
    """A server and whoever takes its place.

    Args:
        folder: Where keys, sockets and the log are; nobody else's.
        mark: What tells all processes of this run from others: it is in their environment.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self.log = folder / "server.log"
        self.keys = folder / "keys"
        self.runtime = folder / "run"
        self.runtime.mkdir(0o700)
        self.environment = {**os.environ, leaks.MARK: mark, "XDG_RUNTIME_DIR": str(self.runtime)}
        make_server_keys(self.keys)
        make_client_keys(self.keys, OWNER, read_only=False)
        make_client_keys(self.keys, READER, read_only=True)
        self.endpoint = "tcp://127.0.0.1:0"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.endpoint.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process that serves now."""
        return self.process.pid if self.process is not None else 0

    def bundle(self, name: str) -> Path:
        """Return a client's folder of keys."""
        return self.keys / "clients" / name

    async def start(self) -> None:
        """Start it, and return when it answers.

        Raises:
            RuntimeError: It does not.
        """
        await asyncio.to_thread(self._start)

    async def restart(self) -> None:
        """Kill the server outright, and start the next."""
        assert self.process is not None
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        await self.start()

    async def end(self) -> int:
        """End it as it should end; return its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, END_WITHIN_S)

    def abandon(self) -> None:
        """End it by force, where something has gone wrong."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _start(self) -> None:
        ready, told = os.pipe()
        command = [
            sys.executable,
            "-m",
            "snapserv",
            "serve",
            "tests.chaos.subject:Loom",
            "--endpoint",
            self.endpoint,
        ]
        command += ["--keys", str(self.keys), "--orphan-grace", "60", "--ready-fd", str(told), "--log-json"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, pass_fds=[told], cwd=ROOT, stdout=log, stderr=log, env=self.environment
            )
        os.close(told)
        with os.fdopen(ready) as answer:
            readable, _, _ = select.select([answer], [], [], START_WITHIN_S)
            line = answer.readline() if readable else ""
        outcome = json.loads(line) if line else {"error": "it said nothing"}
        if "error" in outcome:
            raise RuntimeError(f"the server did not start: {outcome['error']}\n{self.log.read_text()[-4000:]}")
        self.endpoint = outcome["endpoint"]
