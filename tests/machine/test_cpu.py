"""Libraries can be held to a level of processors, and what was held to one needs no more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from snapserv_client.errors import MachineDiffersError
from snapserv_client.store import open_store

from snapserv.errors import BadRequestError, UnsupportedError
from snapserv.images.machine import refuse_other, this_machine
from snapserv.machine import cpu

from ..conftest import START_WITHIN_S
from ..operations.lives import Lives

WALK = "tests.simulations.walk:Walk"
LOOK = """
import ctypes, glob, importlib, os, numpy
core = importlib.import_module(("numpy._core" if hasattr(numpy, "_core") else "numpy.core") + "._multiarray_umath")
print(" ".join(sorted(name for name in core.__cpu_dispatch__ if core.__cpu_features__[name])))
(library,) = glob.glob(os.path.dirname(numpy.__file__) + ".libs/libscipy_openblas*")
blas = ctypes.CDLL(library)
names = ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename")
(function,) = [getattr(blas, name) for name in names if hasattr(blas, name)]
function.restype = ctypes.c_char_p
print(function().decode())
"""


@pytest.fixture
def lives(short_path: Path) -> Iterator[Lives]:
    found = Lives(short_path)
    yield found
    found.close()


def here(level: str) -> cpu.Level:
    try:
        return cpu.level_of(level)
    except UnsupportedError as error:
        pytest.skip(error.message)


def test_levels_grow() -> None:
    needs = [cpu.flags_of(level) for level in cpu.LEVELS]
    assert needs[0] < needs[1] < needs[2]
    with pytest.raises(BadRequestError, match="x86-64-v9"):
        cpu.flags_of("x86-64-v9")


def test_a_processor_that_lacks_a_level_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    all_but = cpu.flags_of("x86-64-v3") - {"avx2", "fma"}
    monkeypatch.setattr(cpu, "flags", lambda: all_but)
    with pytest.raises(UnsupportedError, match="lacks avx2, fma") as refused:
        cpu.level_of("x86-64-v3")
    assert refused.value.details["lacking"] == ["avx2", "fma"]
    assert cpu.level_of("x86-64-v2") == "x86-64-v2"


@pytest.mark.parametrize("level", cpu.LEVELS)
def test_libraries_choose_no_more_than_the_level(level: str) -> None:
    environment = cpu.held_to(here(level), os.environ)
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env=environment, capture_output=True, text=True, check=True, cwd=os.getcwd()
    )
    chosen, core = done.stdout.splitlines()
    assert set(chosen.split()) <= cpu._allowed_numpy(level)
    assert core == cpu._OPENBLAS[level]


@pytest.mark.skipif(not os.path.exists("/lib64/ld-linux-x86-64.so.2"), reason="no glibc of x86-64")
@pytest.mark.parametrize(("level", "active"), [("x86-64-v2", 4), ("x86-64-v3", 6), ("x86-64-v4", 7)])
def test_glibc_believes_it(level: str, active: int) -> None:
    environment = cpu.held_to(here(level), {})
    command = ["/lib64/ld-linux-x86-64.so.2", "--list-diagnostics"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    if "dl_hwcaps_subdirs_active" not in found:
        pytest.skip("this glibc does not say")
    assert int(found["dl_hwcaps_subdirs_active"], 16) == active
    assert (int(found["x86.cpu_features.preferred.AVX_Fast_Unaligned_Load"], 16) == 0) == (level == "x86-64-v2")


def test_what_an_environment_says_already_is_kept() -> None:
    said = {
        "GLIBC_TUNABLES": "glibc.malloc.check=1:glibc.cpu.hwcaps=-ERMS",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4,X86_V3",
        "HOME": "/nowhere",
    }
    held = cpu.held_to("x86-64-v4", said)
    tunables = held["GLIBC_TUNABLES"].split(":")
    assert tunables[0] == "glibc.malloc.check=1"
    assert len(tunables) == 2
    assert tunables[1].endswith(",-ERMS")
    assert {"X86_V3", "X86_V4"} <= set(held["NPY_DISABLE_CPU_FEATURES"].split())
    assert (held["HOME"], held["LD_BIND_NOW"]) == ("/nowhere", "1")


def test_an_image_of_a_level_needs_that_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    level = here("x86-64-v2")
    held, free = this_machine(level), this_machine()
    assert (held.baseline, free.baseline) == (level, "")
    this_machine.cache_clear()
    monkeypatch.setattr(cpu, "flags", lambda: cpu.flags_of(level))  # a machine that has just that
    try:
        refuse_other(held)
        with pytest.raises(MachineDiffersError, match=r"it lacks .*avx") as refused:
            refuse_other(free)
        assert "--cpu-baseline" in refused.value.hint
        monkeypatch.setattr(cpu, "flags", lambda: cpu.flags_of(level) - {"ssse3"})
        this_machine.cache_clear()
        with pytest.raises(MachineDiffersError, match="it lacks ssse3"):
            refuse_other(held)
    finally:
        this_machine.cache_clear()


def test_only_what_was_set_up_under_it_is_marked(lives: Lives) -> None:
    here("x86-64-v2")
    quiet = ("--durable", "none")
    with lives.begin(WALK, options=quiet) as server:
        server.branch("main").save("free")
    lives.end()
    with lives.begin(options=(*quiet, "--cpu-baseline", "x86-64-v2")) as server:
        server.branch("main").save("still-free")  # it has chosen already
    lives.end()
    with lives.begin(WALK, options=(*quiet, "--cpu-baseline", "x86-64-v2")) as server:
        server.branch("main").save("held")
        server.load("free", "old").branch().save("free-too")
    lives.end()
    with lives.begin(options=quiet) as server:
        server.branch("main").save("still-held")  # and what it has chosen is what it goes on with
    store = open_store(lives.store)
    found = {node.name: store.image(node.image).machine.baseline for node in store.nodes() if "fr" in node.name}
    assert set(found.values()) == {""}
    assert len(found) == 3
    for name in ("held", "still-held"):
        machine = store.image(store.node(name).image).machine
        assert (machine.baseline, set(machine.cpu)) == ("x86-64-v2", cpu.flags_of("x86-64-v2"))


@pytest.mark.parametrize(
    ("level", "hidden", "code"), [("x86-64-v9", "", "bad_request"), ("x86-64-v3", "avx2", "unsupported")]
)
def test_a_server_that_cannot_hold_to_it_does_not_start(tmp_path: Path, level: str, hidden: str, code: str) -> None:
    program = (
        "import sys\nfrom snapserv.machine import cpu\n"
        f"real = cpu.flags()\ncpu.flags = lambda: real - {{{hidden!r}}}\n"
        "from snapserv.cli import main\nsys.exit(main())"
    )
    words = ["serve", WALK, "--endpoint", f"ipc://{tmp_path}/s.sock", "--cpu-baseline", level]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=START_WITHIN_S, check=False
    )
    assert done.returncode != 0
    assert done.stderr.startswith(code), done.stderr
