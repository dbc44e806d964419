"""What one browser sees, and has chosen to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import SnapservError
from ..protocol import FieldInfo, SpecResult
from .pictures import Gallery
from .planes import View, can_be_drawn, can_be_plotted, first_view, most_telling
from .session import Session


@dataclass
class Seen:
    """What one browser sees.

    Attributes:
        session: The server.
        gallery: Where pictures are put.
        choose: Chooses a node.
        fields: The field that was chosen last, by simulation.
        planes: The plane of each field that was chosen last, by simulation and field.
        typed: What was typed as inputs, by tree and input.
        run: What was typed about runs, by tree.
        columns: The columns of records that are drawn, by simulation; all of them where there are none.
        beside: Nodes whose records are drawn over those of the chosen one.
        held: The node that others are compared with.
        refresh_soon: Has the view of a node be drawn again, where something else is to be seen.
    """

    session: Session
    gallery: Gallery
    choose: Callable[[int], None]
    fields: dict[str, str] = field(default_factory=dict)
    planes: dict[tuple[str, str], View] = field(default_factory=dict)
    typed: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    run: dict[str, dict[str, str]] = field(default_factory=dict)
    columns: dict[str, set[str]] = field(default_factory=dict)
    beside: list[int] = field(default_factory=list)
    held: int | None = None
    refresh_soon: Callable[[], None] = lambda: None

    def field_of(self, spec: SpecResult) -> FieldInfo | None:
        """Return the field of a simulation that is shown; None where none can be."""
        chosen = self.fields.get(spec.simulation)
        for info in spec.fields:
            if info.name == chosen:
                return info
        return most_telling(spec.fields) or next(iter(filter(can_be_plotted, spec.fields)), None)

    def view_of(self, spec: SpecResult, info: FieldInfo) -> View:
        """Return the plane of a field that is shown."""
        return self.planes.get((spec.simulation, info.name)) or first_view(info)


def shown_fields(spec: SpecResult) -> list[str]:
    """Return the names of the fields that can be shown."""
    return [info.name for info in spec.fields if can_be_drawn(info) or can_be_plotted(info)]


def said_of(error: SnapservError) -> str:
    """Return an error on a line."""
    return f"{error.code}: {error.message}" + (f" → {error.hint}" if error.hint else "")
