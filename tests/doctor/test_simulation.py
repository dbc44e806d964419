"""``snapserv doctor MODULE:CLASS``: what will not branch well is found, and named with its remedy."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snapserv.doctor.simulation import examine
from snapserv.errors import BadRequestError, NotFoundError, SimulationError

from ..conftest import ROOT

BAD = """
import ctypes, datetime, mmap, os, random, signal, socket, subprocess, threading, time
from snapserv import Field, Simulation

class Bad(Simulation):
    x = Field("f8")

    def setup(self, what: str = ""):
        match what:
            case "threads":
                threading.Thread(target=threading.Event().wait, name="pool-worker", daemon=True).start()
            case "files":
                self.log = open(os.path.dirname(__file__) + "/preflight.log", "a")
            case "reading":
                self.data = open(__file__)
            case "sockets":
                self.pair = socket.socketpair()
            case "pipes":
                self.pipe = os.pipe()
            case "clock":
                self.began = time.time()
            case "shared":
                self.memory = mmap.mmap(-1, 8192)
            case "sysv":
                libc = ctypes.CDLL(None)
                libc.shmat.restype = ctypes.c_void_p
                segment = libc.shmget(0, 4096, 0o1600)
                assert libc.shmat(segment, None, 0)
                libc.shmctl(segment, 0, None)
            case "timers":
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
                signal.setitimer(signal.ITIMER_REAL, 1000)
            case "children":
                self.child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL)

    def step(self, inputs):
        self.x += 1
        if getattr(self, "late", True):
            self.now = datetime.datetime.now()
"""


def found(tmp_path: Path, what: str) -> dict[str, Any]:
    (tmp_path / "bad.py").write_text(BAD)
    return {finding.what: finding for finding in examine(f"{tmp_path}/bad.py:Bad", {"what": what})}


@pytest.mark.parametrize(
    ("what", "finding", "words"),
    [
        ("threads", "threads", "pool-worker"),
        ("files", "files open for writing", "preflight.log"),
        ("sockets", "sockets and pipes", "socket"),
        ("pipes", "sockets and pipes", "pipe"),
        ("clock", "clocks and chance", "time.time (bad.py:"),
        ("sysv", "shared memory", "SysV"),
        ("timers", "timers", "ITIMER_REAL"),
    ],
)
def test_what_does_not_branch_is_found_and_the_rest_is_not(
    tmp_path: Path, what: str, finding: str, words: str
) -> None:
    all_of_them = found(tmp_path, what)
    assert words in all_of_them[finding].found
    assert all_of_them[finding].improve
    others = {name: each for name, each in all_of_them.items() if name not in (finding, "clocks and chance")}
    assert {each.verdict for each in others.values()} == {"ok"}
    Path(tmp_path / "preflight.log").unlink(missing_ok=True)


def test_reading_a_file_is_fine_and_a_tick_is_looked_at_too(tmp_path: Path) -> None:
    all_of_them = found(tmp_path, "reading")
    assert all_of_them["files open for writing"].verdict == "ok"
    assert "datetime.now" in all_of_them["clocks and chance"].found


def test_what_is_fit_to_branch_is_all_right() -> None:
    findings = examine("examples.counter:Counter", {})
    assert {finding.verdict for finding in findings} == {"ok"}


def test_mistakes_are_what_they_are_when_serving(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        examine("examples.counter:Nothing", {})
    with pytest.raises(BadRequestError):
        examine("examples.counter:Counter", {"nothing": 1})
    (tmp_path / "raises.py").write_text(
        "from snapserv import Simulation\nclass S(Simulation):\n  def setup(self): raise ValueError('no')\n"
        "  def step(self, inputs): pass\n"
    )
    with pytest.raises(SimulationError, match="no"):
        examine(f"{tmp_path}/raises.py:S", {})


def test_the_command_says_whether_it_branches(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    for what, status in (("threads", 1), ("pipes", 1), ("files", 0), ("shared", 0)):
        command = [
            sys.executable,
            "-m",
            "snapserv",
            "doctor",
            f"{tmp_path}/bad.py:Bad",
            "-p",
            f"what={what}",
            "--json",
        ]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert ran.returncode == status, ran.stderr
        assert json.loads(ran.stdout)["branches"] is (status == 0)


def test_a_tick_of_an_environment_is_tried_with_an_action_of_its_own() -> None:
    by = {finding.what: finding for finding in examine("gym:CartPole-v1", {})}
    assert by["a tick"].verdict == "ok"
    assert "{'action': " in by["a tick"].found


@pytest.mark.parametrize("draw", ["secrets.token_hex()", "uuid.uuid4()", "random.SystemRandom().random()"])
def test_chance_from_the_system_is_found_by_whatever_way_it_comes(tmp_path: Path, draw: str) -> None:
    (tmp_path / "chance.py").write_text(f"""
import random, secrets, uuid
from snapserv import Simulation

class Chance(Simulation):
    def step(self, inputs):
        return {{"drawn": str({draw})}}
""")
    by = {finding.what: finding for finding in examine(f"{tmp_path}/chance.py:Chance", {})}
    assert "os.urandom (chance.py:7)" in by["clocks and chance"].found


def test_who_reads_a_clock_or_draws_from_the_system_is_named_by_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "weather"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("""
import os, random, time
AT_IMPORT = os.urandom(8), random.Random(), time.time()

def forecast():
    return time.time() + random.Random().random() + len(os.urandom(8))
""")
    (tmp_path / "town.py").write_text("""
import tempfile
import weather
from snapserv import Simulation

class Town(Simulation):
    def step(self, inputs):
        tempfile.TemporaryFile().close()
        return {"forecast": weather.forecast()}
""")
    monkeypatch.syspath_prepend(installed.parent)
    found = {finding.what: finding for finding in examine(f"{tmp_path}/town.py:Town", {})}[
        "clocks and chance"
    ].found
    assert found == (
        "os.urandom (weather/__init__.py:6), random.seed without a seed (weather/__init__.py:6), "
        "time.time (weather/__init__.py:6)"
    )


def test_streams_that_a_simulator_sets_back_itself_are_found(tmp_path: Path) -> None:
    (tmp_path / "keyed.py").write_text("""
import numpy as np

class Keyed:
    def __init__(self, seed: int = 0):
        self.seed, self.tick, self.rng = seed, 0, np.random.default_rng(seed)

    def step(self):
        self.tick += 1
        self.rng.bit_generator.state = np.random.PCG64([self.seed, self.tick]).state
        return {"drawn": self.rng.random()}
""")
    by = {finding.what: finding for finding in examine(f"object:{tmp_path}/keyed.py:Keyed", {})}
    finding = by["random streams"]
    assert finding.verdict == "weak"
    assert "set back by what runs in a tick: Keyed.rng (Generator)" in finding.found
    assert "reseed(seed)" in finding.improve


def test_what_was_drawn_in_setup_from_nobodys_stream_is_listed_as_when_it_is_served(tmp_path: Path) -> None:
    (tmp_path / "shuffled.py").write_text("""
import random as chance

def deal(): return getattr(chance, "random")()

class Shuffled:
    def __init__(self):
        deal()

    def step(self):
        return {"card": deal()}
""")
    by = {finding.what: finding for finding in examine(f"object:{tmp_path}/shuffled.py:Shuffled", {})}
    assert by["random streams"].found == 'random; with rng="split" branches differ from tick 1 on'


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("object:tests.simulations.drawing:Holder", "Holder.own (Generator)"),
        ("object:tests.simulations.drawing:Holder", "branches differ from tick 1 on"),
        ("object:tests.simulations.clockwork:Clockwork", 'none found; with rng="split" two branches were the same'),
        ("gym:CartPole-v1", "CartPoleEnv._np_random (Generator)"),
    ],
)
def test_it_says_whether_another_random_stream_changes_anything(target: str, words: str) -> None:
    by = {finding.what: finding for finding in examine(target, {})}
    assert words in by["random streams"].found
    assert by["random streams"].verdict == "ok"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("Plain()", None),
        ("Ending()", None),
        ("tied(Plain())", None),
        ("tied(Ending())", "Ending.__del__"),
        ("[watched.add(each) or each for each in [tied(Plain())]]", "Plain behind a weak reference that tells"),
        ("[watched.add(each) or each for each in [Plain()]]", None),
    ],
)
def test_what_ends_by_the_collector_is_named_where_somebody_would_notice(
    tmp_path: Path, made: str, said: str | None
) -> None:
    (tmp_path / "ending.py").write_text(f"""
import weakref
from snapserv import Simulation

watched = weakref.WeakSet()

class Plain:
    pass

class Ending:
    def __del__(self):
        pass

def tied(each):
    each.other = [each]
    return each

class Ends(Simulation):
    def step(self, inputs):
        self.made = {made}
""")
    by = {finding.what: finding for finding in examine(f"{tmp_path}/ending.py:Ends", {})}
    finding = by["finalizers"]
    assert (finding.verdict, bool(finding.improve)) == (("ok", False) if said is None else ("weak", True))
    assert said is None or said in finding.found


NOISY = """
import os, sys, threading, time
from snapserv import Simulation, exported

class Noisy(Simulation):
    def setup(self, what: str = "", seed: int = 0):
        print("setup prints")
        os.write(1, b"and writes\\n")
        self.what, self.at = what, time.monotonic_ns() if what == "replay" else 0

    def step(self, inputs):
        print("and so does a tick")
        if self.what == "clones":
            return {"drawn": os.urandom(8)}
        return {"at": self.at, "drawn": int(self.rng.integers(1 << 30))}

    @exported
    def reset(self):
        if self.what == "reset":
            raise ValueError("not again")

    @exported
    def render(self):
        if self.what == "render":
            threading.Thread(target=threading.Event().wait, name="audio", daemon=True).start()
"""


@pytest.mark.parametrize(
    ("what", "finding", "verdict", "words"),
    [
        ("", "two clones", "ok", "the same for 8 ticks"),
        ("", "a replay", "ok", "the same for 8 ticks"),
        ("", "its reset", "ok", "ms"),
        ("clones", "two clones", "weak", "from tick 1 on"),
        ("replay", "two clones", "ok", "the same"),
        ("replay", "a replay", "weak", "from tick 1 on"),
        ("reset", "its reset", "weak", "ValueError: not again"),
        ("render", "threads", "missing", "audio"),
    ],
)
def test_it_is_played_cloned_and_set_up_anew(
    tmp_path: Path, what: str, finding: str, verdict: str, words: str
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    by = {each.what: each for each in examine(f"{tmp_path}/noisy.py:Noisy", {"what": what})}
    assert by[finding].verdict == verdict
    assert words in by[finding].found


@pytest.mark.parametrize("columns", ["80", "120"])
def test_what_it_prints_is_not_mixed_with_what_is_said_of_it(tmp_path: Path, columns: str) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    command = [sys.executable, "-m", "snapserv", "doctor", f"{tmp_path}/noisy.py:Noisy"]
    environment = {**os.environ, "COLUMNS": columns}
    as_json, for_people = (
        subprocess.run([*command, *more], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        for more in (["--json"], [])
    )
    assert json.loads(as_json.stdout)["branches"] is True
    assert "and writes" in as_json.stderr
    assert "prints" not in for_people.stdout
    assert all(len(line.rstrip()) <= int(columns) for line in for_people.stdout.splitlines())
    assert [line for line in for_people.stdout.splitlines() if line.startswith("✓ a tick")]
    entries = [line for line in for_people.stdout.splitlines() if not line.startswith("    ")]
    assert len(entries) == len(json.loads(as_json.stdout)["findings"]), "an entry a line"


WANTING = """
import threading

class Wanting:
    def step(self, rate: float):
        if rate > 1:
            threading.Thread(target=threading.Event().wait, name="late", daemon=True).start()
        if rate < 0:
            raise ValueError("no rate")
        return {"rate": rate}
"""


@pytest.mark.parametrize(
    ("given", "finding", "verdict", "words", "cure"),
    [
        ([], "a tick", "weak", "rate is missing", "with --input NAME=VALUE"),
        ([], "two clones", "ok", "no tick ran", ""),
        (["rate=1"], "a tick", "ok", "with {'rate': 1}", ""),
        (["rate=1"], "two clones", "ok", "for 8 ticks", ""),
        (["rate=1"], "a replay", "ok", "for 8 ticks", ""),
        (["rate=-1"], "a tick", "weak", "ValueError: no rate", "--input"),
        (["rate=2"], "threads", "missing", "late; 1 of them since the first tick", "must end before"),
    ],
)
def test_ticks_are_given_inputs(
    tmp_path: Path, given: list[str], finding: str, verdict: str, words: str, cure: str
) -> None:
    (tmp_path / "wanting.py").write_text(WANTING)
    command = [sys.executable, "-m", "snapserv", "doctor", f"object:{tmp_path}/wanting.py:Wanting", "--json"]
    ran = subprocess.run(
        [*command, *(f"--input={each}" for each in given)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == (verdict == "missing"), ran.stderr
    by = {each["what"]: each for each in json.loads(ran.stdout)["findings"]}
    assert by[finding]["verdict"] == verdict
    assert words in by[finding]["found"]
    assert cure in by[finding]["improve"]
    assert "example_inputs" not in ran.stdout, "which only a Simulation has"


def test_what_setup_alone_reads_is_the_same_in_all_branches(tmp_path: Path) -> None:
    (tmp_path / "dated.py").write_text("""
import time

class Dated:
    def __init__(self, seed: int | None = None):
        self.made = time.time() if seed is None else seed

    def step(self):
        return {"made": self.made}
""")
    by = {finding.what: finding for finding in examine(f"object:{tmp_path}/dated.py:Dated", {})}
    assert by["clocks and chance"].verdict == "ok"
    assert "in setup alone" in by["clocks and chance"].found
    assert "time.time (dated.py:6)" in by["clocks and chance"].found
    assert by["a replay"].verdict == "weak"
    assert "--param seed=1" in by["a replay"].improve
    assert {finding.verdict for finding in examine(f"object:{tmp_path}/dated.py:Dated", {"seed": 1})} == {"ok"}


STARTS = """
import subprocess
from snapserv import Simulation

class Starts(Simulation):
    def setup(self, fails: bool = False):
        self.own = subprocess.Popen(["sleep", "71"])
        self.far = subprocess.Popen(["setsid", "sh", "-c", "sleep 72 & sleep 73"])
        assert not fails

    def step(self, inputs):
        assert inputs is None
"""


@pytest.mark.parametrize("fails", [False, True])
def test_what_it_started_is_named_and_ended(tmp_path: Path, fails: bool) -> None:
    (tmp_path / "starts.py").write_text(STARTS)
    if fails:
        with pytest.raises(SimulationError, match=r"AssertionError at starts.py:9: assert not fails"):
            examine(f"{tmp_path}/starts.py:Starts", {"fails": True})
    else:
        by = {each.what: each for each in examine(f"{tmp_path}/starts.py:Starts", {})}
        assert "sleep (" in by["child processes"].found
        assert by["a tick"].found == "AssertionError at starts.py:12: assert inputs is None"
    assert not {b"71", b"72", b"73"} & set(_sleeping())


def _sleeping() -> Iterator[bytes]:
    """Yield for how long each process sleeps that does."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().split(b"\0")
            if command[0] == b"sleep":
                yield command[1]
