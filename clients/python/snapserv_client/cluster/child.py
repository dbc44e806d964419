"""A host's server: an ordinary one, as a child of the host's process, which it does not outlive."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import RequestTimeoutError, SnapservError, UnreachableError, error_from_wire
from ..private import _module_path as module_path
from .facts import Admission, Settings
from .keyring import write_server_keys

START_WITHIN_S = 600.0
END_WITHIN_S = 45.0
FOLDERS, LOCK = "snapserv-host-", "lives"
ORPHAN_GRACE_S = 10.0
"""For so long nodes wait for the next server, where theirs is killed and the host starts another."""


class Child:
    """A server, and its folder: keys, and the simulation where it came by value.

    Its standard input is the host's to close: however the host ends, the server then saves what it has, and ends.

    Args:
        settings: The cluster's.
        admission: What the registry has told this host.
        address: The machine's, at which other hosts and clients reach it.
    """

    def __init__(self, settings: Settings, admission: Admission, address: str) -> None:
        self._settings = settings
        self._admission = admission
        remove_left()
        self.folder = Path(tempfile.mkdtemp(prefix=FOLDERS))
        self._lock = claim(self.folder)
        self.endpoint = f"tcp://{address}:0"
        try:
            write_server_keys(self.folder / "keys", settings.keys)
            if settings.pickled is not None:
                (self.folder / "simulation.pickle").write_bytes(settings.pickled)
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def start(self) -> None:
        """Start the server; the next one takes in what a killed one has left.

        Raises:
            SnapservError: What its start has met.
        """
        ready, told = os.pipe()
        command = [sys.executable, "-P", "-m", "snapserv", "serve", *self._options(told)]
        ours, others = module_path()
        for folder in [*self._settings.search_path, *ours]:
            command += ["--search-path", folder]
        command += [] if self._target is None else ["--", self._target]
        try:
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[told, self._lock],
                    env={**os.environ, **others}, start_new_session=True,
                )  # fmt: skip
        except BaseException:
            os.close(ready)
            raise
        finally:
            os.close(told)
        with os.fdopen(ready) as answer:
            readable, _, _ = select.select([answer], [], [], START_WITHIN_S)
            outcome = json.loads((answer.readline() if readable else "") or "{}")
        if "endpoint" not in outcome:
            self.kill()
            raise self._failure(outcome, in_time=bool(readable))
        self.endpoint = outcome["endpoint"]

    @property
    def pid(self) -> int:
        """The server's process."""
        return self.process.pid

    def end(self) -> None:
        """Have the server save what it has and end, and remove its folder."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def kill(self) -> None:
        """End the server at once."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def log(self, most: int = 2000) -> str:
        """Return the end of what the server has logged."""
        try:
            return (self.folder / "log").read_text(errors="replace")[-most:]
        except OSError:
            return ""

    @property
    def _target(self) -> str | None:
        if self._settings.pickled is not None:
            return f"pickle:{self.folder}/simulation.pickle"
        return self._settings.target

    def _options(self, told: int) -> list[str]:
        settings, admission = self._settings, self._admission
        options = ["--endpoint", self.endpoint, "--keys", str(self.folder / "keys")]
        options += ["--ready-fd", str(told), "--exit-with-stdin", "--orphan-grace", f"{ORPHAN_GRACE_S:g}"]
        options += ["--quiet", "--store", settings.store, "--durable", settings.durable]
        options += ["--member", settings.member(admission.number)]
        if admission.root is not None:
            options += ["--begin-with", admission.root]
        for name, value in settings.params.items():
            options += ["--param", f"{name}={json.dumps(value)}"]
        return [*options, *settings.serve]

    def _failure(self, outcome: dict[str, object], *, in_time: bool) -> SnapservError:
        error = outcome.get("error")
        if isinstance(error, dict):
            return error_from_wire(error)
        if not in_time:
            return RequestTimeoutError(f"setup took longer than {START_WITHIN_S:g} s")
        return UnreachableError("a host's server ended before it answered", details={"log": self.log()})


def claim(folder: Path) -> int:
    """Return a descriptor by which a folder is in use, for as long as this process or its server has it."""
    held = os.open(folder / "begins", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.rename(folder / "begins", folder / LOCK)
    return held


def remove_left() -> None:
    """Remove the folders that hosts of this machine have left which were killed, with the keys in them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        try:
            if folder.stat().st_uid != os.geteuid():
                continue
            with (folder / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # it is in use, only beginning, or has just gone
