"""How folders would be branched here, tried out: ``python -m snapserv.folders.probe``, for ``snapserv doctor``."""

from __future__ import annotations

import os
import sys
import tempfile

import msgspec

from ..errors import SnapservError
from .store import bases
from .view import BETTER, HOW_VARIABLE, Folders


class Probed(msgspec.Struct):
    """How folders would be branched here: ``how`` is empty where they cannot be; what was met, and what to do."""

    how: str
    found: str
    improve: str = ""


def probe(how: str | None = None) -> Probed:
    """Try it out, in a process that is not needed afterwards: it is in namespaces of its own from then on."""
    with tempfile.TemporaryDirectory(prefix="snapserv-probe-") as folder:
        stores = [f"{base}/snapserv-probe-{os.getpid()}/store" for base in bases()]
        try:
            folders = Folders.mount([folder], stores, how=how)
        except SnapservError as error:
            return Probed("", error.message, error.hint)
        try:
            with open(f"{folder}/probe", "w") as file:
                file.write("x")
            return Probed(folders.how, folders.reason, BETTER if folders.how == "copies" else "")
        finally:
            folders.abolish()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(probe(os.environ.get(HOW_VARIABLE))))
