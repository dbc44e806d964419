"""The tutorials, run as they stand: their blocks one after the other, in one process, and what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_does_what_it_says(page: Path, tmp_path: Path) -> None:
    """A block that begins with a file's name is that file; one of text is what the block before it prints."""
    script, wanted = [], []
    for kind, code in BLOCK.findall(page.read_text()):
        if (name := FILE.match(code)) is not None:
            (tmp_path / name[1]).write_text(code)
        elif kind == "python":
            script.append(f"print('>>> {len(script)}')\n{code}")
        else:
            wanted.append((len(script) - 1, code))
    (tmp_path / "tutorial.py").write_text("\n".join(script))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, "-P", "tutorial.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = dict(re.findall(r">>> (\d+)\n(.*?)(?=>>> |\Z)", ran.stdout, re.DOTALL))
    assert wanted or "```text" not in page.read_text()
    for number, text in wanted:
        assert said[str(number)] == text
