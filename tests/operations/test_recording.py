"""A recording says what it is of, and is not done again to anything else, nor when it leads elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import Actions, Server, recordings
from snapserv_client.errors import BadRequestError, SnapservError, error_from_wire
from snapserv_client.protocol import Recording, StepAction

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]
COUNTER = """
    import os
    import numpy as np
    from snapserv import Field, Simulation
    __version__ = "{version}"
    class Counter(Simulation):
        count = Field("i8")
        table = Field("f8", shape=("size",))
        def setup(self, size: int = 4, seed: int = 0, scale: float = 1.0, data: str = "") -> None:
            self.table[:] = float(open(data).read()) if data else scale
        def step(self, inputs):
            self.count += {by}
"""


def written(folder: Path, name: str = "counter", *, version: str = "1.0", by: str = "1") -> str:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(COUNTER).format(version=version, by=by))
    return f"{path}:Counter"


def refused(server: Server, actions: Any, **options: Any) -> list[str]:
    nodes = len(server.tree().nodes)
    with pytest.raises(SnapservError) as caught:
        server.replay(actions, **options)
    assert caught.value.code == "recording_mismatch"
    assert "force" in caught.value.hint
    assert len(server.tree().nodes) == nodes, "nothing is left"
    differs: list[str] = caught.value.details["differs"]
    return differs


def test_a_recording_is_done_again_where_it_is_of_the_same(serve: Serve, tmp_path: Path) -> None:
    target = written(tmp_path / "a")
    with serve(target, params={"size": 5}).connect() as server:
        main = server.branch("main")
        main.step(3)
        main.write("table", np.arange(5.0))
        done = main.actions()
    assert done.recording is not None
    assert (done.recording.simulation, done.recording.version, done.recording.last_step) == ("Counter", "1.0", 3)
    assert done.recording.params == {"size": "5", "seed": "0", "scale": "1.0", "data": "''"}
    # The same code elsewhere on the disk.
    with serve(written(tmp_path / "b"), params={"size": 5}).connect() as server:
        assert server.replay(done).read("table").tolist() == [0, 1, 2, 3, 4]


def test_it_is_not_done_again_to_another_simulation(serve: Serve, tmp_path: Path) -> None:
    with serve(written(tmp_path / "a")).connect() as server:
        main = server.branch("main")
        main.step(3)
        done = main.actions()
    with serve(written(tmp_path / "b", version="1.1", by="2")).connect() as server:
        assert refused(server, done) == ["version", "source"]
        assert int(server.replay(done, force=True).read("count")) == 6
        assert int(server.replay(list(done)).read("count")) == 6, "a plain list does not know what it is of"
    with serve("tests.simulations.rewinding:LooksAhead").connect() as server:
        assert {"simulation", "source"} <= set(refused(server, done))


def test_it_is_not_done_again_with_other_parameters_or_data(serve: Serve, tmp_path: Path) -> None:
    target, data = written(tmp_path / "a"), tmp_path / "data"
    data.write_text("1.5")
    with serve(target, params={"data": str(data)}).connect() as server:
        main = server.branch("main")
        main.step(1)
        done = main.actions()
        other = server.create(params={"seed": 3, "size": 6, "data": str(data)}, name="other")
        root = server.snapshot("other/root")
        assert refused(server, done, start=root) == ["params.seed", "params.size"]
        assert other.info().step == 0
        data.write_text("2.5")
        server.create(params={"data": str(data)}, name="later")
        assert refused(server, done, start="later/root") == ["start.table"], "setup read something else"
        assert server.replay(done).info().step == 1


def test_it_is_not_done_again_from_another_start(serve: Serve, tmp_path: Path) -> None:
    with serve(written(tmp_path / "a")).connect() as server:
        main = server.branch("main")
        main.step(2)
        later = main.snapshot("later")
        main.write("table", 7.0)
        main.step(2)
        done = main.actions()
        assert refused(server, done, start=later) == ["step"]
        rest = server.replay(done[1:], start=later)
        assert rest.diff(main).same
        assert refused(server, done[1:]) == ["step"]
        assert server.replay(done[:1]).info().step == 2
        assert done[::2].recording is None, "what has gaps leads somewhere else"
        assert server.replay(done, start=later, force=True).info().step == 6


def test_where_it_leads_elsewhere_there_is_no_branch_unless_it_is_forced(serve: Serve, tmp_path: Path) -> None:
    target = written(tmp_path / "a", by="int.from_bytes(os.urandom(7))")
    with serve(target).connect() as server:
        main = server.branch("main")
        main.step(2)
        done = main.actions()
        assert refused(server, done) == ["end.count"]
        assert server.replay(done, force=True).info().step == 2
        assert server.replay(done[:1][:0]).info().step == 0, "nothing leads nowhere"


def test_a_simulation_of_a_notebook_is_told_by_its_methods() -> None:
    from snapserv import Simulation
    from snapserv.simulation.provenance import source_of, version_of

    def made(by: int) -> type[Simulation]:
        def step(self: Any, inputs: Any) -> dict[str, int]:
            return {"by": 1} if by == 1 else {"by": 2}

        def other(self: Any, inputs: Any) -> dict[str, int]:
            return {"by": 3}

        return type("Made", (Simulation,), {"step": step if by == 1 else other, "__module__": "nowhere"})

    assert source_of(made(1)) == source_of(made(1)) != source_of(made(2))
    assert version_of(made(1)) == ""


def test_a_file_loses_nothing(tmp_path: Path) -> None:
    inputs = {
        "wind": [1.5, float("inf"), -0.0],
        "large": np.arange(20_000.0).reshape(2, -1),
        "records": np.zeros(3, [("x", "f8"), ("n", "i4", (2,))]),
        "raw": b"\x00\xff",
        "big": 2**63,
        "nothing": None,
    }
    recording = Recording("Made", "1", "abc", {"size": "3"}, 2, {"f": "0"}, 5, {"f": "1"})
    path = tmp_path / "run.json"
    recordings.save(Actions("main", [StepAction(ticks=3, inputs=inputs, step=2, repeat=4)], recording), path)
    found = recordings.from_json(path.read_text(), "run.json")
    assert (found.node, found.recording) == ("main", recording)
    (action,) = found.items
    assert isinstance(action, StepAction)
    assert (action.ticks, action.step, action.repeat) == (3, 2, 4)
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            assert action.inputs[name].dtype == value.dtype
            assert np.array_equal(action.inputs[name], value)
        else:
            assert repr(action.inputs[name]) == repr(value)
    with pytest.raises(BadRequestError, match="keys"):
        recordings.to_json(Actions("main", [StepAction(ticks=1, inputs={"map": {1: 2}})]))


def test_the_code_is_known_to_clients() -> None:
    error = error_from_wire({"code": "recording_mismatch", "message": "no", "details": {"differs": ["step"]}})
    assert (type(error).__name__, error.fault) == ("RecordingMismatchError", "caller")
