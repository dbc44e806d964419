"""Print the tables of docs/protocol.md that follow from the code; ``--write`` writes them and the JSON beside them.

A test compares the page, ``protocol.json`` and ``vectors.json`` with this output, so that none can fall behind.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import protocol_description  # noqa: E402 - beside this file, wherever it is loaded from
import protocol_vectors  # noqa: E402

PAGE = HERE / "protocol.md"
SHOWN = (
    "a request: two ticks of `main` with an input",
    "a request for a region of a field",
    "its reply: an array of two `<f4`, inline as it is small",
    "the same reply, with the elements in a buffer frame",
    "progress of a step",
    "an outcome of an expansion",
    "an error with details",
    "an event about a node",
)
"""The vectors that the page shows."""


def main() -> None:
    """Print or write the generated parts."""
    text = PAGE.read_text()
    for name, part in sections().items():
        text = replace(text, name, part)
    if "--write" in sys.argv:
        PAGE.write_text(text)
        for name, content in files().items():
            PAGE.with_name(name).write_text(content)
    else:
        print(text)


def sections() -> dict[str, str]:
    """Return every generated part of the page by name."""
    found = protocol_description.description()
    return {
        "limits": limits(found["limits"]),
        "verbs": verbs(found),
        "values": values(found["types"]),
        "errors": error_codes(found["errors"]),
        "examples": examples(),
    }


def files() -> dict[str, str]:
    """Return the generated files beside the page, by name."""
    said = {"about": (protocol_vectors.__doc__ or "").strip(), "vectors": protocol_vectors.described()}
    return {
        "protocol.json": json.dumps(protocol_description.description(), indent=1, ensure_ascii=False) + "\n",
        "vectors.json": json.dumps(said, indent=1, ensure_ascii=False) + "\n",
    }


def replace(text: str, name: str, part: str) -> str:
    """Return the page with the part ``name`` replaced."""
    start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"docs/protocol.md has no part {name!r}")
    return f"{before}{start}\n{part}\n{end}{after}"


def limits(found: dict[str, Any]) -> str:
    """Return the table of limits."""
    rows = [
        ("header frame", f"{found['header_bytes']:,} bytes"),
        ("buffers in a message", f"{found['buffers']:,}"),
        ("one frame, and the data of one reply", f"{found['message_bytes']:,} bytes"),
        ("arrays in a request", f"{found['arrays_in_a_request']:,}"),
        ("arrays and maps of msgpack's in a request", f"{found['containers_in_a_request']:,}"),
        (
            "fields of a dtype, and how deep within each other",
            f"{found['dtype_fields']:,}, {found['dtype_depth']}",
        ),
        ("axes of an array", f"{found['axes']:,}"),
        ("requests of one client in flight", f"{found['requests_in_flight']:,}"),
        ("name of a node, tree or tag", f"{found['name_characters']} characters, `{found['name_pattern']}`"),
        ("ticks in one step", f"{found['ticks']:,}"),
        ("branches in one request", f"{found['branches']:,}"),
        ("nodes in one page of `tree`", f"{found['page']:,}"),
        ("strip of `pages`", f"{found['strip_bytes']:,} bytes, and one more a field"),
    ]
    return table(("what", "limit"), rows)


def verbs(found: dict[str, Any]) -> str:
    """Return a section for every verb."""
    common = ", ".join(f"`{code}`" for code in found["common_errors"])
    parts = [f"Every verb may also be answered with: {common}."]
    for verb in found["verbs"]:
        once = (" · at most once" if verb["at_most_once"] else "") + (" · reads" if verb["reads"] else "")
        parts.append(f"\n### `{verb['name']}`\n\nOn: {verb['on']}{once}. {verb['does'].capitalize()}.\n")
        parts.append(_documented(found["types"][verb["args"]], "argument"))
        parts.append(f"\nResult: `{verb['result']}`")
        if verb["errors"]:
            parts.append("\nErrors: " + ", ".join(f"`{code}`" for code in verb["errors"]))
    return "\n".join(parts)


def values(found: dict[str, Any]) -> str:
    """Return a section for every map that a result consists of."""
    names = sorted(protocol_description.structs(args=False))
    return "\n".join(f"### `{name}`\n\n{_documented(found[name], 'key')}\n" for name in names).rstrip()


def error_codes(found: list[dict[str, Any]]) -> str:
    """Return the table of error codes."""
    return table(
        ("code", "whose fault", "meaning"),
        [(f"`{each['code']}`", each["fault"], each["meaning"]) for each in found],
    )


def examples() -> str:
    """Return messages byte by byte."""
    by_name = {vector.name: vector for vector in protocol_vectors.vectors()}
    parts = []
    for name in SHOWN:
        vector = by_name[name]
        parts.append(f"{name[0].upper()}{name[1:]}:\n\n```\n{_plain(vector.value)}\n")
        for number, frame in enumerate(vector.message):
            parts.append(f"frame {number}: {_hex(frame)}")
        parts.append("```\n")
    return "\n".join(parts).rstrip()


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _documented(kind: dict[str, Any], what: str) -> str:
    rows = []
    for field in kind["fields"]:
        required = "required" if what == "argument" and field["required"] else ""
        default = f"`{_plain(field['default'])}`" if "default" in field else required
        rows.append((f"`{field['name']}`", _type(field["type"]), default))
    return kind["doc"] if not rows else f"{kind['doc']}\n\n" + table((what, "type", "default"), rows)


def _type(kind: dict[str, Any]) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    bounds = [f"{sign} {_number(kind[name])}" for name, sign in signs.items() if name in kind]
    if kind.get("pattern") == protocol_description.limits()["name_pattern"]:
        bounds.append("a name")
    elif "max_length" in kind:
        bounds.append(f"{kind.get('min_length', 0):,} to {kind['max_length']:,}")
    return _unbounded(kind) + (f" ({', '.join(bounds)})" if bounds else "")


def _unbounded(kind: dict[str, Any]) -> str:
    match kind["is"]:
        case "one of":
            return " or ".join(f'`"{value}"`' for value in kind["values"])
        case "either":
            return " or ".join(map(_type, kind["of"]))
        case "array":
            inner = _type(kind["of"])
            return f"array of ({inner})" if kind["of"]["is"] == "either" else f"array of {inner}"
        case "tuple":
            return "[" + ", ".join(map(_type, kind["of"])) + "]"
        case "map" if "type" in kind:
            return f"`{kind['type']}`"
    return str(kind["is"])


def _number(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:,}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}": {_plain(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    if isinstance(value, np.ndarray):
        return f"<array {value.dtype.str} {list(value.shape)}>"
    if isinstance(value, str):
        return f'"{value}"'
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    return str(value)


def _hex(data: bytes) -> str:
    groups = [data[start : start + 2].hex() for start in range(0, len(data), 2)]
    lines = [" ".join(groups[start : start + 16]) for start in range(0, len(groups), 16)]
    return "\n         ".join(lines)


if __name__ == "__main__":
    main()
