"""What all nodes of a tree have in common, made of what its master said when `setup` had returned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from snapserv_client.arrays import dtype_from_wire
from snapserv_client.protocol import ArenaInfo, FieldInfo, MethodInfo, SpecResult

from ..outside.fields import FieldPlace
from ..outside.hashing import BaseHashes


@dataclass(frozen=True)
class Plan:
    """What all nodes of a tree have in common: the description of the simulation and where its fields lie.

    ``described`` is all that as its master said it.
    """

    described: Mapping[str, Any]
    spec: SpecResult
    places: list[FieldPlace]
    segments: list[tuple[int, int]]
    base_hashes: BaseHashes = field(default_factory=BaseHashes)

    @property
    def resets_in_place(self) -> bool:
        """Whether a process may be taken back from one child of an expansion to the next, and nobody can tell."""
        return self.described["folders"] is None and not self.described["has_on_drop"]

    @property
    def shared(self) -> list[str]:
        """What all nodes share, or have lost, because the author or the server means them to."""
        return list(self.described["shared"])

    @property
    def file_backed(self) -> bool:
        """Whether segments stand on files, unless they have left them."""
        return self.spec.arena.backing in ("huge_tmpfs", "memfd")


def plan_of(tree: str, described: Mapping[str, Any]) -> Plan:
    """Return the plan of a tree whose master said what ``described`` holds; see `snapserv.cell.loop`."""
    fields = [FieldInfo(**info) for info in described["fields"]]
    arena = ArenaInfo(**described["arena"])
    spec = SpecResult(
        tree=tree,
        simulation=described["simulation"],
        doc=described["doc"],
        fields=fields,
        inputs=described["inputs"],
        params=described["params"],
        param_values=described["param_values"],
        methods=[MethodInfo(**info) for info in described["methods"]],
        arena=arena,
        fork=described["fork"],
        huge_heap_bytes=described["huge_heap_bytes"],
        setup_s=described["setup_s"],
        version=described.get("version", ""),
        source=described.get("source", ""),
    )
    places = [
        FieldPlace(info.name, described["addresses"][info.name], dtype_from_wire(info.dtype), tuple(info.shape))
        for info in fields
    ]
    segments = [(address, size) for address, size in described["segments"]]
    return Plan(described, spec, places, segments)
