"""Another random stream reaches every stream that there is, where it is; and where there is none, that is said."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snapserv_client import local
from snapserv_client.errors import SnapservWarning

from snapserv.adapters.object import adapt
from snapserv.simulation.base import Simulation
from snapserv.simulation.compiled import Compiled
from snapserv.simulation.reseeding import Streams

from ..conftest import ROOT, ServerProcess

Serve = Callable[..., ServerProcess]


def built(name: str) -> Any:
    """Return a simulation as it is at the end of a master's setup.

    Its module goes by a name of its own: as a part of the package ``tests`` it would own what all other tests hold.
    """
    folder = str(ROOT / "tests" / "simulations")
    if folder not in sys.path:
        sys.path.append(folder)
    simulation = adapt(f"drawing:{name}").build()
    simulation.find_streams()
    return simulation


def drawn(simulation: Any) -> dict[str, Any]:
    """Return what a tick puts out."""
    outputs: dict[str, Any] = simulation.step(simulation.Inputs())
    return outputs


def in_a_process_of_its_own(code: str) -> Any:
    """Return what some code prints, as JSON; it may use what stands above."""
    command = f"import json\nfrom {__name__} import built, drawn\n{textwrap.dedent(code)}"
    ended = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)


def test_a_seed_reaches_a_stream_wherever_it_hangs_and_everybody_who_was_handed_it() -> None:
    """In a process of its own, as a master is one: what other tests hold would be the simulation's here."""
    names, missed, one, again, other = in_a_process_of_its_own(
        """
        first, second, third = built("Holder"), built("Holder"), built("Holder")
        names, missed = first.begin_branch(7)
        one = drawn(first)  # before the next is seeded: they share the streams of a module and of a class
        second.begin_branch(7)
        again = drawn(second)
        third.begin_branch(8)
        print(json.dumps([names, missed, one, again, drawn(third)]))
        """
    )
    assert again == one, "the same seed gives the same"
    assert [name for name in one if one[name] == other[name]] == []
    assert missed == []
    assert {"Holder.own (Generator)", "Holder.old (RandomState)", "Holder.listed (Random) × 3"} <= set(names)
    assert {
        "Slotted.stream (Generator) × 2",
        "Holder.bound (Generator)",
        "drawing.GLOBAL (Generator)",
    } <= set(names)
    assert not any("System" in name for name in names)


def test_no_two_streams_are_given_the_same_numbers() -> None:
    holder = built("Holder")
    holder.begin_branch(7)
    found = [holder.model.own, holder.model.slotted.stream, holder.model.array[0].stream, holder.model.philox]
    assert len({float(stream.random()) for stream in found}) == len(found)
    assert len({each["deep"][0].random() for each in holder.model.listed}) == 3


def test_without_a_seed_every_stream_goes_on() -> None:
    first, second = built("Holder"), built("Holder")
    first.begin_branch(3)
    assert first.begin_branch(None) == ([], [])
    expected = drawn(first)
    second.begin_branch(3)
    assert drawn(second) == expected


class Alias(Simulation):
    """Hands its generator on."""

    def setup(self, seed: int = 0) -> None:
        """Keep it."""
        self.held = [self.rng]

    def step(self, inputs: Any) -> dict[str, float]:
        """Draw from what was handed on."""
        return {"drawn": float(self.held[0].random())}


def test_the_simulations_own_generator_is_reseeded_in_place_and_begins_as_the_seed_says() -> None:
    simulation = Alias.build()
    own = simulation.rng
    simulation.find_streams()
    names, _ = simulation.begin_branch(42)
    assert simulation.rng is own
    assert simulation.held[0] is own
    assert names[0] == "Alias.rng (Generator)"
    assert simulation.step(None)["drawn"] == np.random.default_rng(42).random()


def test_what_was_let_go_is_forgotten() -> None:
    holder = built("Holder")
    found: Streams = holder._streams
    before = len(found._found)
    holder.model.listed.clear()
    holder.find_streams()
    assert len(found._found) == before - 3


class Stubborn(random.Random):
    """Cannot be seeded."""

    def seed(self, *args: Any, **kwargs: Any) -> None:
        """Refuse, but for the first time."""
        if hasattr(self, "made"):
            raise RuntimeError("no")
        self.made = True


def test_a_stream_that_refuses_is_named_and_the_others_are_reseeded() -> None:
    holder = built("Holder")
    holder.model.stubborn = Stubborn()
    holder.find_streams()
    names, missed = holder.begin_branch(7)
    # By its whole name, unless so many streams are loaded beside it that only some have names.
    assert missed in (["Holder.stubborn (Stubborn): RuntimeError: no"], ["Stubborn: RuntimeError: no"])
    assert "Holder.own (Generator)" in names


def test_what_lies_beyond_the_nearest_objects_is_said_to_be_missed() -> None:
    holder = built("Holder")
    holder.find_streams(10)
    assert "beyond the nearest" in holder.begin_branch(7)[1][0]


def test_split_branches_of_an_object_with_its_own_streams_have_as_many_futures(serve: Serve) -> None:
    with serve("object:tests.simulations.drawing:Holder").connect() as server:
        main = server.branch("main")
        main.step(2)
        before = main.snapshot()
        for outcomes in (before.expand([{}] * 12, rng="split"), before.expand([{}] * 3, rng="split")):
            for name in outcomes[0].outputs:
                assert len({outcome.outputs[name] for outcome in outcomes}) == len(outcomes), name
        assert len({repr(outcome.outputs) for outcome in before.expand([{}] * 12)}) == 1
        branch = before.branch(rng="split")
        assert "Holder.own (Generator)" in branch.reseeded
        assert before.branch().reseeded == []
        branch.restore(before, rng="split")
        assert "Holder.own (Generator)" in branch.reseeded
        branch.step(3)
        assert branch.verify().ok


def test_a_stream_that_a_tick_has_made_is_reseeded(serve: Serve) -> None:
    with serve("object:tests.simulations.drawing:Late").connect() as server:
        main = server.branch("main")
        main.step(2)
        futures = [branch.step().outputs["drawn"] for branch in main.branch(3, rng="split")]
        assert len(set(futures)) == 3
        (branch,) = main.branch(1, rng="split")
        main.restore(main.snapshot(), rng="split")
        branch.step(3)
        assert branch.verify().ok


def test_the_stream_of_the_c_library_is_seeded_where_it_is_drawn_from(serve: Serve) -> None:
    with serve("object:tests.simulations.drawing:OfTheLibrary").connect() as server:
        main = server.branch("main")
        assert len({branch.step().outputs["drawn"] for branch in main.branch(3, rng="split")}) == 3


def test_where_nothing_is_reseeded_the_reply_and_the_log_say_so(serve: Serve) -> None:
    process = serve("object:tests.simulations.clockwork:Clockwork")
    with process.connect() as server:
        main = server.branch("main")
        before = main.snapshot()
        before.branch()
        before.expand([{}])
        for ask in (
            lambda: before.branch(rng="split"),
            lambda: main.restore(before, rng=3),
            lambda: main.reset(rng="split"),
            lambda: before.expand([{}] * 12, rng="split"),
            lambda: before.expand([{}], rng="split"),
        ):
            with pytest.warns(SnapservWarning, match="rng_unchanged") as told:
                ask()
            assert len(told) == 1
    assert process.log.read_text().count("rng_unchanged") == 5


def test_hooks_of_an_object_are_called_as_a_simulations_are(serve: Serve, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    target = "object:tests.simulations.drawing:Told"
    with serve(target, params={"journal": str(journal)}).connect() as server:
        main = server.branch("main")
        assert main.step().outputs == {"mine": True, "seeds": [None]}
        before = main.snapshot()
        assert journal.read_text().split() == ["snapshot"]
        branch = before.branch(rng=9)
        assert branch.step().outputs == {"mine": True, "seeds": [None, 9]}
        branch.drop()
        assert journal.read_text().split() == ["snapshot", "drop"]


def test_an_object_that_answers_for_its_class_itself_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "shy.py").write_text("""
import asyncio, weakref
import numpy as np

class Shy:
    def __init__(self):
        object.__setattr__(self, "rng", np.random.default_rng(1))

    def __getattribute__(self, name):
        raise RuntimeError(f"{name} is not to be had")

class Gone: pass

SHY, LATE = Shy(), weakref.proxy(Gone())

class Holder:
    def __init__(self):
        self.shy, self.late = SHY, LATE
        self.loop = asyncio.new_event_loop()

    def step(self):
        return {"drawn": float(object.__getattribute__(self.shy, "rng").random())}
""")
    with local(f"object:{tmp_path}/shy.py:Holder") as server:
        snapshot = server.branch("main").snapshot()
        one, other = (snapshot.branch(rng="split") for _ in range(2))
        assert one.reseeded == ["Shy.rng (Generator)"]
        assert one.step().outputs != other.step().outputs


def test_what_numba_compiles_draws_from_a_stream_that_is_seeded_where_it_is_drawn_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = {1: random.Random(5), 2: random.Random(6)}
    helpers = types.ModuleType("numba._helperlib")
    vars(helpers).update(
        rnd_get_py_state_ptr=lambda: 1,
        rnd_get_np_state_ptr=lambda: 2,
        rnd_get_state=lambda pointer: states[pointer].getstate(),
        rnd_seed=lambda pointer, seed: states[pointer].seed(seed),
    )
    monkeypatch.setitem(sys.modules, helpers.__name__, helpers)
    compiled = Compiled()
    assert not compiled.reseed(7)
    first = states[2].random()
    assert compiled.reseed(7)
    assert states[2].random() == first
    compiled.reseed(8)
    assert states[2].random() != first
    monkeypatch.delitem(sys.modules, helpers.__name__)
    assert not Compiled().reseed(7)
