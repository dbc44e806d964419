"""The comparison: every mechanism that can be had here, at several sizes, side by side, each in a fresh process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from snapserv.errors import InternalError
from snapserv.ext import memory

from .base import memory_available
from .registry import MECHANISMS, VARIANTS

SIZES = (1 << 20, 64 << 20, 1 << 30)
FRACTIONS = (0.001, 0.1, 1.0)
WITHIN_S = 600.0


def compare(
    sizes: Sequence[int] = SIZES, *, names: Sequence[str] | None = None, on_start: Callable[[str, int], None]
) -> dict[str, Any]:
    """Return what was measured of each mechanism at each size, and on what machine.

    Args:
        sizes: Of the region, in bytes.
        names: Of mechanisms and variants; all by default. What cannot be had is named with its reason.
        on_start: Called with each mechanism and size before it is measured.
    """
    known = {**MECHANISMS, **VARIANTS}
    chosen = [known[name] for name in (names or known)]
    rows = []
    for mechanism in chosen:
        for size in sizes:
            if mechanism.why_not():
                continue
            on_start(mechanism.name, size)
            rows.append(_measured(mechanism.name, size))
    return {
        "machine": machine(),
        "mechanisms": [
            {
                "name": mechanism.name,
                "summary": mechanism.summary,
                "copies_of_copies": mechanism.copies_of_copies,
                "shares_pages": mechanism.shares_pages,
                "needs": mechanism.needs,
                "why_not": mechanism.why_not(),
            }
            for mechanism in chosen
        ],
        "rows": rows,
    }


def machine() -> dict[str, Any]:
    """Return what is measured on."""
    models = (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    thp = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpu": next(models, platform.machine()),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * memory.PAGE / (1 << 30), 1),
        "available_gib": round(memory_available() / (1 << 30), 1),
        "kernel": platform.release(),
        "page_bytes": memory.PAGE,
        "transparent_hugepages": thp.read_text().strip() if thp.exists() else "none",
        "max_map_count": int(Path("/proc/sys/vm/max_map_count").read_text()),
        "root": os.geteuid() == 0,
    }


def _measured(name: str, size: int) -> dict[str, Any]:
    command = [sys.executable, "-P", "-m", "snapserv.mechanisms.measure", name, str(size), *map(str, FRACTIONS)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        return {"mechanism": name, "bytes": size, "error": {"message": f"not done within {WITHIN_S:g} s"}}
    if ran.returncode != 0:
        error = InternalError(
            f"measuring ended with status {ran.returncode}", details={"stderr": ran.stderr[-4000:]}
        )
        return {"mechanism": name, "bytes": size, "error": error.to_wire()}
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
