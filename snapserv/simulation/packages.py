"""Which installed package a file belongs to, so that what it does can be told by a name that its user knows."""

from __future__ import annotations

from pathlib import PurePath

INSTALLED = ("site-packages", "dist-packages")


def package_of(path: str) -> str:
    """Return the name of the installed package that a file is of; "" where it is of none.

    Libraries that a wheel brings along are of the package that they stand beside: ``numpy.libs`` of numpy.
    """
    parts = PurePath(path).parts
    for place, part in enumerate(parts[:-1]):
        if part in INSTALLED:
            return parts[place + 1].split(".")[0]
    return ""
