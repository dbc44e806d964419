"""Recordings as files: what was done, what it was done to, and where it leads, as JSON that loses nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .arrays import array_bytes, dtype_from_wire, dtype_to_wire
from .errors import BadRequestError
from .history import Actions
from .protocol import Action, Recording

FORMAT = 1
_BINARY = frozenset({"dtype", "shape", "base64"})
_PRINTED = frozenset({"dtype", "shape", "values"})
_BYTES = frozenset({"bytes"})


def to_json(actions: Actions) -> str:
    """Return a recording as text.

    Raises:
        BadRequestError: A map in it has keys that are no strings, which JSON does not have.
    """
    items = [{"kind": type(each).__struct_config__.tag, **_parts(each)} for each in actions.items]
    recording = None if actions.recording is None else _parts(actions.recording)
    whole = {"snapserv_recording": FORMAT, "node": actions.node, "recording": recording, "actions": items}
    return json.dumps(_plain(whole))


def from_json(text: str, what: str) -> Actions:
    """Return the recording that a text holds; or the actions that ``log --actions --json`` printed.

    Args:
        text: What was written.
        what: What it is called, for errors.

    Raises:
        BadRequestError: It is neither.
    """
    hint = "write one with log --save"
    try:
        found = json.loads(text, object_hook=_special)
    except ValueError as cause:
        raise BadRequestError(f"{what} is no JSON: {cause}", hint=hint) from cause
    if isinstance(found, list):
        found = {"snapserv_recording": FORMAT, "actions": found}
    if not isinstance(found, dict) or not isinstance(found.get("actions"), list):
        raise BadRequestError(f"{what} holds no list of actions", hint=hint)
    if found.get("snapserv_recording") != FORMAT:
        raise BadRequestError(f"{what} is no recording of format {FORMAT}", hint=hint)
    try:
        items = msgspec.convert(found["actions"], list[Action])
        recording = msgspec.convert(found.get("recording"), Recording | None)
    except msgspec.ValidationError as cause:
        from .refusals import in_words

        raise BadRequestError(f"{what}: {in_words(cause, 'actions')}", hint=hint) from cause
    return Actions(str(found.get("node", "")), items, recording)


def save(actions: Actions, path: Path) -> None:
    """Write a recording to a file.

    Raises:
        OSError: It cannot be written.
        BadRequestError: See `to_json`.
    """
    path.write_text(to_json(actions) + "\n")


def _parts(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        content = base64.b64encode(bytes(array_bytes(value))).decode()
        return {"dtype": dtype_to_wire(value.dtype), "shape": list(value.shape), "base64": content}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise BadRequestError(f"JSON has no maps with keys such as {name!r}", hint="replay from Python")
        if value.keys() in (_BINARY, _PRINTED, _BYTES):
            raise BadRequestError(f"a map of {sorted(value)} would be read as an array", hint="replay from Python")
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return value


def _special(found: dict[str, Any]) -> Any:
    """Return what stands for an array or for bytes as that; anything else as it is."""
    if found.keys() == {"dtype", "shape"}:
        raise BadRequestError("an array is too large to have been printed", hint="write it with log --save")
    try:
        if found.keys() == _BYTES:
            return base64.b64decode(found["bytes"], validate=True)
        if found.keys() == _BINARY:
            content = base64.b64decode(found["base64"], validate=True)
            return np.frombuffer(content, dtype_from_wire(found["dtype"])).reshape(found["shape"])
        if found.keys() == _PRINTED:
            return np.array(found["values"], np.dtype(found["dtype"])).reshape(found["shape"])
    except (TypeError, ValueError) as cause:
        raise BadRequestError(f"no array: {cause}", hint="write one with log --save") from cause
    return found
