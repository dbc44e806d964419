"""What is saved with the files that it stands on comes back where those are missing, or are others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from snapserv_client import Branch
from snapserv_client.errors import MachineDiffersError, NotPortableError
from snapserv_client.store import keys, open_store
from snapserv_client.store.format import Image

from snapserv.store.collecting import collect
from snapserv.store.usage import measure
from snapserv.store.verifying import verify
from snapserv.store.writing import StoreWriter

from .lives import Lives

STANDS = "tests.simulations.standing:Stands"
WALK = "tests.simulations.walk:Walk"
LOOPING = "tests.simulations.replaying:Looping"
TICKS = 10
QUIET = ("--durable", "none")


@pytest.fixture
def lives(short_path: Path) -> Iterator[Lives]:
    found = Lives(short_path)
    yield found
    found.close()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a library of one's own, a copy of one of Python's, and a file to read."""
    import _queue

    folder = tmp_path / "own"
    folder.mkdir()
    shutil.copy(_queue.__file__, folder / "library.so")
    (folder / "data").write_bytes(os.urandom(100_000))
    return folder


def ticks(branch: Branch, count: int = TICKS) -> list[str]:
    return [repr(branch.step(1).outputs) for _ in range(count)]


def image_of(lives: Lives, name: str) -> Image:
    store = open_store(lives.store)
    return store.image(store.node(name).image)


def spoil(folder: Path, how: str) -> None:
    """Have both files be others, or none."""
    for path in (folder / "library.so", folder / "data"):
        if how == "missing":
            path.unlink()
        else:
            path.rename(path.with_suffix(".was"))
            path.write_bytes(b"something else")


def from_store(lives: Lives) -> list[list[str]]:
    lines = [json.loads(line) for line in lives.log.splitlines() if '"files_from_store"' in line]
    return [line["files"] for line in lines]


@pytest.mark.parametrize("how", ["missing", "others"])
def test_it_goes_on_without_its_files_and_lasts_again(lives: Lives, own: Path, how: str) -> None:
    with lives.begin(STANDS, params={"folder": str(own)}, options=QUIET) as server:
        main = server.branch("main")
        main.step(3)
        assert main.save("saved", embed=True).saved[0].embedded
        wanted = ticks(server.snapshot("saved").branch(), 3 * TICKS)
    lives.end()
    spoil(own, how)
    with lives.begin(options=QUIET) as server:
        first = server.snapshot("saved").branch()
        assert ticks(first) == wanted[:TICKS]
        second = server.snapshot("saved").branch()
        assert ticks(second, 2) == wanted[:2]
        saved = first.save("again").saved[0]  # its libraries are known by what they are mapped from
        assert not saved.embedded
        assert from_store(lives) == [[str(own / "data"), str(own / "library.so")]]  # said once
    again = image_of(lives, "again")
    assert {file.path for file in again.files if file.content} == {str(own / "data"), str(own / "library.so")}
    assert again.bases == image_of(lives, "saved").bases
    lives.kill_all()
    with lives.begin(options=QUIET) as server:
        assert ticks(server.snapshot("again").branch(), TICKS) == wanted[TICKS : 2 * TICKS]


def test_without_its_files_it_is_refused(lives: Lives, own: Path) -> None:
    with lives.begin(STANDS, params={"folder": str(own)}, options=QUIET) as server:
        server.branch("main").save("saved")
    lives.end()
    spoil(own, "missing")
    with lives.begin(WALK) as server:
        with pytest.raises(MachineDiffersError, match=r"library\.so: No such file") as refused:
            server.load("saved", "old")
        assert "--embed" in refused.value.hint


def test_what_lasts_already_gets_its_files_afterwards_and_only_those_it_had(lives: Lives, own: Path) -> None:
    with lives.begin(STANDS, params={"folder": str(own)}, options=QUIET) as server:
        main = server.branch("main")
        main.step(3)
        first = main.save("saved")
        assert (first.saved[0].new, first.saved[0].embedded) == (True, False)
        before = image_of(lives, "saved")
        later = server.snapshot("saved").save(embed=True).saved[0]
        assert (later.uid, later.new, later.embedded) == (first.saved[0].uid, True, True)
        after = image_of(lives, "saved")
        assert (after.areas, after.runs, after.kernel) == (before.areas, before.runs, before.kernel)
        assert all(file.content for file in after.files)
        assert not server.snapshot("saved").save(embed=True).saved[0].new  # it is as it was
        main.step(1)
        main.save("second")
        spoil(own, "others")
        with pytest.raises(NotPortableError, match="not what it was when the image was taken") as refused:
            server.snapshot("second").save(embed=True)
        assert [held["why"] for held in refused.value.details["held"]] == ["changed_file"]
        assert server.snapshot("second").info().durable


def test_what_lies_in_a_branched_folder_comes_with_its_layers(lives: Lives, own: Path) -> None:
    """The server sees another file under that name than the process does."""
    options = (*QUIET, "--embed", "--branch-dir", str(own))
    with lives.begin(STANDS, params={"folder": str(own)}, options=options) as server:
        main = server.branch("main")
        main.step(3)
        assert main.save("saved").saved[0].embedded
        wanted = ticks(server.snapshot("saved").branch())
    image = image_of(lives, "saved")
    assert image.files
    assert all(file.content and not file.path.startswith(str(own)) for file in image.files)
    assert [each.content for each in image.descriptors if each.path == str(own / "data")] == [b""]
    lives.kill_all()
    spoil(own, "others")
    with lives.begin(options=QUIET) as server:
        assert ticks(server.snapshot("saved").branch()) == wanted


def test_what_was_done_stands_in_for_an_image_with_files_as_well(lives: Lives) -> None:
    with lives.begin(LOOPING, options=(*QUIET, "--embed")) as server:
        main = server.branch("main")
        main.step(3)
        with pytest.raises(NotPortableError):
            main.save("saved")
        for new in (True, False):
            (saved,) = server.snapshot("saved").save(replay=True).saved
            assert (saved.new, saved.replay, saved.embedded) == (new, True, False)


def test_every_content_is_there_once_is_counted_and_checked_and_stays(lives: Lives, own: Path) -> None:
    for _ in range(2):  # a tree each, of servers that know nothing of each other
        with lives.begin(STANDS, params={"folder": str(own)}, options=(*QUIET, "--embed")) as server:
            server.branch("main").save("saved")
            assert server.branch("main").save("twin").saved[0].embedded
        lives.end()
    writer = StoreWriter(lives.store)
    store = writer.store
    images = [store.image(node.image) for node in store.nodes()]
    contents = {(file.xxh3, file.content) for image in images for file in image.files}
    assert len(contents) == len({xxh3 for xxh3, _ in contents})
    nodes = {node.name: node for node in store.nodes()}
    some = next(file.content for file in images[0].files if file.path.endswith("library.so"))
    (pack,) = store.base(some).packs
    assert collect(writer, dry_run=True).removed == []
    trees = measure(store).trees
    embedded = sum(
        pack.size for sha256 in {content for _, content in contents} for pack in store.base(sha256).packs
    )
    assert sum(tree.shared for tree in trees) >= 2 * embedded  # each of the two needs all of it
    assert all(usage.shared >= embedded for tree in trees for usage in tree.nodes)
    assert verify(store).damage == []
    path = next(lives.store.rglob(pack.sha256.hex()))
    path.unlink()
    damage = {each.key: each.nodes for each in verify(store).damage}
    assert keys.of_node(nodes["saved"].tree, nodes["saved"].uid) in damage[keys.of_content(keys.PACKS, pack.sha256)]


def test_what_was_removed_from_the_store_is_written_again(lives: Lives, own: Path) -> None:
    with lives.begin(STANDS, params={"folder": str(own)}, options=(*QUIET, "--embed")) as server:
        main = server.branch("main")
        main.save("first")
        for name in ("first", "root"):
            node = open_store(lives.store).node(name)
            StoreWriter(lives.store).remove_node(node.tree, node.uid)
        assert collect(StoreWriter(lives.store)).removed
        main.step(1)
        taken = main.snapshot("second")
        server.node("first").drop(force=True)
        assert taken.save(embed=True).saved[0].embedded
        assert verify(open_store(lives.store)).damage == []


def test_the_command_line_says_what_is_embedded(lives: Lives, own: Path) -> None:
    def snapserv(*words: str) -> str:
        command = [sys.executable, "-m", "snapserv", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200"}
        )
        return done.stdout

    with lives.begin(STANDS, params={"folder": str(own)}, options=QUIET):
        assert lives.process is not None
        said = snapserv("save", "main", "--as", "saved", "--embed", "-e", lives.process.endpoint)
        assert "with its files" in said
    said = snapserv("store", "show", "saved", "--store", str(lives.store))
    assert "in the store" in said
    assert "can be brought back" in said
