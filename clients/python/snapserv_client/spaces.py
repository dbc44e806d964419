"""Gymnasium's spaces on the wire: what they are, exactly, and values of them. Needs gymnasium, on both sides.

A space is a map that says its ``kind`` and the arguments that make it again; arrays stay arrays. A value of a space
is what msgpack and arrays can say of it: tuples become arrays of msgpack, graphs and choices lists of their parts.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from .errors import BadRequestError, UnsupportedError

Wire = dict[str, Any]
Space = spaces.Space[Any]


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
            return {"kind": "MultiBinary", "n": list(space.shape)}
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
            return {"kind": "Dict", "spaces": [[key, space_to_wire(each)] for key, each in space.spaces.items()]}
        case spaces.Sequence():
            return {"kind": "Sequence", "space": space_to_wire(space.feature_space), "stack": space.stack}
        case spaces.Graph():
            edges = None if space.edge_space is None else space_to_wire(space.edge_space)
            return {"kind": "Graph", "node_space": space_to_wire(space.node_space), "edge_space": edges}
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


_MAKERS: dict[str, Callable[[Mapping[str, Any]], Space]] = {
    "Box": lambda wire: spaces.Box(np.array(wire["low"]), np.array(wire["high"]), dtype=_type(wire)),
    "Discrete": lambda wire: spaces.Discrete(wire["n"], start=wire["start"], dtype=_type(wire)),
    "MultiDiscrete": lambda wire: spaces.MultiDiscrete(
        np.array(wire["nvec"]), start=np.array(wire["start"]), dtype=_type(wire)
    ),
    "MultiBinary": lambda wire: spaces.MultiBinary(wire["n"][0] if len(wire["n"]) == 1 else wire["n"]),
    "Text": lambda wire: spaces.Text(wire["max_length"], min_length=wire["min_length"], charset=wire["charset"]),
    "Tuple": lambda wire: spaces.Tuple([space_from_wire(each) for each in wire["spaces"]]),
    "OneOf": lambda wire: spaces.OneOf([space_from_wire(each) for each in wire["spaces"]]),
    "Dict": lambda wire: spaces.Dict({key: space_from_wire(each) for key, each in wire["spaces"]}),
    "Sequence": lambda wire: spaces.Sequence(space_from_wire(wire["space"]), stack=wire["stack"]),
    "Graph": lambda wire: spaces.Graph(
        space_from_wire(wire["node_space"]), wire["edge_space"] and space_from_wire(wire["edge_space"])
    ),
}


def value_to_wire(space: Space, value: Any) -> Any:
    """Return what the wire carries for a value of a space."""
    match space:
        case spaces.Tuple():
            return [value_to_wire(each, part) for each, part in zip(space.spaces, value, strict=True)]
        case spaces.Dict():
            return {key: value_to_wire(each, value[key]) for key, each in space.spaces.items()}
        case spaces.OneOf():
            chosen, part = value
            return [int(chosen), value_to_wire(space.spaces[int(chosen)], part)]
        case spaces.Sequence() if not space.stack:
            return [value_to_wire(space.feature_space, part) for part in value]
        case spaces.Graph():
            return [value.nodes, value.edges, value.edge_links]
        case spaces.Discrete():
            return int(value)
    return value


def value_from_wire(space: Space, wire: Any) -> Any:
    """Return the value of a space that `value_to_wire` gave; its arrays can be written.

    Raises:
        BadRequestError: It does not have the structure of the space's values.
    """
    try:
        return _value(space, wire)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as cause:
        raise BadRequestError(f"no value of {space}: {cause}") from cause


def _value(space: Space, wire: Any) -> Any:
    match space:
        case spaces.Tuple():
            return tuple(_value(each, part) for each, part in zip(space.spaces, wire, strict=True))
        case spaces.Dict():
            return {key: _value(each, wire[key]) for key, each in space.spaces.items()}
        case spaces.OneOf():
            chosen, part = wire
            return np.int64(chosen), _value(space.spaces[chosen], part)
        case spaces.Sequence() if not space.stack:
            return tuple(_value(space.feature_space, part) for part in wire)
        case spaces.Graph():
            nodes, edges, links = (None if part is None else np.array(part) for part in wire)
            return spaces.GraphInstance(nodes, edges, links)  # type: ignore[arg-type]  # nodes are never None
        case spaces.Discrete():
            return space.dtype.type(operator.index(wire))
        case spaces.Text():
            return str(wire)
    # What is no array yet was written by hand: a list in an action.
    return np.array(wire) if isinstance(wire, np.ndarray) else np.array(wire, dtype=space.dtype)
