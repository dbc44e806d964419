"""Where a server is found without being told."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import BadRequestError

ENDPOINT_VARIABLE = "SNAPSERV_ENDPOINT"


def socket_folder() -> Path:
    """Return the folder of this user's sockets: under XDG_RUNTIME_DIR, or in /tmp where that is not set."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "snapserv" if runtime else Path(f"/tmp/snapserv-{os.getuid()}")


def default_endpoint(name: str = "default") -> str:
    """Return the ipc address of the server called ``name``.

    Raises:
        BadRequestError: No server is called that.
    """
    from .protocol.limits import NAME_PATTERN

    if not re.match(NAME_PATTERN, name):
        raise BadRequestError(
            f"a server cannot be called {name!r}", hint="letters, digits and _.- are allowed, not first . or -"
        )
    return f"ipc://{socket_folder()}/{name}.sock"


def chosen_endpoint(endpoint: str | None, name: str | None = None) -> str:
    """Return ``endpoint``, or that of the server called ``name``, or what SNAPSERV_ENDPOINT names, or the default.

    Raises:
        BadRequestError: There are both an endpoint and a name, or no server is called that.
    """
    if name is not None:
        if endpoint is not None:
            raise BadRequestError("a name and an endpoint both say which server is meant", hint="give one of them")
        return default_endpoint(name)
    return endpoint or os.environ.get(ENDPOINT_VARIABLE) or default_endpoint()
