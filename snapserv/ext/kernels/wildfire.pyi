from typing import Any

import numpy as np

UNBURNT: int
BURNING: int
BURNT: int
NO_FUEL: int
FIREBREAK: int
WET: int

def toss(key: int, counter: int) -> float: ...
def spread(
    state: np.ndarray[Any, Any],
    fuel: np.ndarray[Any, Any],
    elevation: np.ndarray[Any, Any],
    front: np.ndarray[Any, Any],
    at_top: bool,
    count: int,
    catches: np.ndarray[Any, Any],
    wind: np.ndarray[Any, Any],
    cell_m: float,
    slope_per_degree: float,
    key: int,
) -> tuple[int, int]: ...
def ignite(
    state: np.ndarray[Any, Any], front: np.ndarray[Any, Any], at_top: bool, count: int, row: int, col: int
) -> int: ...
def dig(state: np.ndarray[Any, Any], row0: int, col0: int, row1: int, col1: int) -> None: ...
def douse(state: np.ndarray[Any, Any], row: int, col: int, radius: int) -> None: ...
