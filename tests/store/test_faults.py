"""A full disk, a network that is cut, writers that are killed, and many of them at once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from snapserv_client.errors import StoreUnavailableError
from snapserv_client.store import open_store

from snapserv.store import marks
from snapserv.store.collecting import collect
from snapserv.store.locks import held
from snapserv.store.verifying import verify
from snapserv.store.writing import StoreWriter

from ..conftest import ROOT
from . import making
from .making import START
from .object_store import Way

GENERATOR = np.random.default_rng(1)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 1 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", tmp_path], check=True)
    yield tmp_path / "store"
    subprocess.run(["umount", tmp_path], check=True)


def test_a_full_disk_is_an_error_and_what_was_there_is_sound(small: Path) -> None:
    writer = StoreWriter(small)
    tree = making.tree_of()
    pages = making.some_pages(GENERATOR, 20)
    with writer.saving() as saving:
        node = making.save(saving, tree, "s1", pages)
    much = GENERATOR.integers(0, 256, (400, 4096), np.uint8)
    with writer.saving() as saving, pytest.raises(StoreUnavailableError) as raised:
        making.save(saving, tree, "s2", much)
    assert raised.value.details["reason"] == "full"
    assert writer.blobs.entries("temporary/") == []
    # To the last page: heads fail as well, and those that were there stay as they are.
    _fill(small / "ballast")
    node.tags = ["best"]
    with pytest.raises(StoreUnavailableError):
        writer.put_node(node)
    assert open_store(small).node("s1").tags == []
    (small / "ballast").unlink()
    writer.put_node(node)
    assert open_store(small).node("best").uid == node.uid
    assert open_store(small).read(node, START, pages.size) == pages.tobytes()
    assert verify(open_store(small)).damage == []


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


@pytest.mark.parametrize("after", [0, 1000, 200_000, 400_000])
def test_a_network_that_is_cut_in_a_save_is_an_error_and_the_next_save_works(
    in_bucket: Callable[[], StoreWriter], way: Way, after: int
) -> None:
    writer = in_bucket()
    tree = making.tree_of()
    first, second = making.some_pages(GENERATOR, 200), making.some_pages(GENERATOR, 200)
    with writer.saving() as saving:
        node = making.save(saving, tree, "s1", first)
    way.cut(after)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError) as raised, writer.saving() as saving:
        making.save(saving, tree, "s2", second)
    assert raised.value.details["reason"] == "network"
    assert time.monotonic() - began < 30
    way.mend()
    assert [each.name for each in writer.store.nodes()] == ["s1"]
    with writer.saving() as saving:
        later = making.save(saving, tree, "s2", second, node)
    assert writer.store.read(later, START, second.size) == second.tobytes()
    assert writer.store.read(node, START, first.size) == first.tobytes()
    assert verify(writer.store).damage == []


def test_a_store_that_never_answers_is_given_up(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            open_store("s3://bucket/silent", timeout_s=1.0)
        assert time.monotonic() - began < 15


def test_a_bucket_that_is_not_there_or_closed_is_said(way: Way) -> None:
    with pytest.raises(StoreUnavailableError) as raised:
        StoreWriter("s3://nobodys-bucket/store", timeout_s=2.0)
    assert raised.value.details["reason"] == "refused"


def test_who_could_not_tell_that_it_saves_names_nothing(
    in_bucket: Callable[[], StoreWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, tree = in_bucket(), making.tree_of()
    with writer.saving() as saving:
        saving.put_tree(tree)
        image = saving.put_image(making.image_of(1, [], making.runs_of([])))
        monkeypatch.setattr(marks, "TRUSTED_S", 0.0)
        with pytest.raises(StoreUnavailableError):
            saving.put_node(making.node_of(tree, image, "s1"))
    assert writer.store.nodes() == []


def test_the_mark_of_a_killed_writer_counts_for_a_while_and_goes(
    in_bucket: Callable[[], StoreWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = in_bucket()
    marks.Mark(writer.blobs, "save")
    marks.Mark(writer.blobs, "collect")
    for purpose in ("save", "collect"):
        with pytest.raises(StoreUnavailableError), held(writer.blobs, purpose, 0.0):  # type: ignore[arg-type]
            pass
    assert len(writer.blobs.entries("locks/")) == 2
    monkeypatch.setattr(marks, "LEASE_S", 1.0)
    monkeypatch.setattr("snapserv.store.collecting.LEASE_S", 1.0)
    time.sleep(4)
    with writer.saving(wait_s=0):
        pass
    collect(writer, wait_s=0)
    assert writer.blobs.entries("locks/") == []


KILLED = """
import os, random, signal, sys, time
import numpy as np
from snapserv.store.collecting import collect
from snapserv.store.writing import StoreWriter
from tests.store import making

path, rounds = sys.argv[1], int(sys.argv[2])
random.seed(int(sys.argv[3]))
for number in range(rounds):
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        writer = StoreWriter(path)
        generator = np.random.default_rng(number)
        tree = making.tree_of(f"tree{number}")
        node, count = None, 0
        while True:
            pages = making.some_pages(generator, 30)
            with writer.saving() as saving:
                node = making.save(saving, tree, f"s{count}", pages, node, outputs=count)
                scratch = making.save(saving, making.tree_of("scratch"), "x", pages[:2])
            os.write(tell, f"{number} {count} {node.uid}\\n".encode())
            count += 1
            writer.remove_node(scratch.tree, scratch.uid)
            collect(writer)
    os.close(tell)
    for _ in range(random.choice([0, 1, 1, 2, 5])):
        os.write(1, os.read(told, 1 << 16))
    time.sleep(random.uniform(0.0, 0.08))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while said := os.read(told, 1 << 16):
        os.write(1, said)
    os.close(told)
"""


def run(code: str, *given: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, given)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_killed_writer_leaves_what_it_had_acknowledged_and_nothing_broken(tmp_path: Path) -> None:
    rounds = 40
    with run(KILLED, tmp_path / "store", rounds, 7) as process:
        said, _ = process.communicate()
    assert process.returncode == 0
    acknowledged = [line.split() for line in said.splitlines()]
    assert len({line[0] for line in acknowledged}) > rounds / 2
    writer = StoreWriter(tmp_path / "store")
    assert verify(writer.store).damage == []
    nodes = {node.uid: node for node in writer.store.nodes()}
    streams = {number: np.random.default_rng(number) for number in range(rounds)}
    for number, count, uid in acknowledged:
        pages = making.some_pages(streams[int(number)], 30)
        assert nodes[uid].outputs == int(count)
        assert writer.store.read(nodes[uid], START, pages.size) == pages.tobytes()
        assert len(writer.store.lineage(nodes[uid])) == int(count) + 1
    own = [node for node in nodes.values() if node.name != "x"]
    assert len(own) - len(acknowledged) <= rounds  # a head that was written, and of which nobody was told
    left = writer.blobs.entries("temporary/")
    found = collect(writer)
    assert set(found.removed) >= {entry.key for entry in left}
    assert writer.blobs.entries("temporary/") == []
    assert verify(writer.store).nodes == len(nodes)
    assert verify(writer.store).damage == []


BUSY = """
import random, sys
import numpy as np
from snapserv.store.writing import StoreWriter
from snapserv_client.errors import NotFoundError
from tests.store import making

writer, seed = StoreWriter(sys.argv[1]), int(sys.argv[2])
random.seed(seed)
generator = np.random.default_rng(seed)
tree, mine = making.tree_of(f"tree{seed}"), []
for saved in range(int(sys.argv[3])):
    with writer.saving() as saving:
        others = writer.store.nodes()
        if others and random.random() < 0.7:  # name again what somebody else saved, and may just have removed
            image = random.choice(others).image
            writer.store.image(image)
            saving.put_tree(tree)
            node = making.node_of(tree, saving.put_image(writer.store.image(image)), f"s{saved}")
            saving.put_node(node)
        else:
            node = making.save(saving, tree, f"s{saved}", making.some_pages(generator, 5))
        mine.append(node)
    while len(mine) > 3:
        gone = mine.pop(random.randrange(len(mine)))
        writer.remove_node(gone.tree, gone.uid)
print(*(node.uid for node in mine))
"""


def work_on(writer: StoreWriter, rounds: int) -> None:
    """Have two processes save, name and remove the same things, and collect meanwhile."""
    removed = 0
    processes = [run(BUSY, writer.blobs.url, seed, rounds) for seed in (1, 2)]
    try:
        while any(process.poll() is None for process in processes):
            removed += len(collect(writer, grace_s=0).removed)
            time.sleep(0.02)
    finally:
        said = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert removed > 0
    assert {node.uid for node in writer.store.nodes()} == {uid for words in said for uid in words}
    for node in writer.store.nodes():
        writer.store.read(node, START, 4096)
    found = verify(writer.store)
    assert (found.damage, found.strange) == ([], [])


def test_two_writers_and_a_collector_do_each_other_no_harm_in_a_folder(tmp_path: Path) -> None:
    work_on(StoreWriter(tmp_path / "store"), 25)


def test_two_writers_and_a_collector_do_each_other_no_harm_in_a_bucket(
    in_bucket: Callable[[], StoreWriter],
) -> None:
    writer = in_bucket()
    work_on(writer, 10)
    assert writer.blobs.entries("locks/") == []
