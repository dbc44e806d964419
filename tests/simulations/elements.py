"""Simulations of every kind of element: fields of each dtype, and outputs of each kind of scalar."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported

RECORD = np.dtype([("where", "<f4", (3,)), ("tag", "S2"), ("inner", [("a", ">i2"), ("b", "<c8")])], align=True)
DTYPES = {
    "flags": "?",
    "small": "i1",
    "counts": "i8",
    "naturals": "u8",
    "swapped": ">i4",
    "halves": "f2",
    "singles": "f4",
    "doubles": "f8",
    "longs": "longdouble",
    "waves": "c8",
    "bytes_": "S3",
    "texts": "U3",
    "raws": "V4",
    "moments": "M8[ns]",
    "days": "M8[D]",
    "spans": "m8[s]",
    "records": RECORD,
}


class Elements(Simulation):
    """Has a field of each dtype, of two by three elements, and puts out a scalar of each."""

    vectors = Field(np.dtype(("i2", (3,))), shape=(1365,))
    after = Field("i8", shape=(4,))
    nested = Field(np.dtype([("m", [("v", "<i4", (2,))], (2,))]), shape=(2,))

    def setup(self) -> None:
        self.vectors[:] = np.arange(1365 * 3).reshape(1365, 3)
        self.after[:] = 7

    def step(self, inputs: Any) -> dict[str, Any]:
        self.vectors[0, 0] += 1
        return {name: getattr(self, name)[1, 2] for name in DTYPES}

    @exported
    def echo(self, value: Any) -> Any:
        """Return what was given."""
        return value


for _name, _dtype in DTYPES.items():
    _field = Field(_dtype, shape=(2, 3))
    _field.__set_name__(Elements, _name)
    setattr(Elements, _name, _field)
    Elements.fields[_name] = _field


class Choosing(Simulation):
    """Has a policy whose inputs are no plain numbers."""

    total = Field("c16")

    class Inputs(msgspec.Struct):
        by: Any = 0

    def step(self, inputs: Inputs) -> dict[str, Any]:
        self.total += inputs.by
        return {"total": self.total[()]}

    @exported
    def choose(self) -> dict[str, Any]:
        """Return inputs."""
        return {"by": 1 + 2j}
