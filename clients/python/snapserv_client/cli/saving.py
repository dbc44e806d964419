"""Files that commands write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BadRequestError


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Name the file in what goes wrong with it.

    Raises:
        BadRequestError: It cannot be written.
    """
    try:
        yield
    except OSError as cause:
        raise BadRequestError(
            f"cannot write {path}: {cause.strerror or cause}", hint="choose another file"
        ) from cause
