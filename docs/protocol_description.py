"""The protocol as data, for programs: every verb, type, bound, error, limit and kind of message, as plain values.

``docs/protocol.json`` is this, and the tables of ``docs/protocol.md`` are made of it.
"""

from __future__ import annotations

import re
import types
import typing
from typing import Any

import msgspec
from snapserv_client import arrays, errors, protocol, wire

Described = dict[str, Any]

MESSAGES: dict[str, tuple[str, str]] = {
    "request": ("RequestHeader", "from a client"),
    "progress": ("Progress", "before the final reply of a step that asked for it"),
    "outcome": ("Outcome", "before the final reply of an expansion that asked for it"),
    "ok": ("the verb's result", "the final reply of a request that was done"),
    "error": ("Error", "the final reply of a request that was not"),
    "event": ("Event", "on the events socket"),
}
"""What is sent, by its kind: for replies that is the key beside ``id``."""

NEVER_SENT = ("address_unavailable", "unreachable", "keys")
"""Codes of errors that are raised on the side where they happen."""


class Error(msgspec.Struct):
    """What went wrong: ``code`` for programs, ``message`` and ``hint`` for people, ``details`` by the code."""

    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] = {}


def description() -> Described:
    """Return all of it."""
    return {
        "protocol": protocol.PROTOCOL_VERSION,
        "magic": wire.MAGIC.decode(),
        "array_extension": wire.ARRAY_EXTENSION,
        "messages": {kind: {"holds": holds, "sent": sent} for kind, (holds, sent) in MESSAGES.items()},
        "limits": limits(),
        "common_errors": list(protocol.COMMON_ERRORS),
        "verbs": [verb(each) for each in protocol.VERBS.values()],
        "types": {name: struct(kind) for name, kind in sorted(structs().items())},
        "errors": [
            {"code": code, "fault": kind.fault, "meaning": plain(kind.__doc__), "sent": code not in NEVER_SENT}
            for code, kind in errors.ERRORS.items()
        ],
        "events": list(typing.get_args(protocol.EventKind)),
    }


def limits() -> dict[str, int | str]:
    """Return what is bounded, and how."""
    return {
        "header_bytes": wire.MAX_HEADER_BYTES,
        "buffers": wire.MAX_BUFFERS,
        "message_bytes": wire.MAX_MESSAGE_BYTES,
        "arrays_in_a_request": wire.MAX_ARRAYS,
        "containers_in_a_request": wire.MAX_CONTAINERS,
        "dtype_fields": arrays.MAX_DTYPE_FIELDS,
        "dtype_depth": arrays.MAX_DTYPE_DEPTH,
        "axes": arrays.MAX_AXES,
        "requests_in_flight": protocol.MAX_IN_FLIGHT,
        "name_characters": protocol.MAX_NAME_LENGTH,
        "name_pattern": protocol.NAME_PATTERN,
        "ticks": protocol.MAX_TICKS,
        "branches": protocol.MAX_BRANCHES,
        "page": protocol.MAX_PAGE,
        "strip_bytes": protocol.MAX_STRIP,
    }


def verb(declared: protocol.Verb) -> Described:
    """Return a verb."""
    return {
        "name": declared.name,
        "on": declared.on,
        "does": declared.does,
        "reads": declared.reads,
        "at_most_once": declared.once,
        "args": declared.args.__name__,
        "result": declared.result.__name__,
        "errors": list(declared.errors),
    }


def structs(*, args: bool = True) -> dict[str, type[msgspec.Struct]]:
    """Return every map of the protocol by its name; without ``args``, those that results consist of."""
    seen: dict[str, type[msgspec.Struct]] = {}

    def collect(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__name__ not in seen:
            seen[kind.__name__] = kind
            for field in msgspec.structs.fields(kind):
                collect(field.type)
        for part in typing.get_args(kind):
            collect(part)

    for each in protocol.VERBS.values():
        collect(each.result)
        if args:
            collect(each.args)
    for kind in (protocol.RequestHeader, protocol.Progress, protocol.Notice, protocol.Event, Error):
        collect(kind)
    return seen


def struct(kind: type[msgspec.Struct]) -> Described:
    """Return a map: its keys in order, and whether others are refused where it is sent to the server."""
    config = kind.__struct_config__
    fields: list[Described] = []
    if config.tag_field is not None:
        fields.append(
            {"name": config.tag_field, "type": {"is": "one of", "values": [config.tag]}, "required": True}
        )
    for field in msgspec.structs.fields(kind):
        described: Described = {"name": field.name, "type": type_of(field.type), "required": field.required}
        if field.default is not msgspec.NODEFAULT:
            described["default"] = field.default
        elif field.default_factory is not msgspec.NODEFAULT:
            described["default"] = field.default_factory()
        fields.append(described)
    return {"doc": plain(kind.__doc__), "closed": config.forbid_unknown_fields, "fields": fields}


def type_of(kind: Any) -> Described:
    """Return a type: what a value is, and its bounds."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        meta = parts[1]
        bounds = {
            name: getattr(meta, name) for name in ("ge", "gt", "le", "lt", "min_length", "max_length", "pattern")
        }
        return {**type_of(parts[0]), **{name: bound for name, bound in bounds.items() if bound is not None}}
    if origin is typing.Literal:
        return {"is": "one of", "values": list(parts)}
    if origin in (typing.Union, types.UnionType):
        return {"is": "either", "of": [type_of(part) for part in parts]}
    if origin is list or (origin is tuple and parts[1:] == (...,)):
        return {"is": "array", "of": type_of(parts[0])}
    if origin is tuple:
        return {"is": "tuple", "of": [type_of(part) for part in parts]}
    if origin is dict or kind is dict:
        return {"is": "map"}
    simple = {str: "string", int: "int", float: "float", bool: "bool", type(None): "nil", Any: "any value"}
    return {"is": simple[kind]} if kind in simple else {"is": "map", "type": kind.__name__}


def plain(doc: str | None) -> str:
    """Return a docstring as one line, with numbers in the place of constants."""
    text = re.sub(r"\s+", " ", (doc or "").strip())
    return re.sub(r"`([A-Z][A-Z_]+)`", lambda found: str(getattr(protocol, found[1])), text)
