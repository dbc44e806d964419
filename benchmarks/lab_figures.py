"""The tables of docs/mechanisms.md, from what ``snapserv lab --json`` printed."""

from __future__ import annotations

from typing import Any

MIB = 1 << 20
Row = dict[str, Any]


def render(lab: dict[str, Any]) -> str:
    """Return the comparison, as Markdown."""
    machine = lab["machine"]
    rows = [row for row in lab["rows"] if "error" not in row]
    sizes = sorted({row["bytes"] for row in rows})
    lines = [
        f"On {machine['cores']} cores of an {machine['cpu']} in a virtual machine of {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, transparent huge pages `{machine['transparent_hugepages']}`, "
        f"vm.max_map_count {machine['max_map_count']:,}, as {'root' if machine['root'] else 'a user'}.",
        "",
        "| snapshot, ms | "
        + " | ".join(f"{_size(size)}, written {each:g} %" for size in sizes for each in _parts(rows))
        + " |",
        "| --- |" + " ---: |" * (len(sizes) * len(_parts(rows))),
    ]
    for name in dict.fromkeys(row["mechanism"] for row in rows):
        cells = [_ms(each["p50_ms"]) for row in _of(rows, name) for each in row["snapshots"]]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    for size in sizes:
        lines += [
            "",
            f"| {_size(size)} | held up, ms | first write, µs | a copy of it, ms | read, GiB/s "
            "| 1, 10, 100 snapshots take, MiB | areas, a tenth written | shared |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for row in rows:
            if row["bytes"] != size:
                continue
            takes = ", ".join("no room" if each["bytes"] is None else _mib(each["bytes"]) for each in row["memory"])
            copy = _ms(row["copy"]["ms"]) if row["copy"]["ms"] else "no room" if row["copies_of_copies"] else "none"
            lines.append(
                f"| `{row['mechanism']}` | {_ms(row['pause_ms'])} | {row['first_write_us']:.2f} | {copy} "
                f"| {row['read_gib_per_s']:.1f} | {takes} | {row['snapshots'][1]['areas']:,} "
                f"| {row['shared']:.0%} |"
            )
    lines += [
        "",
        _text("""
            Memory is what the whole machine has less afterwards: for small sizes, as good as the machine was idle.
            `rewire` begins with a base image and as many private pages, which its first snapshot gives back: so it
            can be below zero.
        """),
    ]
    return "\n".join(lines) + "\n"


def verdicts(lab: dict[str, Any]) -> str:
    """Return what the numbers say of each of the old claims, as Markdown."""
    size = 64 * MIB
    at = {row["mechanism"]: row for row in lab["rows"] if row["bytes"] == size}
    large = {row["mechanism"]: row for row in lab["rows"] if row["bytes"] == 1 << 30}
    btrfs, xfs, ksm, remap, mprotect = (at[name] for name in ("reflink", "reflink_xfs", "ksm", "remap", "mprotect"))
    one, _, hundred = mprotect["memory"]
    merged, last = ksm["merged"], remap["memory"][2]
    deepest = [name for name, row in at.items() if row["copies_of_copies"] and row["shared"] == 1]
    files, kernels = at["remap_file_pages"]["calls"], remap["calls"]
    claims = [
        (
            "Copies of files on btrfs do not share page cache.",
            "So it is, and on XFS too.",
            f"""
            Shared pages: {btrfs["shared"]:.0%} on btrfs, {xfs["shared"]:.0%} on XFS. A snapshot that was read takes
            {_mib(btrfs["memory"][0]["bytes"])} MiB of memory for 64 MiB. Ten take
            {_mib(btrfs["memory"][1]["disk_bytes"])} MiB of disk on btrfs, and
            {_mib(xfs["memory"][1]["disk_bytes"])} on XFS, which allocates 128 KiB for each page that is written, by
            default (cowextsize, mkfs.xfs(8)).
            """,
        ),
        (
            "mprotect does not scale with the number of copies, and fragments the process's areas.",
            "So it is.",
            f"""
            A first write takes {one["first_write_us"]:.0f} µs with one snapshot open and
            {hundred["first_write_us"]:.0f} µs with a hundred, which take {_mib(hundred["bytes"])} MiB where `remap`
            takes {_mib(last["bytes"])}. A tenth of the pages written makes {mprotect["snapshots"][1]["areas"]:,}
            areas of one. `uffd` has the same price for each copy, and makes no areas.
            """,
        ),
        (
            "remap_file_pages needs a system call a page.",
            "So it is, and one more than mmap needs.",
            f"""
            System calls for a first write: {files["first_write"]:.0f}; with mmap {kernels["first_write"]:.0f}. For
            a copy of a snapshot, a tenth of whose 16,384 pages were written in random order: {files["copy"]:,};
            with mmap {kernels["copy"]:,}, one for each run of pages. A snapshot takes {kernels["snapshot"]:.0f},
            whatever the size.
            """,
        ),
        (
            "KSM spends processor time, and saves little.",
            "The first is so. It saves all of a copy that is not written, but late.",
            f"""
            One copy of 64 MiB was merged after {merged["seconds"]:.1f} s, for {merged["ksmd_cpu_s"]:.1f} s of
            ksmd's work at pages_to_scan 20,000 and sleep_millisecs 1, and {_mib(merged["saved_bytes"])} MiB were
            saved; {_of_a_gib(large)}. The first write to a merged page takes {merged["first_write_us"]:.1f} µs.
            Snapshots come faster than it merges: a hundred of 64 MiB took {_mib(ksm["memory"][2]["bytes"])} MiB.
            """,
        ),
        (
            "Only fork makes copies of copies.",
            "Refuted.",
            f"""
            With all pages shared: {", ".join(f"`{name}`" for name in deepest)}. A copy of a snapshot takes
            {_ms(at["fork"]["copy"]["ms"])} ms with `fork`, {_ms(at["rewire"]["copy"]["ms"])} ms with `rewire` and
            {_ms(remap["copy"]["ms"])} ms with `remap`; `mprotect` and `uffd` have none: there nobody counts who
            shares a page.
            """,
        ),
    ]
    lines = ["| it is said | | measured |", "| --- | --- | --- |"]
    return "\n".join(lines + [f"| {said} | {so} | {_text(measured)} |" for said, so, measured in claims]) + "\n"


def _text(lines: str) -> str:
    return " ".join(lines.split())


def _of_a_gib(large: dict[str, Row]) -> str:
    merged = large["ksm"]["merged"]
    if "why_not" in merged:
        return f"of 1 GiB, {merged['why_not']}"
    return f"one of 1 GiB after {merged['seconds']:.0f} s, {merged['ksmd_cpu_s']:.0f} s of them ksmd's"


def _parts(rows: list[Row]) -> list[float]:
    return [each["fraction"] * 100 for each in rows[0]["snapshots"]]


def _of(rows: list[Row], name: str) -> list[Row]:
    return sorted((row for row in rows if row["mechanism"] == name), key=lambda row: int(row["bytes"]))


def _size(size: int) -> str:
    return f"{size // (1 << 30)} GiB" if size >= 1 << 30 else f"{size // MIB} MiB"


def _mib(size: int) -> str:
    return f"{size / MIB:,.0f}" if abs(size) >= 10 * MIB else f"{size / MIB:.1f}"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:,.0f}"
