"""Build the Cython and C of ``ext/`` into the ``snapserv.ext`` package.

Everything else about the distribution is declared in ``pyproject.toml``. This file is the one place for
compiler directives and flags. Set ``SNAPSERV_DEBUG=1`` for the checked, traced and annotated build: bounds
and overflow checks on, line tracing for coverage and profilers, an HTML page beside each ``.pyx``, ``-Og -g``.
"""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

DEBUG = os.environ.get("SNAPSERV_DEBUG", "0") not in ("", "0")

DIRECTIVES = {
    "language_level": 3,
    "embedsignature": True,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "overflowcheck": DEBUG,
    "cdivision": not DEBUG,
    "linetrace": DEBUG,
}
MACROS = [("_GNU_SOURCE", "1")]
COMPILE_ARGS = ["-Og", "-g", "-UNDEBUG"] if DEBUG else ["-O3", "-fno-math-errno"]
if DEBUG:
    MACROS.append(("CYTHON_TRACE_NOGIL", "1"))


def extension(module: str, *sources: str) -> Extension:
    """Return the extension ``snapserv.ext.<module>`` made of files of the rooms of ``ext/``."""
    return Extension(
        f"snapserv.ext.{module}",
        [f"ext/{source}" for source in sources],
        include_dirs=["ext"],
        # Where one changes, what includes it is built anew.
        depends=[str(header) for header in sorted(Path("ext").rglob("*.h"))],
        define_macros=MACROS,
        # -ffp-contract=off: a kernel must give the same bits as its NumPy reference on every x86-64 and ARM64.
        extra_compile_args=[*COMPILE_ARGS, "-std=gnu11", "-Wall", "-ffp-contract=off"],
        # Functions are bound when a module is loaded: not while memory is reset, and the linker's own with it.
        extra_link_args=["-Wl,-z,relro,-z,now"],
    )


setup(
    # The examples are installed as well, under a name that is nobody else's.
    packages=[*find_packages(include=["snapserv", "snapserv.*"]), "snapserv.examples", "snapserv.examples.search"],
    package_dir={"snapserv.examples": "examples"},
    ext_modules=cythonize(
        [
            # Of the rooms, cells includes of memory and processes, memory of processes, mechanisms of memory.
            extension(
                "fork",
                "cells/fork.pyx",
                "cells/frozen.c",
                "cells/helpers.c",
                "cells/orphan.c",
                "cells/messages.c",
                "cells/descriptors.c",
                "cells/reopening.c",
                "cells/nameless.c",
                "cells/holdings.c",
                "cells/reset_in_place.c",
                "cells/standing.c",
                "cells/settings.c",
                "cells/temporary.c",
                "processes/clone.c",
            ),
            extension("memory", "memory/memory.pyx", "memory/huge_tmpfs.c", "processes/clone.c"),
            extension("images", "memory/images.pyx"),
            extension("marks", "memory/marks.pyx"),
            extension("mounts", "folders/mounts.pyx"),
            extension(
                "guards",
                "mechanisms/guards.pyx",
                "mechanisms/protected.c",
                "mechanisms/page_pool.c",
                "mechanisms/userfault.c",
                "mechanisms/write_faults.c",
            ),
            extension("tracker", "mechanisms/tracker.pyx", "mechanisms/userfault.c"),
            extension("volumes", "mechanisms/volumes.pyx"),
            extension("reach", "simulation/reach.pyx"),
            extension("kernels.wildfire", "kernels/wildfire.pyx"),
            extension("kernels.gray_scott", "kernels/gray_scott.pyx"),
        ],
        compiler_directives=DIRECTIVES,
        annotate=DEBUG,
        build_dir="build/cython",
    ),
)
