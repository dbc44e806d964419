from collections.abc import Callable, Iterable
from typing import Any

def reach(
    roots: list[Any],
    wanted: tuple[type, ...],
    array: type,
    enters: Callable[[type], bool],
    skip: Iterable[object] = ...,
    most: int = ...,
) -> tuple[list[tuple[Any, list[Any]]], bool]: ...
def c_state() -> bytes: ...
def seed_c(seed: int) -> None: ...
