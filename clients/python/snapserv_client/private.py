"""A private server for a notebook or a test: started here, ended with its connection, never outliving us."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import select
import shutil
import site
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from .errors import BadRequestError, RequestTimeoutError, SnapservError, UnreachableError, error_from_wire

_FIELD: type = type(msgspec.field(default_factory=list))
END_WITHIN_S = 20.0


class PrivateServer:
    """A server process whose socket is in a folder of its own."""

    def __init__(
        self,
        target: str | type,
        backing: str | None,
        branch_dirs: Sequence[str | os.PathLike[str]],
        start_within_s: float,
        params: dict[str, Any],
    ) -> None:
        if importlib.util.find_spec("snapserv") is None:
            raise UnreachableError("the server is not installed here", hint="pip install snapserv")
        self._folder = Path(tempfile.mkdtemp(prefix="snapserv-"))
        try:
            named = target if isinstance(target, str) else _named(target, self._folder)
            options = [] if backing is None else ["--backing", backing]
            for folder in branch_dirs:
                options += ["--branch-dir", os.fspath(folder)]
            for name, value in params.items():
                options += ["--param", f"{name}={json.dumps(value)}"]
            self._start(named, options, start_within_s)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _start(self, target: str, options: list[str], start_within_s: float) -> None:
        ready, told = os.pipe()
        self.endpoint = f"ipc://{self._folder}/s.sock"
        command = [sys.executable, "-P", "-m", "snapserv", "serve", target, "--endpoint", self.endpoint]
        # Its standard input is ours to close: when this process ends, however it ends, the server ends too.
        command += ["--ready-fd", str(told), "--exit-with-stdin", "--own-folder", "--quiet"]
        command += options
        ours, others = _module_path()
        for folder in ours:
            command += ["--search-path", folder]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, pass_fds=[told], env={**os.environ, **others},
                start_new_session=True,  # Ctrl-C is for this process, which then decides
            )  # fmt: skip
        except BaseException:
            os.close(ready)
            raise
        finally:
            os.close(told)
        self._finalizer = weakref.finalize(self, _end, os.getpid(), self._process, self._folder)
        with os.fdopen(ready) as answer:
            readable, _, _ = select.select([answer], [], [], start_within_s)
            line = answer.readline() if readable else ""
        if not readable:
            self.end()
            raise RequestTimeoutError(
                f"setup took longer than {start_within_s:g} s", hint="give it more time with start_within_s"
            )
        outcome = json.loads(line) if line else {}
        if "endpoint" not in outcome:
            self.end()
            raise _failure(outcome)

    def end(self) -> None:
        """End the server, and remove its folder; it also happens when this is collected or Python exits."""
        self._finalizer()


def _end(owner: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    if owner != os.getpid():
        return  # a forked child: the server is its parent's
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _module_path() -> tuple[list[str], dict[str, str]]:
    """Return the folders that Python searches first for whoever runs here, and PYTHONPATH for the rest of its path.

    The first are the working folder and the script's, where a file may be called like a module of the standard
    library. So simulations are looked for there, and modules of the server are not.
    """
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    first = {"", os.getcwd(), os.path.dirname(os.path.abspath(script)) if script else ""}.difference(given)
    ours = [entry or os.getcwd() for entry in sys.path if entry in first]
    standard = os.path.dirname(os.__file__)
    there = [*given, *site.getsitepackages(), site.getusersitepackages()]  # for any interpreter that is started
    others = [entry for entry in sys.path if entry not in first and entry not in there]
    others = [entry for entry in others if not entry.startswith(standard) and os.path.exists(entry)]
    return list(dict.fromkeys(ours)), {"PYTHONPATH": os.pathsep.join([*given, *others])} if others else {}


def _named(kind: type, folder: Path) -> str:
    """Return how a fresh interpreter finds the class: by name where it can import it, by value otherwise."""
    if kind.__module__ != "__main__" and "<locals>" not in kind.__qualname__:
        return f"{kind.__module__}:{kind.__qualname__}"
    path = folder / "simulation.pickle"
    with path.open("wb") as file:
        _pickle_by_value(kind, file)
    return f"pickle:{path}"


def _pickle_by_value(kind: type, file: BinaryIO) -> None:
    """Write a class of a notebook or script with its code."""
    try:
        import cloudpickle
    except ImportError as cause:
        raise BadRequestError(
            f"{kind.__qualname__} is defined in a notebook or script, and cloudpickle is missing",
            hint="pip install cloudpickle, or put the class into a module",
        ) from cause

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            """Take a msgspec struct apart as what defines it: by its attributes alone it would lose its fields."""
            if isinstance(obj, type) and issubclass(obj, msgspec.Struct) and obj.__module__ == "__main__":
                return msgspec.defstruct, (obj.__name__, _struct_fields(obj))
            if isinstance(obj, _FIELD):
                factory: Any = getattr(obj, "default_factory")  # noqa: B009 - the stubs take it for a list
                return functools.partial(msgspec.field, default_factory=factory), ()
            return super().reducer_override(obj)

    Pickler(file).dump(kind)


def _struct_fields(kind: type[msgspec.Struct]) -> list[tuple[str, Any] | tuple[str, Any, Any]]:
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(kind):
        if field.default is not msgspec.NODEFAULT:
            fields.append((field.name, field.type, field.default))
        elif field.default_factory is not msgspec.NODEFAULT:
            fields.append((field.name, field.type, msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.name, field.type))
    return fields


def _failure(outcome: dict[str, Any]) -> SnapservError:
    if "error" in outcome:
        return error_from_wire(outcome["error"])
    return UnreachableError("the private server ended before it answered", hint="see what it printed")
