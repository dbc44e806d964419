"""Print docs/store.md with the tables of objects that follow from the code; ``--write`` writes them into it.

A test compares the page with this output, so that it cannot fall behind.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
from snapserv_client.store import format, framing

PAGE = Path(__file__).resolve().parent / "store.md"
START, END = "<!-- generated: objects -->", "<!-- end: objects -->"
_PART = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def main() -> None:
    """Print or write the page."""
    text = page()
    if "--write" in sys.argv:
        PAGE.write_text(text)
    else:
        print(text)


def page() -> str:
    """Return the page as it should be."""
    before, _, rest = PAGE.read_text().partition(START)
    return f"{before}{START}\n\n{objects()}\n\n{END}{rest.partition(END)[2]}"


def objects() -> str:
    """Return a table for each object, those with a kind of their own first."""
    kinds = sorted(framing.KINDS, key=framing.KINDS.__getitem__)
    others = [
        kind
        for kind in vars(format).values()
        if inspect.isclass(kind) and issubclass(kind, msgspec.Struct) and kind not in kinds and kind.__doc__
    ]
    parts = [part for part in others if not part.__name__.startswith("_")]
    return "\n\n".join(map(_table, [*kinds, *parts]))


def _table(kind: type[msgspec.Struct]) -> str:
    doc = inspect.cleandoc(kind.__doc__ or "")
    said, _, attributes = doc.partition("Attributes:")
    number = framing.KINDS.get(kind)  # type: ignore[call-overload]
    lines = [f"### {kind.__name__}" + (f" (kind {number})" if number else ""), "", _plain(said), ""]
    meanings = {name: _plain(text) for name, text in _PART.findall(attributes)}
    lines += ["| key | value | meaning |", "| --- | --- | --- |"]
    for field in msgspec.structs.fields(kind):
        lines.append(f"| `{field.name}` | {_type(kind, field)} | {meanings[field.name]} |")
    return "\n".join(lines)


def _type(kind: type[msgspec.Struct], field: Any) -> str:
    written = kind.__annotations__[field.name]
    named = getattr(format, written, None)
    if hasattr(named, "__args__"):
        written = " or ".join(f'"{value}"' for value in named.__args__)
    default = "" if field.required else f"; `{_default(field)!r}`"
    return f"`{written}`{default}".replace("|", "\\|")


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def _default(field: Any) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


if __name__ == "__main__":
    main()
