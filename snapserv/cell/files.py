"""What a cell has in folders: those that it branches by name, and the one for its temporary files.

The latter is branched like a named one as soon as a clone would share what is in it: at the end of setup, or before
the first snapshot of a branch that has written there. Until then there is no view of it, and nothing of
`snapserv.folders` is loaded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import BadRequestError, OverBudgetError, UnsupportedError
from ..ext import fork
from .holdings import Held, refusal
from .link import plain
from .temporary import NAMED, Temporary
from .threads import refuse_threads

if TYPE_CHECKING:
    from ..folders.view import Folders

MOST_NAMED = 3


class Files:
    """The folders of this process. Made in the master before anything else, inherited by its branches.

    Args:
        roots: Paths at which the folders for temporary files may be.
        stores: Paths at which layers may lie.

    ``branched`` is whether folders are, so that a snapshot is prepared by `prepare`.
    """

    def __init__(self, roots: Sequence[str], stores: Sequence[str]) -> None:
        self.temporary = Temporary.found(roots, stores)
        self._shared = False
        self._stores = stores
        self._folders: Folders | None = None
        self.branched = False

    def begin_setup(self, named: Sequence[str], *, shared: bool) -> None:
        """Branch the folders that the simulation or the server names, and with them that for temporary files.

        Args:
            named: Their paths, or `NAMED`.
            shared: Whether nodes are meant to share their temporary files.

        Raises:
            SnapservError: One cannot be branched; see `snapserv.folders.view.Folders.mount`.
        """
        self._shared = shared
        temporary = self.temporary.path if self.temporary is not None and not shared else None
        paths = [name for name in named if name != NAMED or temporary is None]
        if named and temporary is not None and not _inside(temporary, [os.path.realpath(path) for path in paths]):
            paths.append(temporary)
        if paths:
            self._folders = _branch(paths, self._stores)
            self.branched = True

    def finish_setup(self) -> None:
        """Branch the folder for temporary files, if something is in it.

        Raises:
            NotBranchableError: Something is, and no views can be had here.
        """
        if self._folders is None and self._is_used():
            self._branch_temporary(self._stores)

    def describe(self) -> dict[str, Any]:
        """Return what the server is told when setup has returned: what is branched, and what is not yet."""
        temporary, folders = self.temporary, self._folders
        return {
            "folders": folders.describe() if folders is not None else None,
            "temporary": {"root": temporary.root, "parted": self._parted} if temporary is not None else None,
        }

    def note(self) -> None:
        """Take down which files of branched folders are open: the last thing before the master is cloned."""
        if self._folders is not None:
            self._folders.note()

    def abolish(self) -> None:
        """Take all of it away again, by the process that made it, which has no clones."""
        from ..folders import layers

        if self._folders is not None:
            self._folders.abolish()
        if self.temporary is not None:
            layers.remove(self.temporary.root)
            with contextlib.suppress(OSError):  # others have folders there
                os.rmdir(os.path.dirname(self.temporary.root))

    # --------------------------------------------------------------------------------------------- in each branch

    def begin(self, request: Mapping[str, Any]) -> Any:
        """Give a new branch folders of its own, as the server names them: the first thing in its process.

        Returns:
            What it stands on, as a plain value; None where it branches no folders.

        Raises:
            OverBudgetError: The disk is full, or there are too many namespaces.
            SimulationError: An open file cannot be opened again.
        """
        if self.temporary is not None and request.get("temporary"):
            try:
                self.temporary.move(**request["temporary"])
            except OSError as cause:
                raise OverBudgetError(
                    f"a folder for temporary files cannot be made: {cause}", hint="free space in TMPDIR"
                ) from cause
        if self._folders is None or not request.get("folders"):
            return None
        return plain(self._folders.begin(**request["folders"]))

    def resume(self) -> dict[str, Any]:
        """Return what another server may not have heard of; give up what was got ready for a snapshot."""
        self.abandon()
        return {
            "standing": plain(self._folders.standing) if self._folders is not None else None,
            "temporary": self.temporary.name if self.temporary is not None and self._parted else None,
        }

    def refuse_going_back(self) -> None:
        """Check that there is nothing in folders, which stays as it is where memory goes back.

        Raises:
            BadRequestError: There is.
        """
        if self._folders is not None or self._is_used():
            raise BadRequestError(
                "a rewind does not take folders back, of temporary files or others",
                hint="take a snapshot, and restore it",
            )

    # ----------------------------------------------------------------------------------------------- for a snapshot

    def unknown(self) -> dict[str, Any] | None:
        """Branch the folder for temporary files, if something is in it by now.

        Returns:
            What the server is to know of it before it can ask for a snapshot; None where it knows.

        Raises:
            NotBranchableError: No views can be had here.
            ThreadsRunningError: Of all that is branched, threads would go on seeing what was.
        """
        if self._folders is None:
            if not fork.uses_temporary() or self._shared or self.temporary is None:
                return None
            self._branch_temporary(self.temporary.stores)
        elif self._folders.is_prepared:
            return None
        assert self._folders is not None
        return {**self._folders.describe(), "standing": plain(self._folders.standing)}

    def prepare(self, names: Mapping[str, str]) -> Any:
        """Get all ready that a snapshot needs and that could fail; see `snapserv.folders.view.Folders.prepare`."""
        if self._folders is None:
            raise BadRequestError("the simulation branches no folders")
        return plain(self._folders.prepare(**names))

    @property
    def spares(self) -> range:
        """Descriptors that are ready for this process, and are nothing to the snapshot."""
        return self._folders.spares if self._folders is not None else range(0)

    def commit(self) -> None:
        """Go on with what `prepare` made, once there is a snapshot."""
        if self._folders is not None:
            self._folders.commit()

    def abandon(self) -> None:
        """Give up what `prepare` made, because there is no snapshot."""
        if self._folders is not None:
            self._folders.abandon()

    # --------------------------------------------------------------------------------------------- how it is done

    @property
    def _parted(self) -> bool:
        """Whether each branch is given a folder for temporary files of its own."""
        return self._folders is None and not self._shared

    def _is_used(self) -> bool:
        return not self._shared and fork.uses_temporary()

    def _branch_temporary(self, stores: Sequence[str]) -> None:
        assert self.temporary is not None
        path = self.temporary.path
        try:
            self._folders = _branch([path], stores)
        except UnsupportedError as cause:
            held = Held("temporary_files", f"temporary files ({_few(os.listdir(path))})", path, cause.message)
            raise refusal([held], hint=cause.hint) from cause
        self.branched = True


def _branch(paths: Sequence[str], stores: Sequence[str]) -> Folders:
    from ..folders.view import HOW_VARIABLE, Folders  # mapped only where it is needed: what is mapped is forked

    refuse_threads()  # which would go on seeing the folders as they were
    return Folders.mount(paths, stores, how=os.environ.get(HOW_VARIABLE))


def _inside(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join([*sorted(names)[:MOST_NAMED], *([f"{more} more"] if more > 0 else [])])
