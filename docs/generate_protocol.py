"""Print the tables of docs/protocol.md that follow from the code; ``--write`` puts them into the page.

A test compares the page with this output, so that the reference cannot fall behind.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from snapserv_client import errors, protocol, wire

PAGE = Path(__file__).with_name("protocol.md")


def main() -> None:
    """Print or write the generated parts."""
    text = PAGE.read_text()
    for name, table in sections().items():
        text = replace(text, name, table)
    if "--write" in sys.argv:
        PAGE.write_text(text)
    else:
        print(text)


def sections() -> dict[str, str]:
    """Return every generated part of the page by name."""
    return {
        "limits": limits(),
        "verbs": verbs(),
        "values": values(),
        "errors": error_codes(),
        "examples": examples(),
    }


def replace(text: str, name: str, table: str) -> str:
    """Return the page with the part ``name`` replaced."""
    start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
    pattern = re.escape(start) + r".*?" + re.escape(end)
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"docs/protocol.md has no part {name!r}")
    return re.sub(pattern, lambda _: f"{start}\n{table}\n{end}", text, flags=re.DOTALL)


def limits() -> str:
    """Return the table of limits."""
    rows = [
        ("header frame", f"{wire.MAX_HEADER_BYTES:,} bytes"),
        ("buffers in a message", f"{wire.MAX_BUFFERS:,}"),
        ("one frame, and the data of one reply", f"{wire.MAX_MESSAGE_BYTES:,} bytes"),
        ("arrays in a request", f"{wire.MAX_ARRAYS:,}"),
        ("lists and maps in a request", f"{wire.MAX_CONTAINERS:,}"),
        ("fields of a dtype, and how deep within each other", f"{wire.MAX_DTYPE_FIELDS:,}, {wire.MAX_DTYPE_DEPTH}"),
        ("axes of an array", f"{wire.MAX_AXES:,}"),
        ("requests of one client in flight", f"{protocol.MAX_IN_FLIGHT:,}"),
        ("name of a node, tree or tag", f"{protocol.MAX_NAME_LENGTH} characters, `{protocol.NAME_PATTERN}`"),
        ("ticks in one step", f"{protocol.MAX_TICKS:,}"),
        ("branches in one request", f"{protocol.MAX_BRANCHES:,}"),
        ("nodes in one page of `tree`", f"{protocol.MAX_PAGE:,}"),
        ("strip of `pages`", f"{protocol.MAX_STRIP:,} bytes, and one more a field"),
    ]
    return table(("what", "limit"), rows)


def verbs() -> str:
    """Return a section for every verb."""
    common = ", ".join(f"`{code}`" for code in protocol.COMMON_ERRORS)
    parts = [f"Every verb may also be answered with: {common}."]
    for verb in protocol.VERBS.values():
        once = (" · at most once" if verb.once else "") + (" · reads" if verb.reads else "")
        parts.append(f"\n### `{verb.name}`\n\nOn: {verb.on}{once}. {verb.does.capitalize()}.\n")
        parts.append(_documented(verb.args, "argument"))
        parts.append(f"\nResult: `{verb.result.__name__}`")
        if verb.errors:
            parts.append("\nErrors: " + ", ".join(f"`{code}`" for code in verb.errors))
    return "\n".join(parts)


def values() -> str:
    """Return a section for every map that a result consists of."""
    seen: dict[str, type[msgspec.Struct]] = {}

    def collect(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__name__ not in seen:
            seen[kind.__name__] = kind
            for field in msgspec.structs.fields(kind):
                collect(field.type)
        for part in typing.get_args(kind):
            collect(part)

    for verb in protocol.VERBS.values():
        collect(verb.result)
    for kind in (protocol.RequestHeader, protocol.Progress, protocol.Notice, protocol.Event):
        collect(kind)
    parts = []
    for name in sorted(seen):
        parts.append(f"### `{name}`\n\n{_documented(seen[name], 'key')}\n")
    return "\n".join(parts).rstrip()


def error_codes() -> str:
    """Return the table of error codes."""
    rows = []
    for code, kind in errors.ERRORS.items():
        rows.append((f"`{code}`", kind.fault, (kind.__doc__ or "").split("\n\n")[0].replace("\n", " ")))
    return table(("code", "whose fault", "meaning"), rows)


def examples() -> str:
    """Return messages byte by byte."""
    step = {"id": 7, "verb": "step", "node": "main", "args": {"ticks": 2, "inputs": {"drift": 0.5}}}
    read = {"id": 8, "verb": "read", "node": "main", "args": {"field": "position", "region": [[0, 2, None]]}}
    array = {"id": 8, "ok": {"value": np.array([1.0, 2.0], "<f4"), "step": 2}}
    failed = {"id": 9, "error": errors.NotFoundError("no node 'x'", hint="list the nodes with tree").to_wire()}
    parts = []
    for title, value in (
        ("A request: two ticks of `main` with an input", step),
        ("A request for a region of a field", read),
        ("Its reply: an array of two `<f4`, whose bytes are in the third frame", array),
        ("An error", failed),
    ):
        header, *buffers = wire.pack(value)
        parts.append(f"{title}:\n\n```\n{_plain(value)}\n")
        for number, frame in enumerate((wire.MAGIC, header, *buffers)):
            parts.append(f"frame {number}: {_hex(bytes(frame))}")
        parts.append("```\n")
    return "\n".join(parts).rstrip()


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _documented(kind: type[msgspec.Struct], what: str) -> str:
    doc = (kind.__doc__ or "").strip()
    tagged = kind.__struct_config__
    rows = [(f"`{tagged.tag_field}`", f'`"{tagged.tag}"`', "")] if tagged.tag_field is not None else []
    for field in msgspec.structs.fields(kind):
        if field.default is not msgspec.NODEFAULT:
            default = f"`{_plain(field.default)}`"
        elif field.default_factory is not msgspec.NODEFAULT:
            default = f"`{_plain(field.default_factory())}`"
        else:
            default = "required" if what == "argument" else ""
        rows.append((f"`{field.name}`", _type(field.type), default))
    doc = re.sub(r"\s+", " ", doc)
    return doc if not rows else f"{doc}\n\n" + table((what, "type", "default"), rows)


def _type(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        meta = parts[1]
        bounds = [f"≥ {meta.ge}" if meta.ge is not None else "", f"≤ {meta.le:,}" if meta.le is not None else ""]
        bounds = [bound for bound in bounds if bound]
        return _type(parts[0]) + (f" ({', '.join(bounds)})" if bounds else " (a name)" if meta.pattern else "")
    if origin is typing.Literal:
        return " or ".join(f'`"{part}"`' for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in parts)
    if origin is list:
        return f"array of {_type(parts[0])}"
    if origin is tuple:
        return "[" + ", ".join(_type(part) for part in parts) + "]"
    if origin is dict:
        return "map"
    if kind is type(None):
        return "nil"
    return {str: "string", int: "int", float: "float", bool: "bool", Any: "any value"}.get(
        kind
    ) or f"`{kind.__name__}`"


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
