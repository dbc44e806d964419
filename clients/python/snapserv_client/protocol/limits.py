"""How much of what there may be, and the types of arguments that these bounds make."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = [
    "DEFAULT_RUNGS",
    "MAX_BRANCHES",
    "MAX_IN_FLIGHT",
    "MAX_MESSAGE_LENGTH",
    "MAX_NAME_LENGTH",
    "MAX_PAGE",
    "MAX_PATH_LENGTH",
    "MAX_RUNGS",
    "MAX_SECONDS",
    "MAX_SEQUENCE",
    "MAX_STRIP",
    "MAX_TICKS",
    "NAME_PATTERN",
    "PROTOCOL_VERSION",
    "BranchCount",
    "DoneTicks",
    "Message",
    "Name",
    "NonNegative",
    "PageSize",
    "Repeats",
    "Rungs",
    "Seconds",
    "Ticks",
]

PROTOCOL_VERSION = 1

MAX_NAME_LENGTH = 64
MAX_PATH_LENGTH = 2 * MAX_NAME_LENGTH + 1
MAX_MESSAGE_LENGTH = 4096
MAX_TICKS = 1 << 40
MAX_BRANCHES = 4096
MAX_SECONDS = 1e9
MAX_RUNGS = 1024
DEFAULT_RUNGS = 16
MAX_PAGE = 10_000
MAX_IN_FLIGHT = 1024
MAX_SEQUENCE = 1 << 16
MAX_STRIP = 1 << 24

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
"""What a name of a node or tree may look like. A node of a tree other than the first is ``tree/name``."""

NonNegative = Annotated[int, msgspec.Meta(ge=0)]
DoneTicks = Annotated[int, msgspec.Meta(ge=0, le=MAX_TICKS)]
Repeats = Annotated[int, msgspec.Meta(ge=1, le=MAX_TICKS)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH, pattern=NAME_PATTERN)]
Message = Annotated[str, msgspec.Meta(max_length=MAX_MESSAGE_LENGTH)]
PageSize = Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)]
Ticks = Annotated[int, msgspec.Meta(ge=1, le=MAX_TICKS)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)]
Rungs = Annotated[int, msgspec.Meta(ge=1, le=MAX_RUNGS)]
BranchCount = Annotated[int, msgspec.Meta(ge=1, le=MAX_BRANCHES)]
