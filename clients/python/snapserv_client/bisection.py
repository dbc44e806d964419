"""What a bisection has found: the first step at which something holds, and what was done there."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import BadRequestError
from .history import describe_action
from .protocol import Action


@dataclass(frozen=True)
class Bisection:
    """The first step of a node's past at which something holds.

    Attributes:
        node: Whose past it is.
        step: The step.
        returns: How often it was gone back to look.
        number: Which action the step's tick is part of, counted from 0; each time that one was repeated counts.
        action: That action: what was asked, with its inputs.
        parted: Where the simulation does not do the same thing twice, a step at which that shows: what was found is
            then of what was done again, and not of what was done.
    """

    node: str
    step: int
    returns: int
    number: int | None = None
    action: Action | None = None
    parted: int | None = None

    def __str__(self) -> str:
        lines = [f"{self.node} · step {self.step:,} is the first one · {self.returns} returns"]
        if self.action is not None:
            lines.append(
                f"in action {self.number:,}: {describe_action(self.action)}, from step {self.action.step:,} on"
            )
        if self.parted is not None:
            lines.append(
                f"the simulation does not do the same thing twice: what was done again differs at {self.parted:,}"
            )
        return "\n".join(lines)


def refuse_end(end: str, node: str, step: int) -> BadRequestError:
    """Return the error for an end of a search that is none."""
    says = "holds already" if end == "good" else "does not hold"
    hint = "begin further back" if end == "good" else "end further on; or look for the contrary, with ~ or not"
    return BadRequestError(
        f"it {says} at the {end} end, step {step:,} of {node}", hint=hint, details={"end": end, "step": step}
    )
