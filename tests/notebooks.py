"""Notebooks, run by a kernel of this very Python, whose files all lie in a folder of the test's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient


def run_notebook(book: Any, where: Path, home: Path) -> None:
    """Run a notebook from a folder; its outputs are in it then. ``home`` is where the kernel's own files go."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(home))
        specs = home / "kernels" / "python3"
        specs.mkdir(parents=True)
        (specs / "kernel.json").write_text(
            f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"],'
            '"display_name": "Python 3", "language": "python"}'
        )
        NotebookClient(book, timeout=100, resources={"metadata": {"path": str(where)}}).execute()
