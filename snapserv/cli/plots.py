"""The pictures of ``lab``: one for each question, every mechanism in it, with the same colour in all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from snapserv_client.pictures.colours import NODES
from snapserv_client.pictures.sheets import need_matplotlib

Value = Callable[[dict[str, Any]], float | None]

QUESTIONS: dict[str, tuple[str, str, Value]] = {
    "snapshot": (
        "How long does a snapshot take, a thousandth of the pages written?",
        "ms",
        lambda row: _at(row, 0),
    ),
    "dirty": ("… and with every page written?", "ms", lambda row: _at(row, -1)),
    "pause": ("For how long is a writer held up?", "ms", lambda row: row["pause_ms"]),
    "write": ("What does the first write to a page cost?", "µs", lambda row: row["first_write_us"]),
    "read": ("How fast is a snapshot read?", "GiB/s", lambda row: row["read_gib_per_s"]),
    "memory": ("What do ten snapshots take?", "MiB", lambda row: _memory(row, 1)),
}
"""By the name of the file: the title, the unit, and the value of a row."""


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """Draw a picture for each question into a folder; return the files.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    need_matplotlib()
    from matplotlib.figure import Figure

    rows = [row for row in found["rows"] if "error" not in row]
    made = []
    for name, (title, unit, value) in QUESTIONS.items():
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for number, mechanism in enumerate(dict.fromkeys(row["mechanism"] for row in rows)):
            points = [(row["bytes"] / (1 << 20), value(row)) for row in rows if row["mechanism"] == mechanism]
            seen = [(size, each) for size, each in points if each is not None and each > 0]
            if seen:
                axes.plot(*zip(*seen, strict=True), marker="o", color=NODES[number % len(NODES)], label=mechanism)
        axes.set(title=title, xlabel="size of the region, MiB", ylabel=unit, xscale="log", yscale="log")
        axes.grid(visible=True, which="both", alpha=0.2)
        axes.legend(fontsize="small")
        made.append(folder / f"{name}.png")
        figure.savefig(made[-1], dpi=150)
    return made


def _at(row: dict[str, Any], index: int) -> float:
    return float(row["snapshots"][index]["p50_ms"])


def _memory(row: dict[str, Any], index: int) -> float | None:
    size = row["memory"][index]["bytes"]
    return None if size is None else size / (1 << 20)
