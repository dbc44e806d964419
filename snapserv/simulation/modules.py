"""Find an object that somebody named: ``module:name`` or ``path/to/file.py:name``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import BadRequestError, NotFoundError, SimulationError, SnapservError
from .blame import authors_traceback, lacking


def search(folders: Iterable[str]) -> None:
    """Have modules be looked for in the user's folders too: before what is installed, but after Python's own.

    A user may have a ``queue.py`` or a ``random.py``, and what snapserv imports by that name is not to become it.
    """
    standard = os.path.dirname(os.__file__)
    own = (standard, f"{standard}/lib-dynload")
    place = max((index for index, entry in enumerate(sys.path, 1) if entry in own), default=0)
    sys.path[place:place] = [folder for folder in dict.fromkeys(folders) if folder not in sys.path]


def load_object(target: str, *, wanted: str, fits: Callable[[Any], bool]) -> Any:
    """Return what ``target`` names.

    Args:
        target: A module or a file, a colon, and a name in it.
        wanted: What it should be, for errors.
        fits: Whether an object is such a thing, to say which there are where the name is wrong.

    Raises:
        BadRequestError: Not of the form ``module:name``, or both a module of Python's own and a file here.
        NotFoundError: No such module or name; close matches are named.
        SimulationError: The module raised while it was imported; ``details`` has the traceback.
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        known = (
            f"{target}:NAME" if target.endswith(".py") else "MODULE:NAME, path/to/file.py:NAME or gym:ENVIRONMENT"
        )
        raise BadRequestError(f"{target!r} names no {wanted}", hint=f"write {known}")
    if place in sys.stdlib_module_names and Path(f"{place}.py").is_file():
        raise BadRequestError(
            f"{place} is a module of Python's own, and a file here is called so too",
            hint=f"write {place}.py:{name}",
        )
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as cause:
        if cause.name is None or not (place == cause.name or place.startswith(f"{cause.name}.")):
            raise _failed_import(place, cause) from cause
        raise NotFoundError(
            f"no module called {cause.name!r}", hint="run in the folder that holds it, or install it"
        ) from cause
    except SnapservError:
        raise
    except Exception as cause:
        raise _failed_import(place, cause) from cause
    found = getattr(module, name, None)
    if found is None:
        import difflib  # only here: a cell is light

        names = [key for key, value in vars(module).items() if fits(value)]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
        raise NotFoundError(f"{place} has no {wanted} {name!r}", hint=hint)
    return found


def _failed_import(place: str, cause: Exception) -> SimulationError:
    return SimulationError(
        f"{place} cannot be imported: {type(cause).__name__}: {cause}",
        hint="; ".join(getattr(cause, "__notes__", ())) or lacking(cause),
        details={"traceback": authors_traceback(cause)},
    )


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFoundError(f"no file {str(path)!r}")
    path = path.resolve()
    if (path.parent / "__init__.py").exists():
        return _from_package(path)
    search([str(path.parent)])
    name = _free_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NotFoundError(f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _free_name(path: Path) -> str:
    """Return what the module of a file is called: as the file, unless that is what somebody else imports."""
    there = getattr(sys.modules.get(path.stem), "__file__", str(path))
    taken = path.stem in sys.stdlib_module_names or there != str(path)
    return f"{path.stem}_of_{path.parent.name}" if taken else path.stem


def _from_package(path: Path) -> ModuleType:
    """Import a file that belongs to a package as part of it, so that it finds its neighbours."""
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    search([str(folder)])
    return importlib.import_module(".".join(names))
