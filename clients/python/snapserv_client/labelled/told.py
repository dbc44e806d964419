"""What a server tells of fields and nodes, as what is labelled has it."""

from __future__ import annotations

from ..arrays import dtype_from_wire
from ..protocol import NodeInfo, SpecResult
from .source import FieldFacts, NodeFacts


def fields_of(spec: SpecResult) -> list[FieldFacts]:
    """Return the fields of a simulation."""
    return [
        FieldFacts(
            each.name, dtype_from_wire(each.dtype), tuple(each.shape), tuple(each.dims), each.units, each.doc
        )
        for each in spec.fields
    ]


def facts_of(
    info: NodeInfo, spec: SpecResult, *, step: int | None = None, created: float | None = None
) -> NodeFacts:
    """Return what is known of a node; of a live one, as it was at this step and time."""
    return NodeFacts(
        name=info.name,
        tree=info.tree,
        simulation=spec.simulation,
        version=spec.version,
        params=spec.param_values,
        step=info.step if step is None else step,
        created=info.created if created is None else created,
        tags=tuple(info.tags),
        faulted=info.faulted,
    )
