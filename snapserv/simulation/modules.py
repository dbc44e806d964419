"""Find an object that somebody named: ``module:name`` or ``path/to/file.py:name``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import BadRequestError, NotFoundError, SimulationError, SnapservError


def load_object(target: str, *, wanted: str, fits: Callable[[Any], bool]) -> Any:
    """Return what ``target`` names.

    Args:
        target: A module or a file, a colon, and a name in it.
        wanted: What it should be, for errors.
        fits: Whether an object is such a thing, to say which there are where the name is wrong.

    Raises:
        BadRequestError: Not of the form ``module:name``.
        NotFoundError: No such module or name; close matches are named.
        SimulationError: The module raised while it was imported; ``details`` has the traceback.
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise BadRequestError(
            f"{target!r} names no {wanted}", hint="write MODULE:NAME, path/to/file.py:NAME or gym:ENVIRONMENT"
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
        names = [key for key, value in vars(module).items() if fits(value)]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"
        raise NotFoundError(f"{place} has no {wanted} {name!r}", hint=hint)
    return found


def _failed_import(place: str, cause: Exception) -> SimulationError:
    return SimulationError(
        f"{place} cannot be imported: {type(cause).__name__}: {cause}",
        details={"traceback": traceback.format_exc()},
    )


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFoundError(f"no file {str(path)!r}")
    path = path.resolve()
    if (path.parent / "__init__.py").exists():
        return _from_package(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise NotFoundError(f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _from_package(path: Path) -> ModuleType:
    """Import a file that belongs to a package as part of it, so that it finds its neighbours."""
    names, folder = [path.stem], path.parent
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return importlib.import_module(".".join(names))
