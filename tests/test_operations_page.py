"""What the page on operations and the units of systemd say is so."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from snapserv.cli.app import app

from .conftest import ROOT

PAGE = ROOT / "docs" / "operations.md"
UNITS = sorted((ROOT / "docs" / "systemd").glob("*/snapserv.service"))


def settings(unit: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser["Service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.parent.name)
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_a_unit(unit: Path, tmp_path: Path) -> None:
    text = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", unit.read_text(), flags=re.MULTILINE)
    copy = tmp_path / unit.name
    copy.write_text(text)
    flags = ["--user"] if unit.parent.name == "user" else []
    told = subprocess.run(
        ["systemd-analyze", *flags, "--man=no", "verify", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )
    ours = [line for line in told.stderr.splitlines() if "snapserv" in line]
    assert ours == [], told.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.parent.name)
def test_a_unit_lets_nodes_survive_their_server_and_die_alone(unit: Path) -> None:
    service = settings(unit)
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert service["Restart"] == "on-failure"
    assert float(service["RestartSec"]) < 60, "the seconds of --orphan-grace"
    assert "PrivateTmp" not in service
    if "RuntimeDirectory" in service:
        assert service["RuntimeDirectoryPreserve"] == "restart"


def test_the_options_that_the_page_and_the_units_name_exist() -> None:
    serve = app.commands["serve"]
    there = {option for parameter in serve.params for option in (*parameter.opts, *parameter.secondary_opts)}
    told = re.findall(r"^ExecStart=.*", "\n".join(unit.read_text() for unit in UNITS), re.MULTILINE)
    told += re.findall(r"`serve ([^`]*)`", PAGE.read_text())
    told += ["--orphan-grace", "--fresh", "--log-json", "--quiet", "--verbose", "--metrics"]
    assert set(re.findall(r"--[a-z-]+", " ".join(told))) <= there


def test_every_event_that_is_logged_is_on_the_page() -> None:
    page = PAGE.read_text()
    source = "\n".join(path.read_text() for path in (ROOT / "snapserv").rglob("*.py"))
    warned = set(re.findall(r'(?:log|_throttled)\.warn(?:ing)?\(\s*"(\w+)"', source))
    assert {event for event in warned if f"`{event}`" not in page} == set()


def test_every_metric_is_on_the_page() -> None:
    page = PAGE.read_text()
    for name in re.findall(
        r'"((?:snapserv|process)_\w+)"', (ROOT / "snapserv" / "server" / "metrics.py").read_text()
    ):
        assert name in page
