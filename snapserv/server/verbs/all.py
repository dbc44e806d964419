"""All verbs: each subject, once imported, has registered its handlers."""

from . import keep, look, run, server, store, tree
from .registry import HANDLERS

__all__ = ["HANDLERS", "keep", "look", "run", "server", "store", "tree"]
