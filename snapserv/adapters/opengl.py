"""Frames that MuJoCo draws by OpenGL, in a process that has no screen and one thread.

What draws is EGL or, where there is none, OSMesa: neither needs a display, and Mesa's llvmpipe, which both come to
without a graphics card, draws in the thread that asks (``LP_NUM_THREADS=0``, with which cells start). It is chosen
when the first frame is wanted, since it maps more files than everything else together; ``MUJOCO_GL`` wins.

Sources: MuJoCo's bindings, https://mujoco.readthedocs.io/en/stable/python.html#rendering, and Mesa's environment
variables, https://docs.mesa3d.org/envvars.html
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from snapserv.errors import BadRequestError, SnapservError, UnsupportedError

PLATFORMS = (("egl", ("libEGL.so.1",)), ("osmesa", ("libOSMesa.so", "libOSMesa.so.8", "libOSMesa.so.6")))
"""What MuJoCo calls each of them, and the libraries that are tried for it."""
CHOOSERS = ("mujoco.rendering.classic.gl_context", "mujoco.gl_context", "dm_control._render")
"""Modules that choose when they are imported, which is before a frame is wanted."""
MET = ("FatalError",)
"""What MuJoCo raises besides, by its name, since this module imports nothing of it."""
INSTALL = "install libegl1 and libgl1-mesa-dri, or libosmesa6, where the server runs; or start it with MUJOCO_GL"


@contextmanager
def drawing() -> Iterator[None]:
    """Draw off screen in this block.

    Raises:
        UnsupportedError: This machine has no OpenGL, or none that works; nothing has happened.
        BadRequestError: There is no such camera, or the frame is too large.
    """
    try:
        _choose()
        yield
    except SnapservError:
        raise
    except ValueError as cause:
        raise BadRequestError(f"it cannot be drawn so: {' '.join(str(cause).split())}") from cause
    except Exception as cause:
        if type(cause).__name__ not in MET and not isinstance(cause, (ImportError, RuntimeError, AttributeError)):
            raise
        chosen = os.environ.get("MUJOCO_GL", "")
        raise UnsupportedError(
            f"OpenGL does not work here, as MUJOCO_GL={chosen}: {type(cause).__name__}: {cause}", hint=INSTALL
        ) from cause


def _choose() -> None:
    if os.environ.get("MUJOCO_GL"):
        return
    found = next((name for name, libraries in PLATFORMS if any(map(_loads, libraries))), None)
    if found is None:
        raise UnsupportedError("OpenGL is not installed here: there is neither EGL nor OSMesa", hint=INSTALL)
    os.environ["MUJOCO_GL"] = found
    try:
        for name in CHOOSERS:
            if name in sys.modules:
                importlib.reload(sys.modules[name])
    except BaseException:
        del os.environ["MUJOCO_GL"]  # the next one may find what was installed since
        raise


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
