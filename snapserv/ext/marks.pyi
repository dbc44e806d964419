from typing import Any

import numpy as np

def gather(ranges: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]: ...
def put_back(
    now: np.ndarray[Any, Any], kept: np.ndarray[Any, Any], content: np.ndarray[Any, Any], start: int, end: int
) -> tuple[int, int]: ...
