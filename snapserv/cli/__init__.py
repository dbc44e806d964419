"""The command line: one module a command group; `app` puts them together."""

from .app import main

__all__ = ["main"]
