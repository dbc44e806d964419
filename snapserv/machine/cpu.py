"""What this processor can do, and having libraries do with less: a level that other machines have as well.

Libraries look at the processor when they are loaded, and choose code for it; a process that was brought back on
another one goes on with what was chosen. Each library has a variable of its own that bounds it, which must be set
before the interpreter begins.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias, cast

from ..errors import BadRequestError, UnsupportedError

Level: TypeAlias = Literal["x86-64-v2", "x86-64-v3", "x86-64-v4"]
"""A level of the x86-64 psABI."""

_NEEDED = {
    "x86-64-v2": "cmov cx8 fpu fxsr mmx syscall sse sse2 lm cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2",
    "x86-64-v3": "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave",
    "x86-64-v4": "avx512bw avx512cd avx512dq avx512f avx512vl",
}
"""By level, what it needs more than those before it, as /proc/cpuinfo calls it."""
LEVELS = tuple(_NEEDED)

_GLIBC = {
    "x86-64-v2": "",
    "x86-64-v3": "AVX AVX2 AVX_Fast_Unaligned_Load BMI1 BMI2 F16C FMA LZCNT MOVBE OSXSAVE XSAVE",
    "x86-64-v4": "AVX512BW AVX512CD AVX512DQ AVX512F AVX512VL",
    "": "AVX512ER AVX512PF AVX512_VBMI AVX512_VBMI2 FMA4 HLE RTM XOP XSAVEC",
}
"""By level, what glibc chooses code by, as GLIBC_TUNABLES calls it; last, what is of no level.

That AVX loads are fast has memcpy use them, where AVX is said to be missing too.
"""

_NUMPY = {
    "x86-64-v2": "SSE SSE2 SSE3 SSSE3 SSE41 POPCNT SSE42 X86_V2",
    "x86-64-v3": "AVX F16C FMA3 AVX2 X86_V3",
    "x86-64-v4": "AVX512F AVX512CD AVX512_SKX X86_V4",
}
"""By level, groups of instructions, as NumPy calls them; those that it has besides are of no level."""

_OPENBLAS = {"x86-64-v2": "Nehalem", "x86-64-v3": "Haswell", "x86-64-v4": "SkylakeX"}

_OPENSSL = {
    "x86-64-v2": (0xFFFF_FFFF | (1 << 0 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23) << 32, 0),
    "x86-64-v3": ((1 << 12 | 1 << 22 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29) << 32, 1 << 3 | 1 << 5 | 1 << 8),
    "x86-64-v4": (0, 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31),
}
"""By level, bits of CPUID: EDX and ECX of leaf 1, EBX and ECX of leaf 7; AES and the like are of no level."""
_ALL = (1 << 64) - 1


@functools.cache
def flags() -> frozenset[str]:
    """Return what this processor can do, as /proc/cpuinfo calls it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def flags_of(level: str) -> frozenset[str]:
    """Return what a level needs.

    Raises:
        BadRequestError: There is no such level.
    """
    return frozenset(flag for each in _up_to(level) for flag in _NEEDED[each].split())


def level_of(name: str) -> Level:
    """Return a level that this machine has.

    Raises:
        BadRequestError: There is no such level.
        UnsupportedError: This processor lacks something that it needs, or NumPy is built for more.
    """
    if lacking := sorted(flags_of(name) - flags()):
        raise UnsupportedError(
            f"this processor is no {name}: it lacks {', '.join(lacking)}",
            hint="choose a lower level, which later machines have as well",
            details={"lacking": lacking},
        )
    built_for, _ = _numpy()
    if beyond := sorted(set(built_for) - _allowed_numpy(name)):
        raise UnsupportedError(
            f"NumPy is built for more than {name}: {', '.join(beyond)}",
            hint="choose a higher level, or install a NumPy that is built for less",
            details={"beyond": beyond},
        )
    return cast(Level, name)


def held_to(level: Level, environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which libraries use no more of the processor than a level has.

    What it says already is kept where it goes further.
    """
    levels = _up_to(level)
    beyond = [name for each, names in _GLIBC.items() if each not in levels for name in names.split()]
    hwcaps = "glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in beyond)
    tunables = [each for each in environment.get("GLIBC_TUNABLES", "").split(":") if each]
    for each in [each for each in tunables if each.startswith("glibc.cpu.hwcaps=")]:
        tunables.remove(each)
        hwcaps += "," + each.partition("=")[2]
    _, dispatched = _numpy()
    disabled = set(environment.get("NPY_DISABLE_CPU_FEATURES", "").replace(",", " ").split())
    disabled.update(set(dispatched) - _allowed_numpy(level))
    allowed = [functools.reduce(int.__or__, (_OPENSSL[each][word] for each in levels)) for word in (0, 1)]
    return {
        **environment,
        "GLIBC_TUNABLES": ":".join([*tunables, hwcaps]),
        # What is bound when it is first called goes through code that saves registers as this processor has them.
        "LD_BIND_NOW": "1",
        "NPY_DISABLE_CPU_FEATURES": " ".join(sorted(disabled)),
        "OPENBLAS_CORETYPE": _OPENBLAS[level],
        "OPENSSL_ia32cap": ":".join(f"~{_ALL & ~word:#x}" for word in (*allowed, 0)),
    }


def _up_to(level: str) -> tuple[str, ...]:
    if level not in LEVELS:
        raise BadRequestError(f"there is no level {level!r} of processors", hint=f"one of {', '.join(LEVELS)}")
    return LEVELS[: LEVELS.index(level) + 1]


def _allowed_numpy(level: str) -> set[str]:
    return {name for each in _up_to(level) for name in _NUMPY[each].split()}


def _numpy() -> tuple[list[str], list[str]]:
    """Return what NumPy is built for, and what it chooses from when it is loaded."""
    import numpy as np

    core = importlib.import_module(f"{'numpy._core' if hasattr(np, '_core') else 'numpy.core'}._multiarray_umath")
    return list(core.__cpu_baseline__), list(core.__cpu_dispatch__)
