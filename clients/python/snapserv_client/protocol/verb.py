"""What a verb is: its declaration, the base of its arguments, and the errors that many share."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["COMMON_ERRORS", "Arguments", "Empty", "Verb"]


class Arguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of every verb's arguments: a name that is not declared is refused."""


class Empty(msgspec.Struct, forbid_unknown_fields=True):
    """No arguments, or nothing to say."""


class _Access(msgspec.Struct, frozen=True, kw_only=True):
    reads: bool


class Verb(_Access, frozen=True):
    """One verb: what it works on, its arguments and result, and the errors of its own.

    ``on`` says what the request's ``node`` must name. ``reads`` says whether the verb leaves every node as it is
    and runs none of the author's code: then clients that may only read may ask for it. Every verb has to say.
    ``once`` marks a verb that changes something: the reply to (client, id) is remembered, so that a retry gets the
    first reply again and nothing happens twice.
    Every verb can also be answered with one of `COMMON_ERRORS`.
    """

    name: str
    on: Literal["server", "branch", "node"]
    does: str
    args: type[Arguments | Empty]
    result: type[msgspec.Struct]
    errors: tuple[str, ...] = ()
    once: bool = False


COMMON_ERRORS = ("bad_request", "busy", "internal", "too_large", "unauthorized", "version_mismatch")

# What verbs on a node, on a live branch, and those that make a process can be answered with besides.
NODE_ERRORS = ("not_found", "node_died")
BRANCH_ERRORS = (*NODE_ERRORS, "frozen")
FORK_ERRORS = ("over_budget", "threads_running", "not_branchable", "unsupported")
