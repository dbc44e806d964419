"""What stands for something on a server, and so cannot be copied as if it were that thing."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn, SupportsIndex

from .errors import BadRequestError


class Handle:
    """Base of what stands for something on a server: a copy would be a second name for the same thing.

    `copy` and `copy.deepcopy` are refused, with what to do instead, and `pickle` where a subclass knows no way.
    """

    another: ClassVar[str] = "connect again"
    """How to get another one."""
    elsewhere: ClassVar[str] = "connect there, by its endpoint"
    """How another process gets to it."""

    def __copy__(self) -> NoReturn:
        raise self._no("a copy of it would be the same one", self.another)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise self._no("a copy of it would be the same one", self.another)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        raise self._no("it cannot be pickled", self.elsewhere)

    def _no(self, why: str, hint: str) -> BadRequestError:
        return BadRequestError(f"a {type(self).__name__} stands for what is on a server: {why}", hint=hint)
