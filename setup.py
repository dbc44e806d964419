"""Build the Cython and C of ``ext/`` into the ``snapserv.ext`` package.

Everything else about the distribution is declared in ``pyproject.toml``. This file is the one place for
compiler directives and flags. Set ``SNAPSERV_DEBUG=1`` for the checked, traced and annotated build: bounds
and overflow checks on, line tracing for coverage and profilers, an HTML page beside each ``.pyx``, ``-Og -g``.
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

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


def extension(module: str, *sources: str, extra: tuple[str, ...] = ()) -> Extension:
    """Return the extension ``snapserv.ext.<module>`` made of files of the rooms of ``ext/``."""
    return Extension(
        f"snapserv.ext.{module}",
        [f"ext/{source}" for source in sources],
        include_dirs=["ext"],
        # Where one changes, what includes it is built anew.
        depends=[str(header) for header in sorted(Path("ext").rglob("*.h"))],
        define_macros=MACROS,
        # -ffp-contract=off: a kernel must give the same bits as its NumPy reference on every x86-64 and ARM64.
        extra_compile_args=[*COMPILE_ARGS, "-std=gnu11", "-Wall", "-ffp-contract=off", *extra],
        # Functions are bound when a module is loaded: not while memory is reset, and the linker's own with it.
        extra_link_args=["-Wl,-z,relro,-z,now"],
    )


LOADER = "snapserv/ext/loader"
LOADER_SOURCES = ["ext/images/loader.c", "ext/images/script.c"]
# No C library, nothing that needs one, and no vector registers, which are the process's that is brought back.
LOADER_ARGS = [
    *(
        "-O2",
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-ffreestanding",
        "-fno-builtin",
        "-fno-stack-protector",
        "-fno-lto",
    ),
    *("-fno-tree-loop-distribute-patterns", "-fcf-protection=none", "-mgeneral-regs-only", "-fno-lto"),
    *("-fno-pic", "-fno-pie", "-mcmodel=large", "-U_FORTIFY_SOURCE"),
]
LOADER_LINK_ARGS = [
    *("-static", "-nostdlib", "-nostartfiles", "-no-pie", "-Wl,-Ttext-segment=0x100000000000"),  # SNAPSERV_HOME
    *("-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,-z,norelro"),
]


class build_ext_and_loader(build_ext):  # noqa: N801 - setuptools' own is called so
    """Build the extensions, and the program that brings frozen processes back from their images."""

    def run(self) -> None:
        """Build all of it; the loader on x86-64 alone, whose registers it knows."""
        super().run()
        if platform.machine() == "x86_64":
            target = Path(self.loader_path)
            target.parent.mkdir(parents=True, exist_ok=True)
            objects = self.compiler.compile(
                LOADER_SOURCES,
                output_dir=f"{self.build_temp}/loader",
                include_dirs=["ext"],
                extra_postargs=LOADER_ARGS,
            )
            subprocess.check_call([self.compiler.linker_exe[0], *LOADER_LINK_ARGS, *objects, "-o", str(target)])

    @property
    def loader_path(self) -> str:
        """Where the loader goes."""
        return LOADER if self.inplace else f"{self.build_lib}/{LOADER}"

    def get_outputs(self) -> list[str]:
        """Return all files that are built, for the record of the installation."""
        return [*super().get_outputs(), *([self.loader_path] if platform.machine() == "x86_64" else [])]


setup(
    cmdclass={"build_ext": build_ext_and_loader},
    # The examples are installed as well, under a name that is nobody else's.
    packages=[*find_packages(include=["snapserv", "snapserv.*"]), "snapserv.examples", "snapserv.examples.search"],
    package_dir={"snapserv.examples": "examples"},
    ext_modules=cythonize(
        [
            # Of the rooms, cells includes of images, memory and processes, images and cells of processes.
            extension(
                "fork",
                "cells/fork.pyx",
                "cells/frozen.c",
                "cells/helpers.c",
                "cells/orphan.c",
                "cells/record.c",
                "cells/descriptors.c",
                "cells/reopening.c",
                "cells/nameless.c",
                "cells/holdings.c",
                "cells/reset_in_place.c",
                "cells/standing.c",
                "cells/pages.c",
                "cells/twin.c",
                "cells/settings.c",
                "cells/temporary.c",
                "processes/clone.c",
                "processes/messages.c",
                "images/registers.c",
                "images/script.c",
                # A script runs where a guard on the stack would be looked for in memory that is being replaced.
                extra=("-fno-stack-protector",),
            ),
            extension("memory", "memory/memory.pyx", "memory/huge_tmpfs.c", "processes/clone.c"),
            extension("images", "memory/images.pyx"),
            extension("marks", "memory/marks.pyx"),
            extension("touched", "memory/touched.pyx", "memory/page_entries.c"),
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
            extension("reach", "simulation/reach.pyx", "simulation/lasting.c"),
            extension("kernels.wildfire", "kernels/wildfire.pyx"),
            extension("kernels.gray_scott", "kernels/gray_scott.pyx"),
        ],
        compiler_directives=DIRECTIVES,
        annotate=DEBUG,
        build_dir="build/cython",
    ),
)
