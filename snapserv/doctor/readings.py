"""Who reads clocks or the system's chance, and where: what is computed from them differs in every branch."""

from __future__ import annotations

import os
import random
import sys
import sysconfig
import time
from pathlib import Path
from types import BuiltinFunctionType, FrameType
from typing import Any

from ..simulation.packages import package_of
from .machine import Finding

WHAT = "clocks and chance"
OWN_CURE = "count ticks, and draw from self.rng; "
MOST_PLACES = 3
CLOCKS = {
    time.time: "time.time",
    time.time_ns: "time.time_ns",
    time.monotonic: "time.monotonic",
    time.monotonic_ns: "time.monotonic_ns",
    time.perf_counter: "time.perf_counter",
    time.perf_counter_ns: "time.perf_counter_ns",
}
CHANCE = {os.urandom: "os.urandom", os.getrandom: "os.getrandom"}
METHODS = {
    ("datetime", "now"): "datetime.now",
    ("datetime", "utcnow"): "datetime.utcnow",
    ("date", "today"): "today",
}
SEEDING = random.Random.seed.__code__
OWN = str(Path(__file__).parents[1])
LIBRARY = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})


class Readings:
    """Notices who reads them while it is entered (sys.setprofile); calls from Python code only.

    A clock is told of whoever calls it. Chance from the system is told of whoever is the first outside of Python's
    library, which draws it for others: `secrets`, `uuid`, or a generator that was given no seed. What a module does
    while it is imported is not told.
    """

    def __init__(self) -> None:
        self._places: dict[str, set[str]] = {}
        self._in_setup: dict[str, set[str]] = {}

    def __enter__(self) -> None:
        sys.setprofile(self._on_event)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def end_setup(self) -> None:
        """Take note that what is read from here on is read by ticks."""
        self._in_setup, self._places = self._places, {}

    def finding(self, *, theirs: bool) -> Finding:
        """Return what was noticed.

        Args:
            theirs: Whether the simulator knows nothing of snapserv, and so has no ``self.rng``.
        """
        in_setup = f"in setup alone, and so the same in all branches: {_said(self._in_setup)}"
        if not self._places:
            return Finding(WHAT, "ok", in_setup if self._in_setup else "no reading seen in setup and a tick")
        cure = "where a package reads them, give it its seed or its time"
        return Finding(
            WHAT,
            "weak",
            "; ".join([_said(self._places), *([f"in setup: {_said(self._in_setup)}"] if self._in_setup else [])]),
            f"what is computed from them differs in every branch: {'' if theirs else OWN_CURE}{cure}",
        )

    def _on_event(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            if frame.f_code is SEEDING and frame.f_locals.get("a") is None:
                self._note("random.seed without a seed", _asker(frame))
        elif event == "c_call" and type(called) is BuiltinFunctionType:  # others may raise whatever they are asked
            if called in CHANCE:
                self._note(CHANCE[called], _asker(frame))
                return
            name = CLOCKS.get(called) or METHODS.get((getattr(called.__self__, "__name__", ""), called.__name__))
            if name is not None and not _of_library(frame) and not _is_import(frame):
                self._note(name, frame)

    def _note(self, name: str, frame: FrameType | None) -> None:
        if frame is None or frame.f_code.co_filename.startswith((OWN, "<frozen")):
            return
        path = frame.f_code.co_filename
        package = package_of(path)
        place = f"{Path(path).name}:{frame.f_lineno}"
        self._places.setdefault(name, set()).add(f"{package}/{place}" if package else place)


def _said(places: dict[str, set[str]]) -> str:
    return ", ".join(f"{name} ({', '.join(sorted(where)[:MOST_PLACES])})" for name, where in sorted(places.items()))


def _of_library(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path.startswith((*LIBRARY, "<frozen")) and not package_of(path)


def _asker(frame: FrameType | None) -> FrameType | None:
    """Return who is the first outside of Python's library; None where it is an import, or wants a file's name."""
    if frame is None or _is_import(frame):
        return None
    while frame is not None and _of_library(frame):
        if Path(frame.f_code.co_filename).name == "tempfile.py":
            return None  # names of files, which nothing is computed from
        frame = frame.f_back
    return frame


def _is_import(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
