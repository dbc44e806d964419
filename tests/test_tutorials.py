"""The tutorials, run as they stand: their blocks one after the other, in one process, and what they print."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import numpy as np
import pytest
from PIL import Image

from .conftest import ROOT
from .notebooks import run_notebook

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
MOST_APART = 6.0
"""How far pixels may be apart on average: lines of text are drawn a little otherwise by another version's fonts."""


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
    for name in re.findall(r"\]\(pictures/([^)]+)\)", page.read_text()):
        shown, drawn = page.parent / "pictures" / name, tmp_path / name
        assert shown.stat().st_size < 200_000
        assert_alike(shown, drawn)


def assert_alike(shown: Path, drawn: Path) -> None:
    """Check that a page shows what its code draws."""
    with Image.open(shown) as one, Image.open(drawn) as other:
        assert getattr(one, "n_frames", 1) == getattr(other, "n_frames", 1)
        sizes = np.array([one.size, other.size])
        assert np.abs(sizes[0] - sizes[1]).max() <= 0.03 * sizes.max(), "run docs/generate_tutorials.py --write"
        small = [np.asarray(each.convert("RGB").resize((200, 150))).astype(int) for each in (one, other)]
        assert np.abs(small[0] - small[1]).mean() < MOST_APART, "run docs/generate_tutorials.py --write"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorials", ROOT / "docs" / "generate_tutorials.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_its_tutorial_and_runs(
    notebook: Path, generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "tutorials" / f"{notebook.stem}.md").read_text()
    assert notebook.read_text() == generator.notebook_of(page), "run docs/generate_tutorials.py --write"
    cells = json.loads(notebook.read_text())["cells"]
    for cell in cells:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", "".join(cell["source"])):
            assert (notebook.parent / target).exists(), target
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    run = nbformat.read(notebook, as_version=4)
    (tmp_path / "here").mkdir()
    run_notebook(run, tmp_path / "here", tmp_path / "home")
    shown = [kind for cell in run.cells for output in cell.get("outputs", ()) for kind in output.get("data", ())]
    pictures = [kind for kind in shown if kind.startswith("image/")]
    assert pictures or not generator.pictures_of(page), "it shows what it draws"


def test_there_are_notebooks() -> None:
    assert {"curves", "two-futures-side-by-side", "when-did-it-go-wrong"} <= {
        notebook.stem for notebook in NOTEBOOKS
    }
