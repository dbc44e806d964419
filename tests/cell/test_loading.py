"""From a name of a file or a module to the class of a simulation."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from snapserv.cell.loading import load_simulation
from snapserv.errors import BadRequestError


def test_a_file_of_a_package_is_loaded_with_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "outer" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "outer" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "sizes.py").write_text("COLS = 7")
    (package / "model.py").write_text(
        "from snapserv import Simulation\nfrom .sizes import COLS\nclass Model(Simulation):\n    cols = COLS\n"
        "    def step(self, inputs):\n        pass\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = load_simulation(f"{package}/model.py:Model")
    assert vars(found)["cols"] == 7
    assert found.__module__ == "outer.inner.model"


def test_a_file_without_a_class_is_told_how_one_is_named() -> None:
    with pytest.raises(BadRequestError) as caught:
        load_simulation("models/counter.py")
    assert caught.value.hint == "write models/counter.py:NAME"
