"""The one fork: each ordered step of the child, and the fallbacks where the kernel refuses."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from snapserv_client import Server

from ..conftest import ROOT, ServerProcess, assert_settles
from ..refuse import REFUSE

Serve = Callable[..., ServerProcess]

# The outer process stands for the server: it becomes the parent of every clone, and reaps them all. The inner one
# is the cell, and the other end of its clones' sockets.
HARNESS = """
import os, select, signal, socket, struct, sys, time
from snapserv.ext import fork
PREFIX = struct.Struct("=IIQ")
inner = os.fork()
if inner:
    statuses = {}
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        statuses[pid] = os.waitstatus_to_exitcode(status)
    sys.exit(statuses[inner])
clones = []

def message(sock):
    kind, header, payload = PREFIX.unpack(sock.recv(16, socket.MSG_WAITALL))
    return kind, sock.recv(payload, socket.MSG_WAITALL) if payload else b""

def done():
    for pid in clones:
        os.kill(pid, signal.SIGKILL)

class Frozen:
    def __init__(self):
        self.outer, self.control = socket.socketpair()
        self.ours, theirs = socket.socketpair()
        self.result, self.clone_ns = fork.freeze(self.control.fileno(), theirs.detach())

    def hello(self):
        kind, payload = message(self.ours)
        assert kind == fork.HELLO, kind
        clones.append(struct.unpack("=qq", payload)[0])
        return clones[-1]

    def thaw(self):
        ours, theirs = socket.socketpair()
        socket.send_fds(self.ours, [PREFIX.pack(fork.CLONE, 0, 0)], [theirs.fileno()])
        theirs.close()
        return ours

import atexit
atexit.register(done)
"""


def run(body: str, *, refuse: tuple[str, ...] = ()) -> str:
    """Run the harness and ``body`` in a process of their own; return what it printed."""
    prefix = [*REFUSE, *refuse, "--"] if refuse else []
    done = subprocess.run(
        [*prefix, sys.executable, "-c", HARNESS + body],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_parent_is_answered_on_its_own_socket_and_the_clone_says_who_it_is() -> None:
    out = run("""
frozen = Frozen()
assert frozen.result is None
kind, payload = message(frozen.outer)
assert kind == fork.FROZE and struct.unpack("=q", payload)[0] > 0
pid = frozen.hello()
assert pid != os.getpid() and os.path.exists(f"/proc/{pid}")
print(open(f"/proc/{pid}/comm").read().strip())
""")
    assert out == "snap-frozen\n"


def test_step_1_the_clone_lets_go_of_its_parents_socket() -> None:
    """While a copy were open, the death of the parent would not be seen."""
    run("""
frozen = Frozen(); pid = frozen.hello(); message(frozen.outer)
frozen.control.close()
assert frozen.outer.recv(1) == b""
""")


def test_step_2_each_process_has_its_own_offset_in_a_regular_file(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(100)))
    run(f"""
file = os.open({str(path)!r}, os.O_RDONLY)
twin = os.dup(file)
os.lseek(file, 10, os.SEEK_SET)
frozen = Frozen()
if frozen.result is not None:
    sock = socket.socket(fileno=frozen.result)
    read = os.read(file, 5) + os.read(twin, 5)
    sock.send(read)
    os._exit(0)
frozen.hello()
assert os.read(file, 20) == bytes(range(10, 30))
for _ in range(2):
    branch = frozen.thaw()
    assert message(branch)[0] == fork.HELLO
    assert branch.recv(100) == bytes(range(10, 20)), "its own offset, and one for both duplicates"
assert os.lseek(file, 0, os.SEEK_CUR) == 30
""")


def test_files_that_were_made_to_be_unlinked_or_appended_are_reopened_as_they_were(tmp_path: Path) -> None:
    run(f"""
import fcntl, tempfile
unnamed = os.open({str(tmp_path)!r}, os.O_TMPFILE | os.O_RDWR)
gone = os.open({str(tmp_path / "gone")!r}, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_TRUNC)
os.unlink({str(tmp_path / "gone")!r})
appended = os.open({str(tmp_path / "log")!r}, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
os.write(unnamed, b"abcdef"); os.lseek(unnamed, 2, 0); os.write(gone, b"ghijkl"); os.lseek(gone, 1, 0)
fork.reopen_files()
assert os.read(unnamed, 2) == b"cd" and os.read(gone, 2) == b"hi"
assert fcntl.fcntl(appended, fcntl.F_GETFL) & os.O_APPEND
assert not os.get_inheritable(unnamed)
""")


def test_standard_output_keeps_one_offset_for_all(tmp_path: Path) -> None:
    """A log that several nodes write must not be overwritten by each at an offset of its own."""
    path = tmp_path / "log"
    with path.open("wb") as log:
        subprocess.run(
            [sys.executable, "-c", HARNESS + """
frozen = Frozen()
if frozen.result is not None:
    os.write(1, b"branch\\n"); os._exit(0)
frozen.hello(); os.write(1, b"parent\\n")
branch = frozen.thaw(); message(branch); branch.recv(1)
"""], cwd=ROOT, stdout=log, check=True, timeout=60,
        )  # fmt: skip
    assert path.read_text() == "parent\nbranch\n"


def test_step_3_comes_after_the_files_so_hello_means_that_the_snapshot_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    run(f"""
file = os.open({str(path)!r}, os.O_RDONLY)
frozen = Frozen(); pid = frozen.hello()
os.lseek(file, 77, os.SEEK_SET)
assert open(f"/proc/{{pid}}/fdinfo/{{file}}").read().split()[1] == "0"
""")


def test_step_4_the_clone_blocks_in_c_and_ends_when_the_server_is_gone(serve: Serve) -> None:
    process = serve("tests.simulations.walk:Walk")
    with process.connect() as server:
        main = server.branch("main")
        snapshot = main.snapshot()
        pids = [node.pid for node in server.tree()]
        for pid in pids:
            assert len(os.listdir(f"/proc/{pid}/task")) == 1
        assert_settles(lambda: Path(f"/proc/{snapshot.last.pid}/comm").read_text(), "snap-frozen\n")
        pidfds = [os.pidfd_open(pid) for pid in pids]
        process.end(signal.SIGKILL)
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 20)[0]
        os.close(pidfd)
    for path in Path(process.endpoint.removeprefix("ipc://")).parent.iterdir():
        if path.name != "server.log":
            path.unlink()


def test_a_thawed_branch_runs_python_and_the_snapshot_can_be_cloned_again() -> None:
    run("""
import threading
value = [1]
frozen = Frozen()
if frozen.result is not None:
    value.append(os.getpid())
    thread = threading.Thread(target=lambda: value.append(2)); thread.start(); thread.join()
    socket.socket(fileno=frozen.result).send(repr(value).encode()); os._exit(0)
frozen.hello(); value.append("the parent went on")
for _ in range(3):
    branch = frozen.thaw()
    kind, payload = message(branch)
    pid = struct.unpack("=qq", payload)[0]
    assert eval(branch.recv(1000)) == [1, pid, 2]
""")


def test_the_random_module_continues_as_the_original_would() -> None:
    """CPython reseeds it in every forked child; a branch is no new beginning."""
    run("""
import random
random.seed(5); random.random(); state = random.getstate()
frozen = Frozen()
if frozen.result is not None:
    socket.socket(fileno=frozen.result).send(repr(random.random()).encode()); os._exit(0)
frozen.hello(); branch = frozen.thaw(); message(branch)
assert eval(branch.recv(100)) == random.random()
""")


def test_the_collector_of_a_branch_copies_nothing_that_it_inherited(server: Server) -> None:
    main = server.branch("main")
    main.call("grow", 300_000)
    assert main.call("collect") < 4096  # its own objects are its own pages: nothing to copy
    branch = main.snapshot().branch()
    copied = branch.call("collect")
    assert copied < 4096, "the lists take some 20 MiB, and looking at one writes to its header"


@pytest.mark.parametrize("what", ["abort", "raise"])
def test_abort_and_raise_hit_the_branch_and_not_its_origin(server: Server, serve: Serve, what: str) -> None:
    """A raw clone must refresh the thread id that glibc keeps, or the signal goes to the parent."""
    with serve("tests.simulations.trouble:Trouble").connect() as trouble:
        branch = trouble.branch("main").branch()
        with pytest.raises(Exception, match="SIGABRT" if what == "abort" else "told to raise"):
            branch.call("fail", what)
        assert trouble.branch("main").step().step == 1
        assert trouble.snapshot("root").info().state == "idle"


@pytest.mark.parametrize("refused", ["clone3", "PR_GET_TID_ADDRESS"])
def test_where_the_kernel_refuses_cells_are_forked_twice_and_still_the_servers_children(
    serve: Serve, refused: str
) -> None:
    process = serve("tests.simulations.walk:Walk", prefix=(*REFUSE, refused, "--"))
    with process.connect() as server:
        assert server.spec().fork == f"fork · {refused} is refused"
        main = server.branch("main")
        main.step(3)
        snapshot = main.snapshot()
        expected = main.step(4).outputs
        branch = snapshot.branch()
        who = branch.call("process")
        assert who["parent"] == process.pid
        assert who["pid"] == who["thread"] == branch.info().pid
        assert branch.step(4).outputs == expected
        os.kill(branch.info().pid, signal.SIGKILL)
        assert_settles(lambda: branch.info().death, "killed by SIGKILL")
        main.reset()
        assert main.step().step == 1


def test_snapshots_are_read_through_proc_where_process_vm_readv_is_refused(serve: Serve) -> None:
    with serve("tests.simulations.walk:Walk", prefix=(*REFUSE, "process_vm_readv", "--")).connect() as server:
        main = server.branch("main")
        main.step(5)
        snapshot = main.snapshot()
        main.step()
        assert int(snapshot.read("count")) == 5
        assert snapshot.read("position", (slice(0, 10, 3),)).shape == (4,)
        assert snapshot.diff(main)["count"].changed == 1


def test_private_pages_are_found_without_pagemap_scan(serve: Serve) -> None:
    options = {"params": {"nbytes": 8 << 20}, "prefix": (*REFUSE, "PAGEMAP_SCAN", "--")}
    with serve("tests.simulations.memory:Big", **options).connect() as server:
        main = server.branch("main")
        main.step(inputs={"pages": 13})
        assert {node.name: node.private_bytes for node in server.tree(sizes=True)}["main"] == 13 * 4096
        assert server.diff("root", "main")["memory"].changed == 13
