"""Where a server is found without being told."""

from __future__ import annotations

import os
from pathlib import Path

ENDPOINT_VARIABLE = "SNAPSERV_ENDPOINT"


def socket_folder() -> Path:
    """Return the folder of this user's sockets: under XDG_RUNTIME_DIR, or in /tmp where that is not set."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "snapserv" if runtime else Path(f"/tmp/snapserv-{os.getuid()}")


def default_endpoint(name: str = "default") -> str:
    """Return the ipc address of the server called ``name``."""
    return f"ipc://{socket_folder()}/{name}.sock"


def chosen_endpoint(endpoint: str | None) -> str:
    """Return ``endpoint``, or the one that SNAPSERV_ENDPOINT names, or the default."""
    return endpoint or os.environ.get(ENDPOINT_VARIABLE) or default_endpoint()
