"""A simulation whose state is in temporary files: of its setup, of its ticks, and one without a name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from snapserv import Simulation


class KeepingFiles(Simulation):
    """Each tick depends on what is in its temporary files."""

    def setup(self, early: bool = False, seed: int = 0) -> None:
        self.early = tempfile.NamedTemporaryFile("w+", delete=False) if early else None  # noqa: SIM115
        self.late: Any = None
        self.nameless: Any = None
        self.levels = Path()
        self.ticks = 0

    def step(self, inputs: Any) -> dict[str, Any]:
        """Write to all of them, and put out what is in them."""
        self.ticks += 1
        if self.late is None:
            self.levels = Path(tempfile.mkdtemp())
            self.late = open(self.levels / "late", "a+")  # noqa: SIM115
            self.nameless = tempfile.TemporaryFile("w+")  # noqa: SIM115
        drawn = int(self.rng.integers(1000))
        for file in (self.early, self.late, self.nameless):
            if file is not None:
                file.write(f"{self.ticks} {drawn}\n")
                file.flush()
        (self.levels / str(self.ticks % 7)).write_text(str(drawn))
        if self.ticks % 3 == 0:
            (self.levels / str((self.ticks - 1) % 7)).unlink(missing_ok=True)
        same = os.fstat(self.late.fileno()).st_ino == os.stat(self.levels / "late").st_ino
        return {
            "late": Path(self.late.name).read_text(),
            "early": Path(self.early.name).read_text() if self.early is not None else "",
            "nameless": os.pread(self.nameless.fileno(), 1 << 20, 0).decode(),
            "levels": {path.name: path.read_text() for path in sorted(self.levels.iterdir())},
            "same": same,
        }
