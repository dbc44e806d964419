"""A simulator that keeps half of its state in files, as other people's do, and in every way that they do."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from snapserv import Field, Simulation, exported


class Ledger(Simulation):
    """Each tick depends on what is in a database, a file replaced by rename, a log and a file without a name."""

    digest = Field("u1", shape=(32,), doc="a hash of all that the files have held so far")

    class Inputs(msgspec.Struct):
        amount: int = 1

    def setup(self, folder: str, seed: int = 0, reconnect: bool = False) -> None:
        self.folder = folder
        self.reconnect = reconnect
        os.makedirs(f"{folder}/levels", exist_ok=True)
        os.chdir(folder)
        self.course = open("course.txt")  # noqa: SIM115  # for life, as simulators do
        self.database = sqlite3.connect("bank.db", isolation_level=None)
        self.database.execute("CREATE TABLE IF NOT EXISTS entries (tick INTEGER, amount INTEGER)")
        self.late: sqlite3.Connection | None = None
        self.log = open("log.txt", "ab", buffering=0)  # noqa: SIM115
        self.twin = os.dup(self.log.fileno())
        self.late_words = open("late.txt", "w")  # noqa: SIM115
        self.scratch = open("scratch", "w+b", buffering=0)  # noqa: SIM115
        os.unlink("scratch")
        self.ticks = 0
        self.save({"total": 0})

    def on_branch(self, seed: int | None) -> None:
        if self.reconnect:
            self.database.close()
            self.database = sqlite3.connect("bank.db", isolation_level=None)

    def on_snapshot(self) -> None:
        self.late_words.flush()

    def save(self, state: dict[str, int]) -> None:
        Path("state.json.new").write_text(json.dumps(state))
        os.rename("state.json.new", "state.json")

    def step(self, inputs: Inputs) -> dict[str, int]:
        self.ticks += 1
        word = self.course.readline().strip()
        amount = inputs.amount + int(self.rng.integers(100))
        self.database.execute("INSERT INTO entries VALUES (?, ?)", (self.ticks, amount))
        if self.late is not None:
            self.late.execute("INSERT INTO late VALUES (?)", (amount,))
        (total,) = self.database.execute("SELECT sum(amount) FROM entries").fetchone()
        saved = json.loads(Path(f"{self.folder}/state.json").read_text())
        self.save({"total": saved["total"] + amount})
        os.write(self.twin, f"{self.ticks} {word} {amount}\n".encode())
        self.late_words.write(f"{word} ")
        self.scratch.write(bytes([amount % 256]))
        Path(f"levels/{self.ticks % 5}").write_text(str(amount))
        if self.ticks % 3 == 0:
            Path(f"levels/{(self.ticks - 1) % 5}").unlink(missing_ok=True)
        if self.ticks % 7 == 0:
            for name in os.listdir("levels"):
                os.unlink(f"levels/{name}")
            os.rmdir("levels")
            os.mkdir("levels")
        assert total == saved["total"] + amount, "the database and the file disagree"
        self.digest[:] = np.frombuffer(hashlib.sha256(bytes(self.digest) + self.contents()).digest(), np.uint8)
        return {"total": total}

    def contents(self) -> bytes:
        return json.dumps(self.look(), sort_keys=True).encode()

    @exported
    def look(self) -> dict[str, Any]:
        """Return all that the files hold."""
        return {
            "entries": [list(row) for row in self.database.execute("SELECT tick, amount FROM entries")],
            "state": Path("state.json").read_text(),
            "log": Path("log.txt").read_text(),
            "late": self.late_words.tell(),
            "offset": self.course.tell(),
            "scratch": os.pread(self.scratch.fileno(), 1 << 20, 0).hex(),
            "levels": {path.name: path.read_text() for path in sorted(Path("levels").iterdir())},
            "listing": sorted(os.listdir(self.folder)),
        }

    @exported
    def words(self) -> str:
        """Return what was written through a buffer, of which on_snapshot sees to what is left."""
        self.late_words.flush()
        return Path("late.txt").read_text()

    @exported
    def open_late(self) -> None:
        """Open another database, to be held open from now on."""
        self.late = sqlite3.connect("late.db", isolation_level=None)
        self.late.execute("CREATE TABLE late (amount INTEGER)")

    @exported
    def map_shared(self) -> None:
        """Map a file that is written as well, as a database does that reads by mapping it."""
        self.written = open("mapped", "w+b")  # noqa: SIM115
        self.written.truncate(4096)
        self.mapped = mmap.mmap(self.written.fileno(), 4096, prot=mmap.PROT_READ)

    @exported
    def unmap(self) -> None:
        """Undo that."""
        self.mapped.close()
        self.written.close()

    @exported
    def fill(self, mebibytes: int) -> None:
        """Write a large file."""
        with open("large", "wb") as file:
            if mebibytes < 0:
                raise ValueError("no file is as large as that")
            for _ in range(mebibytes):
                file.write(os.urandom(1 << 20))

    @exported
    def descriptors(self) -> int:
        """Return how many descriptors this process has."""
        return len(os.listdir("/proc/self/fd"))

    @exported
    def mounts(self) -> list[str]:
        """Return what is mounted at the folder."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if line.split()[4] == self.folder]


class Jotter(Simulation):
    """Names its folder itself, and counts ticks in a file there that it opens each time."""

    branch_dirs = (os.environ.get("JOTTER", "/nonexistent"),)
    count = Field("i8")

    def step(self, inputs: Any) -> dict[str, int]:
        path = Path(self.branch_dirs[0]) / "count"
        number = int(path.read_text()) + 1 if path.exists() else 1
        path.write_text(str(number))
        return {"number": number}
