from typing import Any

import numpy as np

def react(
    u: np.ndarray[Any, Any],
    v: np.ndarray[Any, Any],
    aside: np.ndarray[Any, Any],
    diffusion_u: float,
    diffusion_v: float,
    feed: float,
    kill: float,
) -> None: ...
