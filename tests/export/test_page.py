"""The page on exports says what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ..conftest import ROOT

PAGE = (ROOT / "docs" / "export.md").read_text()


def test_its_example_runs_as_it_stands(tmp_path: Path) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "after · step 2000" in ran.stdout
    assert "{'name': 'before', 'step': 1000}" in ran.stdout
    assert "('y', 'x') 1 0." in ran.stdout
