"""``python -m snapserv.archiver``: an archiver, as the server starts it; its link is descriptor 3."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket

from ..errors import InternalError, SnapservError
from .link import receive, send
from .work import Archive, be_nice

LINK = 3


def main() -> None:
    """Do what the server asks until it hangs up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--bytes-per-s", type=float, default=None)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the server's terminal is the server's affair
    link = socket.socket(fileno=LINK)
    link.setblocking(True)
    archive: Archive | None = None
    if options.nice:
        be_nice(options.nice)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            request, descriptors = receive(link)
            attached: int | None = None
            try:
                archive = archive or Archive(options.store, options.bytes_per_s)
                answer, attached = archive.do(request, descriptors)
                reply = {"ok": answer}
            except SnapservError as error:
                reply = {"error": error.to_wire()}
            except Exception as cause:  # noqa: BLE001 - whatever it is, whoever asked is told, and the next one served
                reply = {"error": InternalError(f"the archiver failed: {cause!r}").to_wire()}
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            try:
                send(link, reply, [attached] if attached is not None else None)
            finally:
                if attached is not None:
                    os.close(attached)


if __name__ == "__main__":
    main()
