"""A simulation on its own: it runs without a server, describes itself, and tells its author of mistakes."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from snapserv import Field, Simulation, exported
from snapserv.errors import BadRequestError, NotFoundError, SimulationError


class Grid(Simulation):
    cells = Field("f4", shape=("rows", "cols", 2), units="K")
    later = Field("i2", shape=("made_in_setup",))
    single = Field("i8")

    class Inputs(msgspec.Struct):
        heat: float = 0.0

    def setup(self, rows: int = 3, cols: int = 4, label: str = "x") -> None:
        self.made_in_setup = rows + cols
        self.label = label

    def step(self, inputs: Inputs) -> None:
        self.cells += inputs.heat

    @exported
    def hottest(self, axis: int = 0) -> float:
        """Return the highest temperature."""
        return float(self.cells.max())


def test_a_simulation_runs_without_a_server() -> None:
    grid = Grid.build(rows=5, label="here")
    assert grid.cells.shape == (5, 4, 2)
    assert grid.later.shape == (9,)
    grid.step(Grid.Inputs(heat=1.5))
    grid.single = 4
    assert grid.hottest() == 1.5
    assert int(grid.single) == 4
    assert grid.rng.random() == np.random.default_rng(0).random()


def test_a_simulation_describes_itself() -> None:
    assert Grid.describe_params()["$defs"]["GridParams"]["properties"]["rows"] == {"type": "integer", "default": 3}
    assert [(method.name, method.signature) for method in Grid.describe_methods()] == [
        ("hottest", "(self, axis: 'int' = 0) -> 'float'")
    ]
    assert [(info.name, info.dtype, info.shape) for info in Grid.build().describe_fields()] == [
        ("cells", "<f4", [3, 4, 2]),
        ("later", "<i2", [7]),
        ("single", "<i8", []),
    ]


def test_axes_are_called_as_the_author_says_or_like_their_sizes() -> None:
    class Named(Simulation):
        said = Field("f4", shape=("rows", 2), dims=("y", "side"))
        sized = Field("f4", shape=("rows", 2, "rows"))
        inner = Field("(3,)f4", shape=("rows",), dims=("y", "axis"))
        inner_sized = Field("(3,)f4", shape=("rows",))
        nameless = Field("f4", shape=(2, 3))
        scalar = Field("f4")

        def setup(self, rows: int = 4) -> None: ...

    found = {info.name: (info.shape, info.dims) for info in Named.build().describe_fields()}
    assert found == {
        "said": ([4, 2], ["y", "side"]),
        "sized": ([4, 2, 4], ["rows", "", ""]),
        "inner": ([4, 3], ["y", "axis"]),
        "inner_sized": ([4, 3], ["rows", ""]),
        "nameless": ([2, 3], []),
        "scalar": ([], []),
    }


@pytest.mark.parametrize("dims", [("y",), ("y", "y"), ("y", ""), "yx", ("y", 1), ("y", "x", "z")])
def test_names_that_do_not_fit_the_axes_are_refused_where_they_are_written(dims: Any) -> None:
    with pytest.raises(TypeError, match="dims="):
        Field("f4", shape=(2, 3), dims=dims)


@pytest.mark.parametrize(
    ("params", "says"),
    [({"rows": "many"}, "rows"), ({"row": 3}, "did you mean 'rows'"), ({"rows": -1}, "negative size")],
)
def test_wrong_parameters_are_named(params: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        Grid.build(**params)


def test_authors_are_told_of_their_mistakes() -> None:
    class Unknown(Simulation):
        field = Field("f4", shape=("nowhere",))

    with pytest.raises(SimulationError, match="not known yet"):
        Unknown.build()
    with pytest.raises(TypeError, match="part of Simulation"):
        type("Clash", (Simulation,), {"rng": Field("f4")})
    with pytest.raises(NotFoundError, match="exports no method"):
        Grid.build().exported_method("setup")
    with pytest.raises(NotImplementedError):
        Unknown.__new__(Unknown).step(None)
