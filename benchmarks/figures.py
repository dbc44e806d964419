"""The tables of the documents, written from ``benchmarks/results``: ``python -m benchmarks.figures``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import lab_figures

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
LAB = ROOT / "benchmarks" / "results" / "lab.json"


def render(results: dict[str, Any]) -> str:
    """Return the tables, as Markdown."""
    machine = results["machine"]
    snapshots = results["snapshots"]
    clustered = {row["arena MiB"]: row for row in snapshots["rows"] if row["pages"] == "clustered"}
    scattered = {row["arena MiB"]: row for row in snapshots["rows"] if row["pages"] == "scattered"}
    random = {row["arena MiB"]: row for row in results.get("random", [])}  # runs before there was any have none
    sizes = list(clustered)
    idle = results["idle"]["rows"][0]
    trips = {row["what"]: row for row in results["roundtrip"]["rows"]}
    lines = [
        f"On {machine['cores']} cores of an {machine['cpu']} in a virtual machine, Linux {machine['kernel']}, "
        f"Python {machine['python']}; {snapshots['dirty_pages']:,} pages are written between two snapshots.",
        "",
        f"| p50, ms | {' | '.join(f'{size:,} MiB' for size in sizes)} |",
        f"| --- |{' ---: |' * len(sizes)}",
    ]
    rows = (
        ("snapshot, seen by the client", "snapshot p50 ms", clustered),
        ("… of it the fork", "of it fork", clustered),
        ("snapshot, where the written pages are scattered", "snapshot p50 ms", scattered),
        ("branch to the end of its first step", "branch+step p50 ms", clustered),
        ("`os.fork` of the same memory in 4 KiB pages", "os.fork 4K ms", clustered),
        ("`os.fork` of the same memory in huge pages", "os.fork THP ms", clustered),
        ("snapshot, where pages of a random order were read, changed and written", "snapshot p50 ms", random),
        ("`os.fork` after the same in huge pages, its first child kept", "os.fork THP ms", random),
        ("… in 4 KiB pages", "os.fork 4K ms", random),
    )
    for what, key, table in rows:
        if table:
            lines.append(f"| {what} | {' | '.join(f'{table[size][key]:.2f}' for size in sizes)} |")
    lines += [
        "",
        "| | |",
        "| --- | ---: |",
        f"| fork of an empty C program: the floor | {clustered[sizes[0]]['empty C fork ms']:.2f} ms |",
        f"| one more idle snapshot of 1 GiB, without the pages written since | {idle['all told']:,.0f} KiB |",
        f"| step of a simulation that does nothing, round trip, p50 | {trips['step']['p50']:.0f} µs |",
        f"| echo of plain pyzmq, p50: the floor | {trips['raw pyzmq echo']['p50']:.0f} µs |",
    ]
    aged, dense = results["longrun"], results["dense"]
    lines += [
        "",
        "| in a long run, 1 GiB, p50 | |",
        "| --- | ---: |",
        f"| snapshot, fresh | {aged['fresh p50 ms']:.1f} ms |",
        f"| … once every page was written, in random order | {aged['every page written, p50 ms']:.1f} ms |",
        f"| … {aged['after snapshots']} snapshots later: most segments have a new base image |"
        f" {aged['re-based, p50 ms']:.1f} ms |",
        f"| longest step meanwhile | {aged['longest step while re-basing ms']:.1f} ms |",
        f"| step that writes every page | {dense['step p50 ms']:.0f} ms |",
        f"| … the first one of a branch | {dense['first step of a branch p50 ms']:.0f} ms |",
        "",
        "| ways back, 1 GiB, p50 | 64 pages | 1,000 | 10,000 |",
        "| --- | ---: | ---: | ---: |",
    ]
    ways = results["rollback"]["rows"]
    for what, key in (
        ("`rewind`, inside the cell", "rewind, in the cell, p50 us"),
        ("`rewind`, seen by the client", "rewind p50 us"),
        ("`restore`, seen by the client", "restore p50 us"),
        ("memcpy of everything", "memcpy of all p50 us"),
    ):
        lines.append(f"| {what} | {' | '.join(f'{way[key] / 1000:.2f} ms' for way in ways)} |")
    lines += [
        "",
        "| a step as its client sees it, p50 | plain | `atomic` | times |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in results["atomic"]["rows"]:
        plain, atomic = row["plain p50 us"] / 1000, row["atomic p50 us"] / 1000
        what = f"{row['arena MiB']:,} MiB, {row['pages a step']:,} pages written"
        lines.append(f"| {what} | {plain:.2f} ms | {atomic:.2f} ms | {row['ratio']:.1f} |")
    return "\n".join(lines) + "\n" + _scale(results["scale"])


def _scale(scale: dict[str, Any]) -> str:
    """Return the tables of many nodes; of each pair of rows the first is the server that has ten throughout."""
    few, many = scale["rows"][::2], scale["rows"][1::2]
    columns = [row["nodes"] for row in many]
    lines = [
        "",
        f"| 1 GiB, p50, at so many nodes (at 10, turn about) | {' | '.join(f'{nodes:,}' for nodes in columns)} |",
        f"| --- |{' ---: |' * len(columns)}",
    ]
    for what in ("ping", "step", "read", "snapshot", "branch", "clone"):
        pairs = [(row[what] / 1000, beside[what] / 1000) for beside, row in zip(few, many, strict=True)]
        named = "… of a snapshot, the clone" if what == "clone" else what
        lines.append(f"| {named} | {' | '.join(f'{taken:.2f} ({beside:.2f}) ms' for taken, beside in pairs)} |")
    totals, (written, bare) = scale["totals"], scale["memory"]
    lines += [
        "",
        f"| {totals['nodes']:,} nodes of 1 GiB | |",
        "| --- | ---: |",
        f"| created one by one, 16 pages written before each of the first half | {totals['create s']:.0f} s |",
        f"| memory of one of them, without the pages written | {written['all told KiB']:,.0f} KiB |",
        f"| … of one that nothing was written before | {bare['all told KiB']:,.0f} KiB |",
        f"| … in the server | {scale['server KiB a node']:.1f} KiB |",
        f"| descriptors of the server | {scale['descriptors']:,} |",
        f"| listed, in pages | {totals['list s']:.2f} s |",
        f"| the lineage of the deepest, {totals['depth']:,} nodes | {totals['log s']:.2f} s |",
        f"| the deepest branched, and a step of that | {totals['branch and step s'] * 1000:.1f} ms |",
        f"| all dropped by one request | {totals['drop s']:.0f} s |",
    ]
    return "\n".join(lines) + "\n"


def headline(results: dict[str, Any]) -> str:
    """Return the few figures that say what it is like, as Markdown."""
    machine, snapshots = results["machine"], results["snapshots"]
    (largest,) = (row for row in snapshots["rows"] if row["pages"] == "clustered" and row["arena MiB"] == 1024)
    trips = {row["what"]: row for row in results["roundtrip"]["rows"]}
    idle = results["idle"]["rows"][0]
    return (
        f"| 1 GiB of fields, {snapshots['dirty_pages']:,} pages written between two snapshots, p50 "
        f"on {machine['cores']} cores | |\n| --- | ---: |\n"
        f"| snapshot, seen by the client | {largest['snapshot p50 ms']:.1f} ms |\n"
        f"| branch to the end of its first step | {largest['branch+step p50 ms']:.1f} ms |\n"
        f"| one more idle snapshot, without the pages written since | {idle['all told']:,.0f} KiB |\n"
        f"| step of a simulation that does nothing, round trip | {trips['step']['p50']:.0f} µs |\n"
        f"| for comparison: `os.fork` of the same memory | {largest['os.fork 4K ms']:.1f} ms |\n"
        f"| … echo of plain pyzmq | {trips['raw pyzmq echo']['p50']:.0f} µs |\n"
    )


TABLES = (
    ("README.md", "headline", RESULTS, headline),
    ("docs/performance.md", "figures", RESULTS, render),
    ("docs/mechanisms.md", "figures", LAB, lab_figures.render),
    ("docs/mechanisms.md", "verdicts", LAB, lab_figures.verdicts),
)
"""Each table: its document, its name there, what was measured, and what makes Markdown of it."""


def write() -> None:
    """Put the tables of the last runs into the documents."""
    for document, name, measured, made in TABLES:
        begin, end = f"<!-- {name}: python -m benchmarks.figures -->\n", f"<!-- end of {name} -->\n"
        text = (ROOT / document).read_text()
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        (ROOT / document).write_text(before + begin + made(json.loads(measured.read_text())) + end + after)


if __name__ == "__main__":
    write()
