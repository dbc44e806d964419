"""Examples of the documentation that need a server run as they stand, and its figures are those measured last."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from matplotlib import image

from benchmarks import figures

from .conftest import ROOT, ServerProcess


def test_the_lander_of_the_adapters_page_gives_a_picture_for_each_action(
    serve: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "adapters.md").read_text()
    (code,) = re.findall(r"<!-- lander.*?-->\n```python\n(.*?)```", page, re.DOTALL)
    server = serve("gym:LunarLander-v3")
    environment = {**os.environ, "SNAPSERV_ENDPOINT": server.endpoint}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    pictures = [image.imread(tmp_path / f"action-{action}.png") for action in range(4)]
    assert all(picture.shape[:2] == (400, 600) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) > 1


def test_the_files_that_the_architecture_names_are_there() -> None:
    """Files are named from the project's top level, or from ``snapserv/`` or the client's package."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w/]+\.(?:py|c|h|pyx|md)|[\w/]+/)`", page))
    places = (ROOT, ROOT / "snapserv", ROOT / "clients" / "python" / "snapserv_client")
    assert len(named) > 50
    assert {name for name in named if not any((place / name).exists() for place in places)} == set()


def test_the_figures_of_the_documents_are_those_of_the_last_runs() -> None:
    for document, _, measured, made in figures.TABLES:
        assert made(json.loads(measured.read_text())) in (figures.ROOT / document).read_text(), document


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page is in the navigation, every link and anchor leads somewhere, and every docstring can be read."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    client = (tmp_path / "site" / "reference" / "client" / "index.html").read_text()
    for name in ("Server.create", "Branch.step", "Branch.branch", "Branch.expand"):
        assert f'id="snapserv_client.sync.{name}"' in client
    start = (tmp_path / "site" / "index.html").read_text()
    assert 'href="project/"' in start
    decisions = (tmp_path / "site" / "decisions" / "index.html").read_text()
    assert "0001-siblings-by-clone-parent/" in decisions
