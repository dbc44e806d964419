"""An object that writes rows through buffers of its own, in Python and in C, and closes none of them."""

from __future__ import annotations

import csv
import ctypes
import io
import os
from pathlib import Path
from typing import Any

C = ctypes.CDLL(None)
C.fopen.restype = ctypes.c_void_p


class Rows:
    """Writes a row in each tick, to each of its files."""

    def __init__(self, folder: str = "") -> None:
        path = Path(folder)
        self.path = path
        self.text = open(path / "text", "a")  # noqa: SIM115
        self.rows = csv.writer(self.text)
        self.binary = (path / "binary").open("ab")
        self.apart = io.TextIOWrapper(io.BufferedWriter(io.FileIO(path / "apart", "a")))
        self.by_number = os.fdopen(os.open(path / "by_number", os.O_WRONLY | os.O_CREAT | os.O_APPEND), "w")
        self.in_c = C.fopen(os.fsencode(path / "in_c"), b"a")
        self.late: Any = None
        self.ticks = 0

    def step(self, who: str = "-", late: bool = False, full: bool = False) -> dict[str, int]:
        """Write a row; ``late`` opens a file of the tick's own, and ``full`` one that nothing can be written to."""
        self.ticks += 1
        row = f"{self.ticks},{who}\n"
        if late and self.late is None:
            self.late = open(self.path / "late", "a")  # noqa: SIM115
        if full:
            self.late = open("/dev/full", "w")  # noqa: SIM115
        self.rows.writerow([self.ticks, who])
        self.binary.write(row.encode())
        self.apart.write(row)
        self.by_number.write(row)
        C.fputs(row.encode(), ctypes.c_void_p(self.in_c))
        if self.late is not None:
            self.late.write(row)
        return {"ticks": self.ticks}
