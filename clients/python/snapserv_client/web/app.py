"""The page as a program: its address, its own server of HTTP, and how it begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from nicegui import ui

from ..errors import AddressError, SnapservWarning
from . import page as pages
from .access import LOOPBACK_NAMES, Access, is_loopback
from .page import THEME_COOKIE, Page
from .panes import tell_warnings
from .pictures import Gallery
from .session import Reached, Session

STYLE = Path(__file__).with_name("page.css")
FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20" fill="none" stroke-width="2.4">'
    '<path stroke="#2f6fce" d="M5 2v16"/><path stroke="#c2571a" d="M5 6c0 5 9 2 9 8v4"/>'
    '<circle stroke="#2f6fce" fill="#fff" cx="5" cy="5" r="2.6"/>'
    '<circle stroke="#c2571a" fill="#fff" cx="14" cy="15" r="2.6"/></svg>'
)
BEFORE_PAINT = "<style>@media (prefers-color-scheme: dark) { html { background: #0e1116; } }</style>"
WAITS_FOR_TREE_S = 5.0
FORGETS_AFTER_S = 60.0
"""A browser that was away for no longer finds the page as it was."""
ENDS_WITHIN_S = 2


@dataclass(frozen=True)
class Place:
    """Where the page is, and who may see it.

    Attributes:
        host: The address that it listens at.
        port: The port; 0 is any that is free.
        token: What visitors need; None where they need nothing.
    """

    host: str
    port: int
    token: str | None


def listen(place: Place) -> socket.socket:
    """Return a socket that listens.

    Raises:
        AddressError: The address is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((place.host, place.port))
        listening.listen(128)
    except OSError as cause:
        listening.close()
        raise AddressError(
            f"the page cannot listen at {place.host}:{place.port}: {cause.strerror or cause}",
            hint="another --port; 0 is any that is free",
        ) from cause
    return listening


def address_of(place: Place, listening: socket.socket) -> str:
    """Return what to open in a browser."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    token = "" if place.token is None else f"/?token={place.token}"
    return f"http://{host}:{listening.getsockname()[1]}{token}"


def run(
    reached: Reached,
    place: Place,
    *,
    only_looks: bool = False,
    until_eof: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the page until SIGTERM or Ctrl-C.

    Args:
        reached: The server that it is of.
        place: Where it is.
        only_looks: Whether it changes nothing, whatever its key may do.
        until_eof: Whether it ends when standard input is closed, and does not wait for the server to begin with.
        on_ready: Called with its address once browsers are answered.

    Raises:
        AddressError: It cannot listen there.
    """
    logging.getLogger("snapserv_client").setLevel(logging.ERROR)  # who waits for a server is told so on the page
    with contextlib.closing(listen(place)) as listening:
        address = address_of(place, listening)
        waits_s = 0.0 if until_eof else WAITS_FOR_TREE_S
        app = _application(
            reached, only_looks=only_looks, waits_s=waits_s, ready=lambda: on_ready and on_ready(address)
        )
        hosts = LOOPBACK_NAMES if is_loopback(place.host) else None
        config = uvicorn.Config(
            Access(app, place.token, hosts),
            log_level="error",
            access_log=False,
            timeout_graceful_shutdown=ENDS_WITHIN_S,
            server_header=False,
        )
        asyncio.run(_Server(config, until_eof=until_eof).serve([listening]))


class _Server(uvicorn.Server):
    """A server of HTTP that ends by SIGTERM and Ctrl-C as every command does, rather than by the signal itself.

    Args:
        config: What it serves.
        until_eof: Whether it ends when standard input is closed as well.
    """

    def __init__(self, config: uvicorn.Config, *, until_eof: bool) -> None:
        super().__init__(config)
        self._until_eof = until_eof

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have both signals end it, and the end of standard input."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end)
        if self._until_eof:
            loop.add_reader(sys.stdin.fileno(), self._end_of_input)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _end_of_input(self) -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self._end()

    def _end(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def _warn(warning: SnapservWarning) -> None:
    for told in tuple(pages.warned):
        told(warning)


def _application(reached: Reached, *, only_looks: bool, waits_s: float, ready: Callable[[], object]) -> FastAPI:
    gallery = Gallery()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.session = Session(reached, only_looks=only_looks)
        running = asyncio.create_task(app.state.session.run())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(waits_s):
                    while app.state.session.away:
                        await asyncio.sleep(0.02)
            ready()
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/pictures/{name}.png")
    def _picture(name: str) -> Response:
        png = gallery.get(name)
        if png is None:
            return Response(status_code=404)
        return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=86400, immutable"})

    @ui.page("/")
    def _page(request: Request) -> None:
        Page(app.state.session, gallery, request.cookies.get(THEME_COOKIE, "auto"))

    ui.add_head_html(f"{BEFORE_PAINT}<style>{STYLE.read_text()}</style>", shared=True)
    tell_warnings(_warn)
    ui.run_with(
        app,
        title="snapserv",
        favicon=FAVICON,
        dark=None,
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=FORGETS_AFTER_S,
        show_welcome_message=False,
    )
    return app
