"""The page: what a server has, in a browser, to look at and to work with.

It is a client of a server like any other, in a process of its own: it asks `snapserv_client.aio`, and knows nothing
of the server's packages. What it is drawn with, NiceGUI, comes with the extra ``web``.
"""

from __future__ import annotations

import importlib.util

from ..errors import UnsupportedError

__all__ = ["need_nicegui"]


def need_nicegui() -> None:
    """Raise UnsupportedError where NiceGUI is not installed; says how to get it."""
    if importlib.util.find_spec("nicegui") is None:
        raise UnsupportedError("the page needs NiceGUI", hint="pip install 'snapserv-client[web]'")
