"""Values as attributes of datasets: what JSON can hold."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from .source import NodeFacts

ABOUT_STEP = {"long_name": "steps since the root"}
"""The attributes of the coordinate that says where a node stands."""


def attributes_of(facts: NodeFacts, lineage: Sequence[tuple[str, int]] | None = None) -> dict[str, Any]:
    """Return what is known of a node, and of its ancestors where these are given, as attributes of its dataset."""
    attributes = {
        "simulation": facts.simulation,
        "version": facts.version,
        "params": plain(facts.params),
        "tree": facts.tree,
        "node": facts.name,
        "step": facts.step,
        "tags": list(facts.tags),
        "created": datetime.fromtimestamp(facts.created, UTC).isoformat(),
    }
    if facts.faulted is not None:
        attributes["faulted"] = facts.faulted
    if facts.outputs is not None:
        attributes["outputs"] = plain(facts.outputs)
    if lineage is not None:
        attributes["lineage"] = [{"name": name, "step": step} for name, step in lineage]
    return attributes


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: arrays as lists, bytes in base64, and what is no number as its name."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist()) if value.dtype.names is None else [plain(each) for each in value.reshape(-1)]
    if isinstance(value, np.void) and value.dtype.names is not None:
        return {name: plain(value[name]) for name in value.dtype.names}
    if isinstance(value, np.datetime64 | np.timedelta64):
        return str(value)
    if isinstance(value, np.longdouble | np.clongdouble):  # whose item() is itself
        return plain(complex(value) if np.iscomplexobj(value) else float(value))
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
