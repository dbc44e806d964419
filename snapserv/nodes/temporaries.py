"""The folders for temporary files of one tree's nodes, seen from the server; see `snapserv.cell.temporary`.

Plain books: a folder in which nothing was written is used again, all others are removed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from ..ext import fork
from ..machine.locked_folders import LOCK, make_shared, share
from .stacks import Stores


class Temporaries:
    """Who uses which of a tree's folders.

    Args:
        stores: Removes what is left.
        described: What the master said: ``root``, and whether branches are ``parted`` by having one each.
        held: A descriptor that shares the lock of all of them; it is closed when the last owner has let go.
    """

    def __init__(self, stores: Stores, described: Mapping[str, Any], *, held: int | None = None) -> None:
        self._stores = stores
        self._root: str = described["root"]
        self._parted: bool = described["parted"]
        self._owners: dict[object, str | None] = {}
        self._free: list[str] = []
        self._last = 0
        self._held = held
        stores.guard(self._root)

    def hold(self, owner: object, name: str | None = None) -> None:
        """Take note of a cell, and which folder is its own, if it has one."""
        self._owners[owner] = name

    def take(self, branch: object, *, parted: bool) -> dict[str, Any] | None:
        """Return what to tell a branch that is about to be made; None where it keeps the folder that it knows.

        Args:
            branch: Whose folder it is to be.
            parted: Whether it needs one of its own: it has no layers of the one that it knows.
        """
        if not (parted and self._parted):
            self.hold(branch)
            return None
        fresh = not self._free
        if fresh:
            self._last += 1
        name = f"{self._last:06x}" if fresh else self._free.pop()
        self.hold(branch, name)
        return {"name": name, "fresh": fresh, "root": self._root}

    def keep(self, owner: object) -> None:
        """Have the folders stay for an owner that is no cell: nodes that lie in a store will need them."""
        self.hold(owner)
        if self._held is None:
            self._held = share(self._root)

    def present(self) -> str:
        """Have the folders be there, where no cell has held them; return the file that all cells have mapped."""
        if not os.path.isdir(self._root):
            _, self._held = make_shared([self._root])
        return f"{self._root}/{LOCK}"

    def layered(self, branch: object) -> str:
        """Take note that a branch's folder is branched from now on; return its path, for who removes it then."""
        name = self._owners[branch]
        self._owners[branch] = None
        return f"{self._root}/{name}"

    def release(self, owner: object) -> None:
        """Let go of what a cell has used, and with the last cell of all of them."""
        if owner not in self._owners:
            return
        name = self._owners.pop(owner)
        if not self._owners:
            if self._held is not None:
                os.close(self._held)
                self._held = None
            self._stores.remove([self._root])
        elif name is not None:
            path = f"{self._root}/{name}"
            try:
                empty = fork.is_empty(path)
            except OSError:
                return  # it is gone, or was never made
            if empty:
                self._free.append(name)
            else:
                self._stores.remove([path])

    def avoid_names(self) -> None:
        """Give no folder a name that one on the disk has."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._root):
                with contextlib.suppress(ValueError):
                    self._last = max(self._last, int(name, 16))
