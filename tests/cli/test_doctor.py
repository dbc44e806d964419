"""``snapserv doctor``: what there is on this machine, and what is used of it."""

from __future__ import annotations

from pathlib import Path

from .conftest import Terminal


def test_doctor_says_what_there_is_and_which_backing_is_used(alone: Terminal) -> None:
    found = alone.json("doctor")
    assert found["runs"] is True
    assert found["backing"] in ("huge_tmpfs", "memfd", "anonymous_thp", "anonymous")
    looked_at = {finding["what"] for finding in found["findings"]}
    assert {
        "kernel",
        "fork",
        "PAGEMAP_SCAN",
        "reading snapshots",
        "pidfd",
        "overcommit",
        "processes",
        "user namespaces",
        "shared memory",
        "page monitoring",
    } <= looked_at
    assert all(finding["improve"] for finding in found["findings"] if finding["verdict"] == "missing")
    assert alone.type("doctor") == 0
    assert "PAGEMAP_SCAN" in alone.out


def test_doctor_exits_with_4_where_the_sockets_folder_cannot_be_made(alone: Terminal, tmp_path: Path) -> None:
    (tmp_path / "snapserv").write_text("a file where a folder belongs")
    found = alone.json("doctor", status=4)
    assert found["runs"] is False
    (folder,) = (finding for finding in found["findings"] if finding["what"] == "socket folder")
    assert folder["verdict"] == "missing"
