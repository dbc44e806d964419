"""The random streams of what numba compiles: a ``random`` and a ``numpy.random`` that Python does not see.

numba seeds them from the system when it is imported. They belong to a thread, of which a simulation has one.
"""

from __future__ import annotations

import sys
from typing import Any

HELPERS = "numba._helperlib"


class Compiled:
    """Where they stood, for `reseed` to tell whether anybody draws from them."""

    __slots__ = ("_drawn", "_stood")

    def __init__(self) -> None:
        self._stood = _stand()
        self._drawn = False

    def reseed(self, seed: int) -> bool:
        """Seed them, where numba is loaded; return whether anybody has drawn from them yet."""
        stands = _stand()
        self._drawn = self._drawn or (self._stood is not None and stands != self._stood)
        if stands is not None:
            helpers: Any = sys.modules[HELPERS]
            for pointer in _pointers(helpers):
                helpers.rnd_seed(pointer, (seed ^ seed >> 32) & 0xFFFF_FFFF)
            self._stood = _stand()
        return self._drawn


def _pointers(helpers: Any) -> tuple[int, int]:
    return helpers.rnd_get_py_state_ptr(), helpers.rnd_get_np_state_ptr()


def _stand() -> Any:
    """Return where they stand; None without numba, or with one that keeps them elsewhere."""
    helpers: Any = sys.modules.get(HELPERS)
    if helpers is None:
        return None
    try:
        return [helpers.rnd_get_state(pointer) for pointer in _pointers(helpers)]
    except AttributeError:
        return None
