"""``serve --detach``: the same command in a process of its own, which answers when this one returns."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import click
from snapserv_client.errors import error_from_wire

from snapserv.errors import BadRequestError, InternalError

STATE_VARIABLE = "XDG_STATE_HOME"
READY_DESCRIPTOR = 3
MOST_SHOWN = 4000


def start(words: list[str], endpoint: str) -> dict[str, Any]:
    """Start ``snapserv serve`` in the background and wait until it answers; return what it says of itself.

    Args:
        words: What follows ``serve``.
        endpoint: Where it will listen, after which its log is called.

    Raises:
        SnapservError: Why it could not start; nothing is left of it.
    """
    log = log_file(endpoint)
    ready, told = os.pipe()
    try:
        written = _open(log)
        try:
            command = [sys.executable, "-P", "-m", "snapserv", "serve", "--ready-fd", str(READY_DESCRIPTOR), *words]
            before = os.fstat(written).st_size
            pid = _spawn(command, written, told)
        finally:
            os.close(written)
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(told)
    try:
        with os.fdopen(ready) as answer:
            line = answer.readline()
    except KeyboardInterrupt:
        os.kill(pid, 15)
        os.waitpid(pid, 0)
        raise
    outcome: dict[str, Any] = json.loads(line) if line else {}
    if "endpoint" not in outcome:
        _fail(pid, outcome, log, before)
    return {**outcome, "log": str(log)}


def log_file(endpoint: str) -> Path:
    """Return where the log of a server in the background goes."""
    name = endpoint.rpartition("/")[2].removesuffix(".sock")
    state = os.environ.get(STATE_VARIABLE) or Path.home() / ".local" / "state"
    return Path(state, "snapserv", re.sub(r"[^\w.-]+", "-", name).strip("-") + ".log")


def words_again(context: click.Context, leave_out: Collection[str]) -> list[str]:
    """Return the words that a command was given, but for some options."""
    words: list[str] = []
    for parameter in context.command.params:
        name, value = parameter.name or "", context.params.get(parameter.name or "")
        if name in leave_out or value is None or value is False or parameter.param_type_name == "argument":
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [parameter.opts[0]] if each is True else [f"{parameter.opts[0]}={each}"]
    return words


def _open(log: Path) -> int:
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as cause:
        raise BadRequestError(
            f"the log {log} cannot be written: {cause.strerror}",
            hint=f"set {STATE_VARIABLE} to a folder that is yours",
        ) from cause


def _spawn(command: list[str], log: int, told: int) -> int:
    away = max(log, told, READY_DESCRIPTOR) + 1  # one of the two may have the number that the other is to get
    return os.posix_spawn(
        sys.executable,
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, told, away),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
            (os.POSIX_SPAWN_DUP2, away, READY_DESCRIPTOR),
            (os.POSIX_SPAWN_CLOSE, away),
        ],
        setsid=True,  # the terminal's Ctrl-C, and its end, are not for it
    )


def _fail(pid: int, outcome: dict[str, Any], log: Path, before: int) -> NoReturn:
    """Wait for a server that did not start, and say why it did not."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if "error" in outcome:
        raise error_from_wire(outcome["error"])
    said = log.read_bytes()[before:].decode(errors="replace")
    raise InternalError(
        f"the server ended with status {status} before it answered",
        hint=f"its log is {log}",
        details={"traceback": said[-MOST_SHOWN:]},
    )
