"""The fields of a simulation, as its author declares them: numpy arrays in the arena, behind attributes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, SupportsInt, TypeVar, overload

import numpy as np
from snapserv_client.plain import Array

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import TypeVar as Defaulting  # which type checkers know, installed or not

    Scalar = Defaulting("Scalar", bound=np.generic, default=Any)
else:
    Scalar = TypeVar("Scalar", bound=np.generic)


class Holder(Protocol):
    """What has fields: a simulation."""

    _arrays: dict[str, Array]

    def _allocate(self, field: Field) -> Array: ...


class Field(Generic[Scalar]):
    """A numpy array of simulation state, in the arena, zero-filled before ``setup``.

    Args:
        dtype: Any numpy dtype without Python objects; structured ones work.
        shape: Sizes of the axes. A name is a parameter of ``setup``, or an attribute that ``setup`` sets before
            it first touches the field. ``()`` is a scalar field.
        dims: What the axes are called, for people and clients: one name for each axis, those of a dtype's subarray
            included. By default an axis is called like its size, where that is a name.
        units: Unit of the values, for people and clients.
        doc: What the values mean.

    Assigning to the attribute writes into the array: ``self.temperature = 300.0``. To type checkers a field of
    ``np.float32`` is an array of that, and one of ``"f4"`` an array; pyright wants fields that are assigned to
    declared: ``temperature: Field[np.float32] = Field(np.float32)``.
    """

    @overload
    def __init__(
        self,
        dtype: type[Scalar] | np.dtype[Scalar],
        shape: Sequence[int | str] = (),
        *,
        dims: Sequence[str] = (),
        units: str = "",
        doc: str = "",
    ) -> None: ...
    @overload
    def __init__(
        self,
        dtype: npt.DTypeLike,
        shape: Sequence[int | str] = (),
        *,
        dims: Sequence[str] = (),
        units: str = "",
        doc: str = "",
    ) -> None: ...
    def __init__(
        self,
        dtype: npt.DTypeLike,
        shape: Sequence[int | str] = (),
        *,
        dims: Sequence[str] = (),
        units: str = "",
        doc: str = "",
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = tuple(shape)
        self.dims = _names_of_axes(self.shape, len(self.dtype.shape), dims)
        self.units = units
        self.doc = doc
        self.name = ""
        body = sys._getframe(1)
        self.line = body.f_lineno
        if "__qualname__" in body.f_locals:
            nameless.setdefault((body.f_globals.get("__name__", ""), body.f_locals["__qualname__"]), []).append(
                self
            )

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        unnamed = nameless.get((owner.__module__, owner.__qualname__), [])
        unnamed[:] = [field for field in unnamed if field is not self]

    @overload
    def __get__(self, instance: None, owner: type) -> Field[Scalar]: ...
    @overload
    def __get__(self, instance: Holder, owner: type) -> npt.NDArray[Scalar]: ...
    def __get__(self, instance: Holder | None, owner: type) -> Field[Scalar] | npt.NDArray[Scalar]:
        if instance is None:
            return self
        array = instance._arrays.get(self.name)
        return instance._allocate(self) if array is None else array

    def __set__(self, instance: Holder, value: npt.ArrayLike) -> None:
        array = self.__get__(instance, type(instance))
        if value is not array:
            array[...] = value

    def resolve(self, sizes: Callable[[str], SupportsInt | None]) -> tuple[int, ...] | None:
        """Return the shape with its names replaced by ``sizes(name)``, or None while one is not known."""
        resolved = [sizes(size) if isinstance(size, str) else size for size in self.shape]
        known = tuple(int(size) for size in resolved if size is not None)
        return known if len(known) == len(resolved) else None


nameless: dict[tuple[str, str], list[Field]] = {}
"""Fields by the module and the class in whose body they were made, until they get their names there."""


def _names_of_axes(shape: tuple[int | str, ...], inner: int, given: Sequence[str]) -> tuple[str, ...]:
    """Return what the axes of a field are called: as its author says, or like their sizes.

    Raises:
        TypeError: The author's names are not one for each axis.
    """
    if given:
        axes = len(shape) + inner
        if isinstance(given, str) or not all(isinstance(name, str) and name for name in given):
            raise misnamed(f"dims={given!r} of a field: a sequence of names is wanted")
        if len(given) != axes or len(set(given)) != axes:
            raise misnamed(f"dims={given!r} of a field: {axes} names that differ are wanted, one for each axis")
        return tuple(given)
    names = [size if isinstance(size, str) and size not in shape[:axis] else "" for axis, size in enumerate(shape)]
    return tuple(names + [""] * inner) if any(names) else ()


def misnamed(message: str) -> TypeError:
    """Return the error for what an author has to call otherwise."""
    error = TypeError(message)
    error.add_note("call it otherwise")
    return error
