"""What is installed beside the client, for whoever wants it."""

from __future__ import annotations

import importlib.util

from .errors import UnsupportedError


def need(package: str, extra: str) -> None:
    """Check that a package is there that comes with an extra of the client's.

    Raises:
        UnsupportedError: It is not installed; says how to get it.
    """
    if importlib.util.find_spec(package) is None:
        raise UnsupportedError(
            f"{package} is not installed", hint=f"pip install {package}, or 'snapserv-client[{extra}]'"
        )
