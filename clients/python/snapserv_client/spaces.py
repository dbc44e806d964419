"""Gymnasium's spaces on the wire: what they are, exactly, and values of them. Needs gymnasium, on both sides.

A space is a map that says its ``kind`` and the arguments that make it again; arrays stay arrays. A value of a space
is what msgpack and arrays can say of it: tuples become arrays of msgpack, graphs and choices lists of their parts,
and a Dict with keys that are no text is a list of its values, in the space's order.
"""

from __future__ import annotations

import copy
import operator
import string
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from .errors import BadRequestError, UnsupportedError

Wire = dict[str, Any]
Space = spaces.Space[Any]
Leaf = Callable[[Space, Any], Any]

MOST_TEXT = 1 << 20
"""How long a text may be of which its space does not say."""

MISFITS = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
"""What taking a value apart raises that is none of its space's."""


def space_to_wire(space: Space) -> Wire:
    """Return what a space is.

    Raises:
        UnsupportedError: A kind of space that is none of Gymnasium's own.
    """
    match space:
        case spaces.Box():
            return {"kind": "Box", "low": space.low, "high": space.high, "dtype": str(space.dtype)}
        case spaces.Discrete():
            return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
        case spaces.MultiDiscrete():
            return {
                "kind": "MultiDiscrete",
                "nvec": np.asarray(space.nvec),
                "start": np.asarray(space.start),
                "dtype": str(space.dtype),
            }
        case spaces.MultiBinary():
            return {"kind": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
        case spaces.Text():
            return {
                "kind": "Text",
                "max_length": space.max_length,
                "min_length": space.min_length,
                "charset": "".join(sorted(space.character_set)),
            }
        case spaces.Tuple():
            return {"kind": "Tuple", "spaces": [space_to_wire(each) for each in space.spaces]}
        case spaces.OneOf():
            return {"kind": "OneOf", "spaces": [space_to_wire(each) for each in space.spaces]}
        case spaces.Dict():
            return {
                "kind": "Dict",
                "spaces": [[_key(key), space_to_wire(each)] for key, each in space.spaces.items()],
            }
        case spaces.Sequence():
            return {"kind": "Sequence", "space": space_to_wire(space.feature_space), "stack": space.stack}
        case spaces.Graph():
            edges = None if space.edge_space is None else space_to_wire(space.edge_space)
            return {"kind": "Graph", "node_space": space_to_wire(space.node_space), "edge_space": edges}
    if _is_text(space):
        return {"kind": "Text", "max_length": MOST_TEXT, "min_length": 0, "charset": string.printable}
    raise UnsupportedError(
        f"a space of type {type(space).__name__} cannot be sent", hint="wrap the environment to one of Gymnasium's"
    )


def space_from_wire(wire: Mapping[str, Any]) -> Space:
    """Return the space that `space_to_wire` described.

    Raises:
        BadRequestError: It describes none.
    """
    kind = wire.get("kind")
    make = _MAKERS.get(str(kind))
    if make is None:
        raise BadRequestError(f"no space of kind {kind!r}")
    try:
        return make(wire)
    except (KeyError, TypeError, ValueError, AssertionError) as cause:
        raise BadRequestError(f"no {kind}: {cause}") from cause


def _type(wire: Mapping[str, Any]) -> Any:
    return np.dtype(wire["dtype"]).type


def _unusual(wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dtype of a Discrete where it is not the usual one, which is all that Gymnasium had before 1.2."""
    return {} if wire["dtype"] == "int64" else {"dtype": _type(wire)}


def _key(key: Any) -> Any:
    return [_key(each) for each in key] if isinstance(key, tuple) else key


def _hashable(key: Any) -> Any:
    return tuple(_hashable(each) for each in key) if isinstance(key, list) else key


def _has_names(space: spaces.Dict) -> bool:
    """Return whether all keys are text, as those of a map on the wire are; others' values are sent in order."""
    return all(isinstance(key, str) for key in space.spaces)


def _is_text(space: Space) -> bool:
    """Return whether values are text, though the space is none of Gymnasium's: Minigrid's missions, say."""
    if type(space).__module__.startswith("gymnasium."):
        return False
    return isinstance(copy.deepcopy(space).sample(), str)


_MAKERS: dict[str, Callable[[Mapping[str, Any]], Space]] = {
    "Box": lambda wire: spaces.Box(np.array(wire["low"]), np.array(wire["high"]), dtype=_type(wire)),
    "Discrete": lambda wire: spaces.Discrete(wire["n"], start=wire["start"], **_unusual(wire)),
    "MultiDiscrete": lambda wire: spaces.MultiDiscrete(
        np.array(wire["nvec"]), start=np.array(wire["start"]), dtype=_type(wire)
    ),
    "MultiBinary": lambda wire: spaces.MultiBinary(wire["n"]),
    "Text": lambda wire: spaces.Text(wire["max_length"], min_length=wire["min_length"], charset=wire["charset"]),
    "Tuple": lambda wire: spaces.Tuple([space_from_wire(each) for each in wire["spaces"]]),
    "OneOf": lambda wire: spaces.OneOf([space_from_wire(each) for each in wire["spaces"]]),
    "Dict": lambda wire: spaces.Dict({_hashable(key): space_from_wire(each) for key, each in wire["spaces"]}),
    "Sequence": lambda wire: spaces.Sequence(space_from_wire(wire["space"]), stack=wire["stack"]),
    "Graph": lambda wire: spaces.Graph(
        space_from_wire(wire["node_space"]), wire["edge_space"] and space_from_wire(wire["edge_space"])
    ),
}


def value_to_wire(space: Space, value: Any) -> Any:
    """Return what the wire carries for a value of a space.

    Raises:
        BadRequestError: It does not have the structure of the space's values.
    """
    try:
        return _to_wire(space, value)
    except MISFITS as cause:
        raise BadRequestError(f"{value!r} is not in {space}: {cause}") from cause


def value_from_wire(space: Space, wire: Any) -> Any:
    """Return the value of a space that `value_to_wire` gave, as it was; its arrays can be written.

    Raises:
        BadRequestError: It does not have the structure of the space's values.
    """
    try:
        return _from_wire(space, wire, _array)
    except MISFITS as cause:
        raise BadRequestError(f"no value of {space}: {cause}") from cause


def action_from_wire(space: Space, wire: Any) -> Any:
    """Return an action that somebody chose, with arrays of the space's own types.

    A list may stand for an array, and numbers may have another type than the space's, as those that numpy makes by
    itself: what changes none of them, but for the rounding of floats.

    Raises:
        BadRequestError: It is not in the space.
    """
    try:
        action = _from_wire(space, wire, _fitted)
        if space.contains(action):
            return action
    except MISFITS as cause:
        raise BadRequestError(f"the action {wire!r} is not in {space}: {cause}") from cause
    raise BadRequestError(f"the action {wire!r} is not in {space}")


def _to_wire(space: Space, value: Any) -> Any:
    match space:
        case spaces.Tuple():
            return [_to_wire(each, part) for each, part in zip(space.spaces, value, strict=True)]
        case spaces.Dict():
            if value.keys() != space.spaces.keys():
                raise KeyError(f"it has the keys {sorted(value)}")
            if not _has_names(space):
                return [_to_wire(each, value[key]) for key, each in space.spaces.items()]
            return {key: _to_wire(each, value[key]) for key, each in space.spaces.items()}
        case spaces.OneOf():
            chosen, part = value
            return [int(chosen), _to_wire(space.spaces[int(chosen)], part)]
        case spaces.Sequence() if space.stack:
            return _to_wire(space.stacked_feature_space, value)
        case spaces.Sequence():
            return [_to_wire(space.feature_space, part) for part in value]
        case spaces.Graph():
            return [value.nodes, value.edges, value.edge_links]
        case spaces.Discrete():
            number = int(value)
            if number != value:
                raise ValueError("it is no integer")
            return number
    return value


def _from_wire(space: Space, wire: Any, leaf: Leaf) -> Any:
    match space:
        case spaces.Tuple():
            return tuple(_from_wire(each, part, leaf) for each, part in zip(space.spaces, wire, strict=True))
        case spaces.Dict():
            if not _has_names(space) and isinstance(wire, list | tuple):
                wire = dict(zip(space.spaces, wire, strict=True))
            if wire.keys() != space.spaces.keys():
                raise KeyError(f"it has the keys {sorted(wire)}")
            return {key: _from_wire(each, wire[key], leaf) for key, each in space.spaces.items()}
        case spaces.OneOf():
            chosen, part = wire
            return np.int64(chosen), _from_wire(space.spaces[chosen], part, leaf)
        case spaces.Sequence() if space.stack:
            return _from_wire(space.stacked_feature_space, wire, leaf)
        case spaces.Sequence():
            return tuple(_from_wire(space.feature_space, part, leaf) for part in wire)
        case spaces.Graph():
            nodes, edges, links = wire
            return spaces.GraphInstance(
                leaf(space.node_space, nodes),
                None if edges is None or space.edge_space is None else leaf(space.edge_space, edges),
                None if links is None else np.array(links),
            )
        case spaces.Discrete():
            return space.dtype.type(operator.index(wire))
        case spaces.Text():
            if not isinstance(wire, str):
                raise TypeError(f"{wire!r} is no text")
            return wire
    if isinstance(wire, str) and _is_text(space):
        return wire
    return leaf(space, wire)


def _array(space: Space, wire: Any) -> Any:
    # What is no array yet was written by hand: a list in an action.
    return np.array(wire) if isinstance(wire, np.ndarray) else np.array(wire, dtype=space.dtype)


def _fitted(space: Space, wire: Any) -> Any:
    given = np.array(wire)
    with np.errstate(over="ignore", invalid="ignore"):
        made = given.astype(space.dtype)
    rounded = made.dtype.kind == given.dtype.kind == "f"
    same = np.isfinite(made) == np.isfinite(given) if rounded else made == given
    if given.dtype.kind not in "iubf" or not np.all(same):
        raise ValueError(f"as {made.dtype} it would be another")
    return made
