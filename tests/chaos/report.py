"""What was done, what was survived, and what was not."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

Fault = Literal["lost", "wrong bytes", "applied twice", "surprise", "leaked"]
FAULTS: tuple[Fault, ...] = ("lost", "wrong bytes", "applied twice", "surprise", "leaked")
MOST_SHOWN = 20


class FaultFoundError(Exception):
    """The server did what the model rules out."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass
class Report:
    """The account of a run."""

    seed: int
    seconds: int
    digest: str
    done: Counter[str] = field(default_factory=Counter)
    faults: dict[Fault, list[str]] = field(default_factory=lambda: {fault: [] for fault in FAULTS})
    elapsed_s: float = 0.0
    leftovers: dict[str, int] = field(default_factory=dict)

    def fault(self, fault: Fault, text: str) -> None:
        """Take note of something that must not be."""
        self.faults[fault].append(text)

    @property
    def ok(self) -> bool:
        """Whether all was survived."""
        return not any(self.faults.values())

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "ok": self.ok}

    def show(self, console: Console) -> None:
        """Print it."""
        title = f"chaos · seed {self.seed} · schedule {self.digest} · {self.elapsed_s:.0f} s"
        table = Table(title=title, title_justify="left")
        table.add_column("done")
        table.add_column("times", justify="right")
        for name, count in sorted(self.done.items()):
            table.add_row(name, f"{count:,}")
        console.print(table)
        verdict = Table(title="survived" if self.ok else "not survived", title_justify="left")
        verdict.add_column("must be 0")
        verdict.add_column("found", justify="right")
        for fault, texts in self.faults.items():
            verdict.add_row(fault, str(len(texts)), style="bold red" if texts else "")
        for name, count in self.leftovers.items():
            verdict.add_row(f"left behind: {name}", str(count), style="bold red" if count else "")
        console.print(verdict)
        for fault, texts in self.faults.items():
            for text in texts[:MOST_SHOWN]:
                console.print(f"{fault}: {text}", style="red", markup=False)
