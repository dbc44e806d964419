"""Find the simulation that somebody named: ``module:Class``, ``path/to/file.py:Class``, or ``gym:CartPole-v1``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pickle
import sys
import traceback
from pathlib import Path
from types import ModuleType

from .adapters import SCHEMES, adapt
from .errors import BadRequestError, NotFoundError, SimulationError, SnapservError
from .simulation import Simulation


def load_simulation(target: str) -> type[Simulation]:
    """Return the class that ``target`` names.

    ``gym:CartPole-v1`` and the like are other people's simulators; see `snapserv.adapters`.
    ``pickle:/file`` is a class that ``snapserv_client.local`` wrote by value for a notebook, on this machine and
    by this user; nothing that comes over the network is ever unpickled.

    Raises:
        BadRequestError: Not of the form ``module:Class``.
        NotFoundError: No such module or class; close matches are named.
        SimulationError: The module raised while it was imported; ``details`` has the traceback.
        UnsupportedError: An adapter for a package that is not installed; names the extra.
    """
    scheme, _, rest = target.partition(":")
    if scheme in SCHEMES and rest:
        return adapt(scheme, rest)
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise BadRequestError(
            f"{target!r} names no simulation", hint="write MODULE:CLASS, path/to/file.py:CLASS or gym:ENVIRONMENT"
        )
    if place == "pickle":
        return _checked(pickle.loads(Path(name).read_bytes()), target)
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
        raise NotFoundError(f"{place} has no class {name!r}", hint=_what_there_is(module, name))
    return _checked(found, target)


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


def _checked(found: object, target: str) -> type[Simulation]:
    if not (inspect.isclass(found) and issubclass(found, Simulation)):
        raise BadRequestError(f"{target} is not a subclass of snapserv.Simulation")
    return found


def _what_there_is(module: ModuleType, name: str) -> str:
    names = [
        key
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Simulation) and value is not Simulation
    ]
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"simulations there: {', '.join(names) or 'none'}"
