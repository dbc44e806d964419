"""``lab``: every way to snapshot memory on this machine, measured side by side."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import click
from rich.console import Group
from rich.text import Text
from snapserv_client.cli.console import errors, results
from snapserv_client.cli.options import Json, failing
from snapserv_client.cli.output import EXIT_CODES, mebibytes, show, table
from snapserv_client.cli.parameters import Option
from snapserv_client.figures import space

from snapserv.errors import BadRequestError

WIDE = 130
"""Columns that all of it needs in one table; where there are fewer it has two."""
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def lab(
    size: Annotated[list[str] | None, Option(help="Of the region, as 64MiB; 1MiB, 64MiB and 1GiB.")] = None,
    mechanism: Annotated[list[str] | None, Option(help="Only these; all by default.")] = None,
    plots: Annotated[Path | None, Option(help="Draw a picture for each question into this folder.")] = None,
    as_json: Json = False,
) -> None:
    """Measure every way to snapshot memory that can be had here, side by side; fails where none could be.

    Examples:
        snapserv lab --size 64MiB
    """
    from snapserv.mechanisms.lab import SIZES, compare
    from snapserv.mechanisms.registry import MECHANISMS, VARIANTS

    with failing(as_json=as_json):
        known = [*MECHANISMS, *VARIANTS]
        unknown = [name for name in mechanism or [] if name not in known]
        if unknown:
            raise BadRequestError(f"no mechanism {unknown[0]!r}", hint=f"mechanisms: {', '.join(known)}")
        sizes = [_bytes(text) for text in size] if size else list(SIZES)
        with errors.status("measuring") as shown:

            def on_start(name: str, wanted: int) -> None:
                shown.update(f"{name} · {space(wanted)}")

            found = compare(sizes, names=mechanism, on_start=on_start)
        measured = any("error" not in row for row in found["rows"])
        drawn = _draw(found, plots) if plots and measured else []
    if not as_json:
        machine = found["machine"]
        where = f"{machine['cores']} cores of {machine['cpu']} · {machine['memory_gib']} GiB"
        results.print(f"{where} · Linux {machine['kernel']}", style="dim")
    show({**found, "plots": [str(path) for path in drawn]}, as_json=as_json, people=lambda: _table(found))
    if not measured:
        raise click.exceptions.Exit(EXIT_CODES["server" if found["rows"] else "machine"])


def _bytes(text: str) -> int:
    """Return the bytes that ``64MiB`` says."""
    match = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB|)", text.strip())
    if match is None or not int(match[1]):
        raise BadRequestError(f"--size {text!r}", hint="write 64MiB, 1GiB or a number of bytes")
    return int(match[1]) * UNITS[match[2]]


Cell = Callable[[dict[str, Any]], str]

COSTS: dict[str, Cell] = {
    ">written": lambda row: "\n".join(f"{each['fraction']:.1%}" for each in row["snapshots"]),
    ">snapshot ms": lambda row: "\n".join(f"{each['p50_ms']:.3f}" for each in row["snapshots"]),
    ">areas": lambda row: "\n".join(f"{each['areas']:,}" for each in row["snapshots"]),
    ">pause ms": lambda row: f"{row['pause_ms']:.3f}",
}
"""What a snapshot costs, by how much was written before it."""
USES: dict[str, Cell] = {
    ">first write µs": lambda row: f"{row['first_write_us']:.2f}",
    ">read GiB/s": lambda row: f"{row['read_gib_per_s']:.1f}",
    ">snapshots": lambda row: "\n".join(f"{each['snapshots']:,}" for each in row["memory"]),
    ">take MiB": lambda row: "\n".join(mebibytes(each["bytes"]) or "no room" for each in row["memory"]),
    ">copy of copy ms": lambda row: (
        f"{row['copy']['ms']:.3f}" if row["copy"]["ms"] else "no room" if row["copies_of_copies"] else "no"
    ),
    ">shared": lambda row: "" if row["shared"] is None else f"{row['shared']:.0%}",
}
"""What it is like to have some."""


def _table(found: dict[str, Any]) -> Any:
    parts = [COSTS | USES] if results.width >= WIDE else [COSTS, USES]
    notes = [
        f"{row['mechanism']} of {space(row['bytes'])}: {row['error']['message']}"
        for row in found["rows"]
        if "error" in row
    ]
    notes += [_merged(row) for row in found["rows"] if "merged" in row]
    notes += [f"{each['name']}: not here, {each['why_not']}" for each in found["mechanisms"] if each["why_not"]]
    return Group(*(_part(found, columns) for columns in parts), *(Text(note) for note in notes))


def _part(found: dict[str, Any], columns: dict[str, Cell]) -> Any:
    rows = table("mechanism", ">MiB", *columns)
    for row in found["rows"]:
        cells = ["failed" if "error" in row else cell(row) for cell in columns.values()]
        rows.add_row(row["mechanism"], mebibytes(row["bytes"]), *cells, end_section=True)
    return rows


def _merged(row: dict[str, Any]) -> str:
    merged = row["merged"]
    what = f"{row['mechanism']} of {space(row['bytes'])} and one snapshot: "
    if "why_not" in merged:
        return what + str(merged["why_not"])
    return what + (
        f"merged after {merged['seconds']:.1f} s and {merged['ksmd_cpu_s']:.1f} s of ksmd, "
        f"which saved {space(merged['saved_bytes'])}; "
        f"the first write to a page then took {merged['first_write_us']:.2f} µs"
    )


def _draw(found: dict[str, Any], folder: Path) -> list[Path]:
    from .plots import draw

    folder.mkdir(parents=True, exist_ok=True)
    return draw(found, folder)
