"""A functional mock-up unit, made here: its source, its description, and what packs them."""

from __future__ import annotations

import subprocess
import sysconfig
import zipfile
from pathlib import Path

HERE = Path(__file__).parent


def build(folder: Path) -> Path:
    """Compile and pack the unit; return its path."""
    library = folder / "tank.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, HERE / "tank.c"], check=True)
    unit = folder / "tank.fmu"
    with zipfile.ZipFile(unit, "w") as archive:
        archive.write(HERE / "modelDescription.xml", "modelDescription.xml")
        archive.write(library, "binaries/linux64/tank.so")
    return unit
