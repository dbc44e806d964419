"""What stands in the buffer of a file is written once, and never lost where a branch ends in order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from snapserv_client.errors import SimulationError

from ..conftest import ServerProcess

Serve = Callable[..., ServerProcess]
FILES = ["text", "binary", "apart", "by_number", "in_c"]


def rows(folder: Path, name: str) -> list[str]:
    """Return the rows of a file."""
    return (folder / name).read_text().split()


@pytest.mark.parametrize("children", [3, 40])
def test_a_row_is_written_once_however_often_the_process_is_copied(
    serve: Serve, tmp_path: Path, children: int
) -> None:
    with serve("object:tests.simulations.writing:Rows", params={"folder": str(tmp_path)}).connect() as server:
        main = server.branch("main")
        main.step(5)
        for index, branch in enumerate([*main.branch(3), main]):
            branch.step(2, who=str(index))
        main.expand([{"who": f"child{i}"} for i in range(children)])
        expected = ["1,-", "2,-", "3,-", "4,-", "5,-"]
        expected += [f"{tick},{who}" for who in range(4) for tick in (6, 7)]
        for name in FILES:
            found = rows(tmp_path, name)
            assert [row for row in found if "child" not in row] == expected, name
            assert len(found) == len(set(found)) == 13 + children, name


def test_the_rows_of_a_branch_are_whole_when_it_is_dropped_restored_or_ended_with_the_server(
    serve: Serve, tmp_path: Path
) -> None:
    process = serve("object:tests.simulations.writing:Rows", params={"folder": str(tmp_path)})
    with process.connect() as server:
        main = server.branch("main")
        before = main.snapshot()
        dropped = before.branch()
        dropped.step(who="dropped", late=True)
        dropped.drop()
        main.step(who="restored", late=True)
        main.restore(before)
        main.step(who="ended", late=True)
    process.end()
    for name in (*FILES, "late"):
        assert rows(tmp_path, name) == ["1,dropped", "1,restored", "1,ended"], name


def test_what_cannot_be_written_is_not_copied(serve: Serve, tmp_path: Path) -> None:
    with serve("object:tests.simulations.writing:Rows", params={"folder": str(tmp_path)}).connect() as server:
        main = server.branch("main")
        before = main.snapshot()
        main.step(full=True)
        main.step()
        with pytest.raises(SimulationError, match="No space left"):
            main.snapshot()
        main.restore(before)
        main.snapshot()


def test_open_is_what_it_was_to_whoever_looks_at_it() -> None:
    """In a process of its own, where it is replaced for good."""
    code = (
        "import builtins, io, pickle, copy, inspect, pathlib, tempfile\n"
        "from snapserv.simulation import writers\n"
        "writers.watch()\n"
        "assert builtins.open is io.open is open and callable(open)\n"
        "assert pickle.loads(pickle.dumps(open)) is open and copy.deepcopy(open) is open\n"
        "assert 'mode' in inspect.signature(open).parameters and open.__name__ == 'open'\n"
        "class Holder:\n"
        "    opens = open\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    path = pathlib.Path(folder) / 'x'\n"
        "    held = Holder().opens(path, 'w')\n"
        "    held.write('a')\n"
        "    writers.flush()\n"
        "    assert path.read_text() == 'a'\n"
        "    loose = open(path, 'w').detach()\n"
        "    loose.write(b'b')\n"
        "    writers.flush()\n"
        "    assert path.read_text() == 'b'\n"
        "    held.close()\n"
        "    loose.close()\n"
        "    del held, loose\n"
        "    assert not list(writers.NOTED)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
