"""Where a cell's temporary files are: in a folder that no other node uses, found by Python's tempfile and by C.

Setup has one, and every branch gets another, as long as nothing is in it that the branch's clones would share.
What is in it then is branched as a named folder is (`snapserv.folders`), at the path that it has. Where nothing was
written, nothing of that is loaded, and nothing mounted. docs/decisions/0029-temporary-files-branch-too.md says why.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from ..ext import fork
from ..machine import locked_folders

OF_SETUP = "000000"
NAMED = "$TMPDIR"
"""How a simulation names the folder itself, to have it branched from the beginning."""


class Temporary:
    """The folder for temporary files that this process has now.

    Args:
        root: Where the folders of all nodes of this tree are.
        stores: Where layers of it may lie, as `snapserv.nodes.stacks.Stores.name` has them.
    """

    def __init__(self, root: str, stores: Sequence[str]) -> None:
        self.root = root
        self.name = OF_SETUP
        self.path = self._of_setup = f"{root}/{OF_SETUP}"
        self._stores = list(stores)

    @classmethod
    def found(cls, roots: Sequence[str], stores: Sequence[str]) -> Temporary | None:
        """Make the first folder of a tree where it can be made, and have it found; None if that is nowhere.

        Args:
            roots: Paths at which the folders of all nodes may be, the preferred first.
            stores: As above.
        """
        for root in roots:
            try:
                locked_folders.found(root)  # and never given up: it is locked while any cell lives
                os.mkdir(f"{root}/{OF_SETUP}", 0o700)
            except OSError:
                continue
            self = cls(root, stores)
            self._have_it_found(None)
            return self
        return None

    @property
    def stores(self) -> list[str]:
        """Where layers of this very folder may lie."""
        return [f"{store}-{self.name}" for store in self._stores]

    def move(self, name: str, *, fresh: bool, root: str) -> None:
        """Use another folder from now on, also where code has looked it up before.

        Args:
            name: Of the folder.
            fresh: Whether it is to be made; else it is there, and nothing is in it.
            root: Where the folders of all nodes are: elsewhere than before, if this process comes out of a store.

        Raises:
            OSError: The disk is full.
        """
        before, self.name, self.root = self.path, name, root
        self.path = f"{self.root}/{name}"
        if fresh:
            os.mkdir(self.path, 0o700)
        self._have_it_found(before)

    def strays(self) -> list[str]:
        """Return what has come into the folder of setup, by a path that was kept since then: all nodes share it."""
        if self.path == self._of_setup or not os.path.isdir(self._of_setup):
            return []
        return sorted(os.listdir(self._of_setup))

    def _have_it_found(self, before: str | None) -> None:
        if not fork.put_temporary(self.path):
            return  # the simulation has set TMPDIR otherwise
        # Not `os.environ[...] = `, which would give C a copy. Few pages are written here, since each is copied.
        told: Any = os.environ
        told._data[b"TMPDIR"] = os.fsencode(self.path)
        tempfile: Any = sys.modules.get("tempfile")
        if tempfile is not None and tempfile.tempdir is not None and before in (None, tempfile.tempdir):
            tempfile.tempdir = self.path
