"""Make what belongs to the tutorials: their notebooks, and the pictures that they show.

A tutorial is one page of Markdown in ``docs/tutorials``. Its notebook has the same text and code; where the page
shows a picture that its code has drawn, the notebook shows what was drawn there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "tutorials"
NOTEBOOKS = ROOT / "examples" / "notebooks"
BLOCK = re.compile(r"```(python|text)\n(.*?)```\n", re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
PICTURE = re.compile(r"!\[[^\]]*\]\(pictures/([\w-]+\.(?:png|gif))\)\n")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(#[^)]*)?\)")


def pictures_of(page: str) -> list[str]:
    """Return the names of the pictures that a page shows."""
    return PICTURE.findall(page)


def script_of(page: str) -> str:
    """Return the code of a page."""
    return "\n".join(code for kind, code in BLOCK.findall(page) if kind == "python" and not FILE.match(code))


def notebook_of(page: str) -> str:
    """Return the notebook of a page, as a file has it."""
    cells = [_cell(number, kind, text) for number, (kind, text) in enumerate(_parts(page))]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _parts(page: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and the text of each cell; what code prints, it prints when it is run."""
    at = 0
    for found in BLOCK.finditer(page):
        yield from _prose(page[at : found.start()])
        if found[1] == "python":
            name = FILE.match(found[2])
            yield "code", f"%%writefile {name[1]}\n{found[2]}" if name else found[2]
        at = found.end()
    yield from _prose(page[at:])


def _prose(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    for picture in PICTURE.finditer(text):
        yield "markdown", text[at : picture.start()]
        yield "code", f'from IPython.display import Image\n\nImage("{picture[1]}")'
        at = picture.end()
    yield "markdown", text[at:]


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    if kind == "markdown":
        text = LINK.sub(lambda link: f"](../../docs/tutorials/{link[1]}{link[2] or ''})", text)
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell | {"source": text.strip().splitlines(keepends=True)}


def write() -> None:
    """Write the notebooks that there are, and draw the pictures of their pages."""
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        page = (PAGES / f"{notebook.stem}.md").read_text()
        notebook.write_text(notebook_of(page))
        if not (wanted := pictures_of(page)):
            continue
        with tempfile.TemporaryDirectory() as work:
            subprocess.run([sys.executable, "-c", script_of(page)], cwd=work, check=True, stdout=subprocess.DEVNULL)
            for name in wanted:
                shutil.copy(Path(work, name), PAGES / "pictures" / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write them, rather than say which are old")
    if parser.parse_args().write:
        write()
    else:
        old = [
            path.name for path in NOTEBOOKS.glob("*.ipynb")
            if path.read_text() != notebook_of((PAGES / f"{path.stem}.md").read_text())
        ]  # fmt: skip
        sys.exit(f"run it with --write: {', '.join(old)}" if old else 0)
