"""What is there for as long as a cell is: kept from being written to by those who only use it.

Whoever uses an object counts it, and so writes to the page that it lies on; a branch copies that page, though
nothing on it changed. Python 3.12 made None and its like immortal, which are not counted (PEP 683). So are here, on
3.12 and 3.13: all that was there before the author's module, and later the code of modules, whoever's. What a
simulation makes is counted and freed as ever.

The interpreter also writes to the code that it runs, as it learns what to specialize. The functions on the way of a
step and of a snapshot lie all over the heap, between others that are not run; so their code is gathered on a few
pages.
"""

from __future__ import annotations

import gc
import os
import sys
from types import FunctionType
from typing import Any

from snapserv_client import wire

from ..ext import reach
from ..memory.rebasing import Rebaser
from ..simulation import inputs, leaving
from ..simulation.base import Simulation
from ..simulation.blame import AuthorsCode
from ..simulation.fields import Field
from . import link, rollout, threads
from .files import Files
from .history import History, Trail
from .holdings import Holdings
from .loop import Cell
from .records import Records
from .scoreboard import Scoreboard
from .ticks import Ticks

VARIABLE = "SNAPSERV_IMMORTAL"
"""``off`` has everything counted, and code lie where it was loaded."""

RUN: dict[Any, str] = {
    Cell: "run _run_ticks _reply _freeze _tell_of_snapshot _refuse_what_cannot_be_cloned",
    Ticks: "run _first_tick",
    Records: "watch",
    link.CellEnd: "send next_request receive _receive fileno",
    link: "encode decode",
    wire: "pack unpack _refuse_hollow",
    inputs.EachTick: "__init__ _made take",
    inputs: "fresh",
    Simulation: "convert_inputs on_snapshot",
    Field: "__get__",
    History: "add pack",
    Trail: "add",
    Scoreboard: "__setitem__",
    Rebaser: "suspect cloned",
    Holdings: "refuse look",
    Files: "unknown",
    AuthorsCode: "__init__ __enter__ __exit__",
    leaving: "flush flush_all",
    rollout: "refuse_finished",
    threads: "refuse_threads",
}
"""By what has them, the functions of ours that every step and snapshot runs."""


def keep_what_is_there() -> None:
    """Keep every object that there is: called before anything of the author's is loaded."""
    if _wanted():
        reach.keep_all(gc.get_objects())


def keep_code() -> None:
    """Keep the functions, types and constants of all modules, and no data: called when setup has run."""
    if _wanted():
        reach.keep_code(list(sys.modules.values()))


def gather_code() -> None:
    """Have the code of what every step and snapshot runs lie side by side."""
    if _wanted():
        reach.gather_code(run_each_time())


def run_each_time() -> list[FunctionType]:
    """Return the functions that `RUN` names; not those that somebody has put something else in the place of."""
    found = [getattr(of, name) for of, names in RUN.items() for name in names.split()]
    functions = [getattr(each, "__func__", each) for each in found]
    return [each for each in functions if type(each) is FunctionType]


def _wanted() -> bool:
    return os.environ.get(VARIABLE) != "off"
