"""What one more idle snapshot costs in memory, all told, by the kernel's own counters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snapserv_client import local

COUNTERS = ("AnonPages", "Shmem", "PageTables", "KernelStack", "Slab")
ARENA_PAGES = (1 << 30) // 4096


def measure(count: int) -> dict[str, Any]:
    """Return KiB a snapshot, after few and after many dirty pages; see procmeminfo(5) for the counters."""
    rows = []
    with local("benchmarks.simulations:Pages", pages=ARENA_PAGES) as server:
        main = server.branch("main")
        for dirty in (64, 1000):
            main.reset()
            warm = [_take(main, dirty) for _ in range(10)]
            before = meminfo()
            taken = [_take(main, dirty) for _ in range(count)]
            after = meminfo()
            parts = {name: (after[name] - before[name]) / count for name in COUNTERS}
            state = dirty * 4
            total = sum(parts.values())
            rows.append(
                {
                    "dirty pages between": dirty,
                    "all told": total - state,
                    "state pages": state,
                    **{name: parts[name] - (state if name == "AnonPages" else 0) for name in COUNTERS},
                }
            )
            for snapshot in (*warm, *taken):
                snapshot.drop()
    return {"snapshots": count, "rows": rows}


def _take(main: Any, dirty: int) -> Any:
    main.step(dirty=dirty)
    return main.snapshot()


def meminfo() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {name.rstrip(":"): int(size) for name, size, *_ in lines}
