"""What was recorded at a node, as curves: columns by name, over steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .extras import need
from .plain import Array

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import xarray as xr

__all__ = ["Records", "side_by_side"]


class Series(Protocol):
    """Columns that were recorded at the same steps; see `snapserv_client.protocol.Series`."""

    steps: Array
    columns: dict[str, Array]


class Records(Mapping[str, Array]):
    """Columns by name: arrays whose first axis is `steps`.

    What was recorded at different ticks is put together by step: a column without a value at a step has NaN there,
    and is a column of floats then.

    Attributes:
        steps: The steps of the rows, growing; int64, shape (n,).
    """

    def __init__(self, steps: Array, columns: Mapping[str, Array]) -> None:
        self.steps = steps
        self._columns = dict(columns)

    @classmethod
    def of(cls, series: Sequence[Series]) -> Records:
        """Return what a server tells, put together by step."""
        if len(series) == 1:
            return cls(series[0].steps, series[0].columns)
        steps = np.unique(np.concatenate([np.empty(0, np.int64), *(each.steps for each in series)]))
        columns: dict[str, Array] = {}
        for each in series:
            at = np.searchsorted(steps, each.steps)
            for name, values in each.columns.items():
                columns[name] = _filled(columns.get(name), at, values, len(steps))
        return cls(steps, columns)

    def __getitem__(self, name: str) -> Array:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        if not len(self.steps):
            return "<records: none>"
        span = f"steps {self.steps[0]:,} to {self.steps[-1]:,}"
        return f"<records: {len(self.steps):,} rows, {span}: {', '.join(self._columns)}>"

    def to_pandas(self) -> pd.DataFrame:
        """Return a frame with the steps as its index; a column of arrays is a column for each of their elements.

        Raises:
            UnsupportedError: pandas is not installed.
        """
        need("pandas", "records")
        import pandas as pd

        return pd.DataFrame(dict(self.flat()), index=pd.Index(self.steps, name="step"))

    def to_xarray(self) -> xr.Dataset:
        """Return a dataset with the dimension ``step``; further axes of a column are dimensions called after it.

        Raises:
            UnsupportedError: xarray is not installed.
        """
        need("xarray", "xarray")
        import xarray as xr

        variables = {
            name: (["step", *(f"{name}_{axis}" for axis in range(values.ndim - 1))], values)
            for name, values in self._columns.items()
        }
        return xr.Dataset(variables, coords={"step": self.steps})

    def to_arrow(self) -> pa.Table:
        """Return a table of Arrow's, with a column ``step``.

        Raises:
            UnsupportedError: pyarrow is not installed.
        """
        need("pyarrow", "records")
        import pyarrow as pa

        return pa.table({"step": self.steps, **dict(self.flat())})

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Hand the table over by Arrow's PyCapsule interface: to polars, DuckDB, pandas and others.

        Source: https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html.
        """
        handed: object = self.to_arrow().__arrow_c_stream__(requested_schema)
        return handed

    def flat(self) -> Iterator[tuple[str, Array]]:
        """Yield columns of one number a step: a column of arrays is one for each of their elements."""
        for name, values in self._columns.items():
            if values.ndim == 1:
                yield name, values
                continue
            for index in np.ndindex(values.shape[1:]):
                yield f"{name}[{', '.join(map(str, index))}]", values[(slice(None), *index)]


def side_by_side(records: Mapping[str, Records], name: str) -> Records:
    """Return one column of several nodes as a column for each, by what they are called, put together by step."""
    series = [(label, each.steps, each[name]) for label, each in records.items()]
    steps = np.unique(np.concatenate([np.empty(0, np.int64), *(at for _, at, _ in series)]))
    columns = {label: _filled(None, np.searchsorted(steps, at), values, len(steps)) for label, at, values in series}
    return Records(steps, columns)


def _filled(there: Array | None, at: Array, values: Array, rows: int) -> Array:
    """Return values at some rows, over those that are there; NaN where there is none."""
    if there is None:
        if len(at) == rows:
            return values
        there = np.full((rows, *values.shape[1:]), np.nan)
    kind = np.result_type(there, values)
    made = there.astype(kind)
    made[at] = values
    return made
