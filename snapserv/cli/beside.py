"""``serve --web``: the page of a server, as a process of its own beside it, which ends with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from snapserv_client.web import need_nicegui
from snapserv_client.web.access import is_loopback

from snapserv.errors import BadRequestError

ENDS_WITHIN_S = 5.0
TOKEN_VARIABLE = "SNAPSERV_WEB_TOKEN"


@contextlib.contextmanager
def page(where: str | None, endpoint: str, keys: str | None) -> Iterator[None]:
    """Have the page of a server within this block, if it is wanted; it says its address on standard error.

    The page is a client of the server like any other. It ends when its standard input is closed: with this block,
    and with this process, however that ends.

    Args:
        where: ``[HOST]:PORT``; beyond loopback it has a token.
        endpoint: The server's address; it need not be there yet.
        keys: The server's keys.

    Raises:
        BadRequestError: No port is named, or the page would need a client's keys.
        UnsupportedError: NiceGUI is not installed.
    """
    if where is None:
        yield
        return
    host, port = _parsed(where)
    if keys is not None:
        raise BadRequestError(
            "with --keys the page needs a client's", hint="snapserv web --keys CLIENTS-FOLDER, when the server runs"
        )
    need_nicegui()
    command = [sys.executable, "-P", "-m", "snapserv", "web", f"--endpoint={endpoint}", f"--host={host}"]
    command += [f"--port={port}", "--exit-with-stdin"]
    if not is_loopback(host) and not os.environ.get(TOKEN_VARIABLE):
        command.append("--token=new")
    # stdout is for what the server says of itself, as JSON for one.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2) as beside:
        try:
            yield
        finally:
            assert beside.stdin is not None
            beside.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                beside.wait(ENDS_WITHIN_S)
            beside.kill()


def _parsed(where: str) -> tuple[str, int]:
    host, colon, port = where.rpartition(":")
    if not colon or not port.isdigit():
        raise BadRequestError(
            f"--web {where!r} names no port", hint="write 127.0.0.1:8470, or :0 for any port on loopback"
        )
    return host.strip("[]") or "127.0.0.1", int(port)
