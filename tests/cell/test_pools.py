"""Whose threads they are that keep a simulation from being forked, by what started them and by their names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from snapserv.nodes.process_table import cell_environment

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="builds a library that starts a thread")

LIBRARY = """
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>
static void *wait_for_work(void *busy) { while (busy) ; for (;;) pause(); }
void start(const char *name) {
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_work, NULL);
    if (name) pthread_setname_np(thread, name);
}
"""

REFUSED = """
import ctypes, sys
{code}
from snapserv.cell.threads import refuse_threads
from snapserv.errors import ThreadsRunningError
try:
    refuse_threads()
except ThreadsRunningError as refused:
    print(refused.details["owners"][-1], refused.details["names"][-1], refused.message, refused.hint, sep="|")
else:
    print("|||")
"""


def refused(code: str) -> list[str]:
    """Return whose the last thread is, its name, the message and the hint, in a process that runs ``code``."""
    run = subprocess.run(
        [sys.executable, "-c", REFUSED.format(code=code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env=cell_environment(),
    )
    return run.stdout.strip().split("|")


def built(folder: Path, name: str) -> Path:
    """Return a library of that name that starts a thread, as a pool does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pool.c").write_text(LIBRARY)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-pthread", "-o", name, "pool.c"], cwd=folder, check=True)
    return folder / name


@needs_cc
@pytest.mark.parametrize(
    ("library", "owner", "cure"),
    [
        ("libscipy_openblas64_-32a4.so", "OpenBLAS", "OpenBLAS: OPENBLAS_NUM_THREADS=1"),
        ("libgomp.so.1.0.0", "OpenMP", "OMP_NUM_THREADS=1"),
        ("libiomp5.so", "OpenMP", "OMP_NUM_THREADS=1"),
        ("libmkl_intel_thread.so", "MKL", "MKL_NUM_THREADS=1"),
        ("workqueue.cpython-311-x86_64-linux-gnu.so", "numba", "NUMBA_NUM_THREADS=1"),
        ("libtbb.so.12", "TBB", "NUMBA_THREADING_LAYER=workqueue"),
        ("libtorch_cpu.so", "torch", "torch.set_num_threads(1)"),
        ("_polars_runtime.abi3.so", "Polars", "Polars: no cure is known"),
        ("libarrow.so.2600", "Arrow", "JE_ARROW_MALLOC_CONF=background_thread:false"),
        ("libjvm.so", "the Java virtual machine", "no cure is known"),
        ("libOpenMM.so", "OpenMM", "OpenMM: they end with the Context"),
        ("libhomegrown.so", "libhomegrown.so", "libhomegrown.so: no cure is known"),
    ],
)
def test_a_pool_is_told_by_the_library_that_started_it(tmp_path: Path, library: str, owner: str, cure: str) -> None:
    path = built(tmp_path, library)
    whose, _, message, hint = refused(f"ctypes.CDLL({str(path)!r}).start(None)")
    assert whose == owner
    assert f" of {owner})" in message
    assert cure in hint


@needs_cc
def test_a_library_that_nobody_knows_is_told_by_the_package_that_brings_it(tmp_path: Path) -> None:
    path = built(tmp_path / "site-packages" / "tidal.libs", "libflow-1f2e.so")
    whose, _, _, hint = refused(f"ctypes.CDLL({str(path)!r}).start(None)")
    assert whose == "tidal"
    assert "tidal: no cure is known" in hint


@needs_cc
@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("jemalloc_bg_thd", "jemalloc"),
        ("polars-0", "Polars"),
        ("numba-worker", "numba"),
        ("SDLTimer", "SDL"),
        ("ZMQbg/IO/0", "ZeroMQ"),
        ("tokio-rt-worker", "a pool of Rust's"),
        ("tf_XLAEigen/1", "XLA (JAX)"),
    ],
)
def test_a_thread_that_is_named_for_its_pool_is_told_by_its_name(tmp_path: Path, name: str, owner: str) -> None:
    path = built(tmp_path, "libcore.so")
    whose, told, _, _ = refused(f"ctypes.CDLL({str(path)!r}).start({name.encode()!r})")
    assert (whose, told) == (owner, name)


def test_a_thread_of_pythons_is_told_by_the_file_that_it_runs(tmp_path: Path) -> None:
    (tmp_path / "brewing.py").write_text(
        "import threading\n"
        "def brew(): threading.Event().wait()  # for ever\n"
        "threading.Thread(target=brew, name='kettle', daemon=True).start()\n"
    )
    whose, name, message, hint = refused(f"sys.path.insert(0, {str(tmp_path)!r}); import brewing")
    assert (whose, name) == ("brewing.py", "kettle")
    assert "kettle of brewing.py" in message
    assert "threads of your own must end" in hint


def test_one_thread_is_not_refused() -> None:
    assert refused("pass") == ["", "", "", ""]


def test_the_allocator_that_pandas_brings_along_has_no_thread() -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    assert refused("import pandas; pandas.DataFrame({'name': ['a', 'b']}).name.str.upper()") == ["", "", "", ""]
