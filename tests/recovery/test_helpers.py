"""What a branch forks is no cell: the next server leaves it alone, and it holds nothing that only cells hold."""

from __future__ import annotations

import os
from collections.abc import Callable

from snapserv.cell.link import LEDGER_DESCRIPTOR

from ..conftest import assert_settles
from .conftest import Phoenix, comm, zombie


def links(pid: int) -> dict[int, str]:
    """Return what a process's descriptors lead to."""
    return {int(name): os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}


def test_a_branchs_helper_lives_on_under_the_next_server(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix("tests.simulations.helping:Helped")
    with server.connect() as client:
        main = client.branch("main")
        helper = main.step(3).outputs["helper"]
        assert comm(helper).strip() == "snap-helper"
        for _ in range(2):
            server.kill()
            server.rise()
            assert main.step().outputs["helper"] == helper
        assert not zombie(helper)
        assert main.step().outputs["value"] == 6
    server.process.end()
    assert_settles(lambda: zombie(helper), True)


def test_a_helper_holds_neither_the_ledger_nor_the_branchs_own_socket(phoenix: Callable[..., Phoenix]) -> None:
    server = phoenix("tests.simulations.helping:Helped")
    with server.connect() as client:
        told = client.branch("main").step().outputs
        held, of_branch = links(told["helper"]), links(told["pid"])
        assert held[LEDGER_DESCRIPTOR] == "/dev/null"
        shared = {link for link in held.values() if link.startswith("socket:")} & set(of_branch.values())
        assert len(shared) == 1, "but for the pipe between the two"
