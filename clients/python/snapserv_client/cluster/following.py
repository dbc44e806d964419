"""What may be asked again of a node that came back elsewhere."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ..protocol import VERBS
from ..requests import Request

T = TypeVar("T")


def is_safe(request: Request[object]) -> bool:
    """Return whether a request may be made twice: it only reads."""
    verb = VERBS.get(request.verb)
    return verb is not None and verb.reads


def moved(request: Request[T], node: int) -> Request[T]:
    """Return the same request of a node that has another id by now."""
    return request if isinstance(request.node, str | None) else msgspec.structs.replace(request, node=node)
