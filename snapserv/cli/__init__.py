"""The command line: a module a group of commands, which `app` puts together.

Whoever types ``snapserv`` comes in. It uses the client for what a server does, and the rooms below for the rest.
"""

from .app import main

__all__ = ["main"]
