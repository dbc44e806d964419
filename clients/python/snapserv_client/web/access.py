"""Who may see the page: whoever has its token, and nobody by way of another site that a browser is at.

On loopback no token is needed. Yet any site may have a browser ask an address of its machine: so a request must be
for the page's own host, by that name, and one that comes from a page must come from this one.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from ..errors import BadRequestError

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "snapserv"
LEAST_TOKEN = 16
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def token_for(host: str, given: str | None) -> str | None:
    """Return the token that is needed at a host: the one that was given, or none on loopback.

    ``new`` stands for one that is made now.

    Raises:
        BadRequestError: Others could reach the page, and there is none; or it is too short to be one.
    """
    if given == "new":
        return secrets.token_urlsafe(24)
    if given is not None and len(given) < LEAST_TOKEN:
        raise BadRequestError(
            f"the token has {len(given)} characters, and {LEAST_TOKEN} are the least",
            hint="--token new makes one",
        )
    if given is None and not is_loopback(host):
        raise BadRequestError(
            f"at {host} others could reach the page", hint="--token new makes a token that they need"
        )
    return given


class Access:
    """What stands before the page: an application of ASGI around that of the page.

    Args:
        app: The page.
        token: What visitors must have; None where they need nothing.
        hosts: The names that the page has, where it answers to no others: by these alone loopback is reached.
    """

    def __init__(self, app: App, token: str | None, hosts: Iterable[str] | None) -> None:
        self.app = app
        self._token = token
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status = self._refused(headers, shown := self._shown(scope, headers))
        if status is not None:
            await _refuse(scope, send, *status)
            return
        if shown == "query" and scope["type"] == "http":
            await _greet(scope, send, str(self._token))
            return
        await self.app(scope, receive, send)

    def _shown(self, scope: Scope, headers: dict[str, str]) -> str | None:
        """Return where a request shows the token, if it does; a wrong one is not shown."""
        if self._token is None:
            return "nowhere"
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])
        if given:
            return "query" if hmac.compare_digest(given[0].encode(), self._token.encode()) else None
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        held = "" if cookie is None else cookie.value
        return "cookie" if hmac.compare_digest(held.encode(), self._token.encode()) else None

    def _refused(self, headers: dict[str, str], shown: str | None) -> tuple[int, str] | None:
        """Return the status that a request is refused with, and why; None where it is let in."""
        host = headers.get("host", "")
        if self._hosts is not None and (urlsplit(f"//{host}").hostname or "") not in self._hosts:
            return 403, "This page answers to its own name alone."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "Another site's page may not ask this one."
        if shown is None:
            return 401, "This page needs its token: open the address that was printed when it was started."
        return None


async def _greet(scope: Scope, send: Send, token: str) -> None:
    """Give a visitor a cookie in the place of the token in the address, which others might see there."""
    kept = f"{COOKIE}={token}; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000"
    headers = [(b"location", scope["path"].encode() or b"/"), (b"set-cookie", kept.encode())]
    headers += [(b"cache-control", b"no-store"), (b"referrer-policy", b"no-referrer"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(scope: Scope, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    body = f"<!doctype html><meta charset=utf-8><title>snapserv</title><p>{why}".encode()
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
