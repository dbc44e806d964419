"""What can be sent, and what comes back: plain values and arrays, as type checkers see them.

What comes back is made a float by `number`, narrowed with ``isinstance``, or made a struct of yours:
``msgspec.convert(outputs, Weather)``. While programs run these are `typing.Any`: msgspec takes values as they come,
and numpy is loaded where there are arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]
    """An array whose dtype the simulation says, and no type."""
    Value: TypeAlias = "bool | int | float | str | bytes | Array | list[Value] | dict[str, Value] | None"
    """What comes back."""
    Sendable: TypeAlias = (
        bool | int | float | complex | str | bytes | np.generic | Array
        | Sequence["Sendable"] | Mapping[str, "Sendable"] | Mapping[int, "Sendable"] | None
    )  # fmt: skip
    """What can be sent."""
    InputValues: TypeAlias = Mapping[str, Sendable]
    """The inputs of a tick, by name."""
    Outputs: TypeAlias = dict[str, Value]
    """What a tick put out, by name."""
    MaybeArray: TypeAlias = Array | None
    Dtype: TypeAlias = str | list[Value]
    """A dtype as the wire has it: ``"<f4"``, or a list of fields."""
else:
    Array = Value = Sendable = InputValues = Outputs = MaybeArray = Dtype = Any

__all__ = ["Array", "Dtype", "InputValues", "MaybeArray", "Outputs", "Sendable", "Value"]
