"""What this kernel and this user can do: facts for ``snapserv doctor``."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.metadata
import os
import platform
import re
import resource
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from snapserv_client.endpoint import socket_folder

from ..errors import SnapservError
from ..ext import fork, memory
from ..folders.probe import Probed
from ..machine.limits import available_bytes
from ..machine.process_limits import process_limits, tightest
from ..memory import backings
from ..memory.arena import Arena
from ..nodes.process_table import ONE_THREAD
from ..server.listening import prepare

Verdict = Literal["ok", "weak", "missing"]

DESCRIPTORS_A_NODE = 1
"""The server holds a socket for every snapshot; a branch has a pidfd too."""
DESCRIPTORS_OF_ITS_OWN = 64
ENOUGH_NODES = 1000
SEGMENT_MIB = 64
PAGEMAP_SCAN = 0xC0606610
"""_IOWR('f', 16, struct pm_scan_arg): the ioctl of Documentation/admin-guide/mm/pagemap.rst."""


class Finding(msgspec.Struct):
    """One thing that was looked at.

    Attributes:
        what: The thing.
        verdict: ``ok``; ``weak``, snapserv runs but worse; ``missing``, it does not run.
        found: What it is like here.
        improve: How to get better; empty where nothing is.
    """

    what: str
    verdict: Verdict
    found: str
    improve: str = ""


class Diagnosis(msgspec.Struct):
    """All findings, and whether snapserv can run."""

    runs: bool
    backing: str
    findings: list[Finding]


def diagnose() -> Diagnosis:
    """Try everything out that snapserv stands on, on this machine and as this user."""
    findings = [
        *_platform(),
        _fork(),
        *_backings(),
        _huge_pages(),
        _pagemap_scan(),
        _private_pages(),
        _reading(),
        _pidfd(),
        _folders(),
        *_limits(),
        _namespaces(),
        _shared_memory(),
        _memory(),
        _overcommit(),
        _monitoring(),
        _sockets(),
        *_packages(),
    ]
    runs = not any(finding.verdict == "missing" for finding in findings)
    try:
        backing = backings.choose().name
    except SnapservError:
        backing = ""
    return Diagnosis(runs, backing, findings)


def _platform() -> Iterator[Finding]:
    release = platform.release()
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if version >= (6, 7):
        yield Finding("kernel", "ok", f"Linux {release}")
    else:
        yield Finding("kernel", "weak", f"Linux {release}", "Linux 6.7 finds private pages with one system call")
    yield Finding("user", "ok", "root" if os.geteuid() == 0 else f"uid {os.geteuid()}")


def _fork() -> Finding:
    mode, reason = fork.mode()
    if mode == "clone3":
        return Finding("fork", "ok", "clone3 with CLONE_PARENT: every cell is the server's own child")
    return Finding("fork", "weak", f"fork() twice and a subreaper: {reason}", "allow it in the seccomp profile")


def _backings() -> Iterator[Finding]:
    used = False
    for backing in backings.probe():
        if backing.available and not used:
            used = True
            verdict: Verdict = "ok" if backing.name == "huge_tmpfs" else "weak"
            yield Finding(f"arena: {backing.name}", verdict, f"used: {backing.reason}", backing.improve)
        elif backing.available:
            yield Finding(f"arena: {backing.name}", "ok", f"not needed: {backing.reason}")
        else:
            yield Finding(f"arena: {backing.name}", "weak", backing.reason, backing.improve)


def _huge_pages() -> Finding:
    folder = "/sys/kernel/mm/transparent_hugepage"
    found = " · ".join(f"{name} {_text(f'{folder}/{name}') or 'unknown'}" for name in ("enabled", "shmem_enabled"))
    if not os.path.isdir(folder):
        return Finding("huge pages", "weak", "not in this kernel", "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE")
    return Finding("huge pages", "ok", found)


def _pagemap_scan() -> Finding:
    # Of no pages: the kernel looks at the arguments, and that is all.
    empty = bytearray(struct.pack("12Q", 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    try:
        with open("/proc/self/pagemap", "rb") as pagemap:
            fcntl.ioctl(pagemap, PAGEMAP_SCAN, empty)
    except OSError as cause:
        reason = "not in this kernel" if cause.errno == errno.ENOTTY else cause.strerror or "refused"
        return Finding("PAGEMAP_SCAN", "weak", f"{reason}: pagemap is read instead, which is slower", "Linux 6.7")
    return Finding("PAGEMAP_SCAN", "ok", "one system call lists the private pages of a segment")


def _private_pages() -> Finding:
    arena = Arena()
    try:
        field = arena.allocate("probe", "u1", (4 * memory.PAGE,))
        arena.seal()
        field[memory.PAGE] = 1
        pages = arena.private_pages()
    finally:
        arena.close()
    if not pages.exact:
        return Finding("private pages", "weak", "without a base image all present pages are counted")
    if pages.count != 1:
        return Finding("private pages", "weak", f"{pages.count} pages were found where 1 was written")
    return Finding("private pages", "ok", "a written page is found, and only that one")


def _reading() -> Finding:
    here = np.arange(8, dtype=np.uint8)
    there = np.zeros(8, np.uint8)
    address = np.array([here.ctypes.data], np.uint64)
    try:
        memory.read_process(os.getpid(), address, 8, there)
    except OSError as cause:
        return Finding(
            "reading snapshots",
            "missing",
            f"neither process_vm_readv nor /proc/PID/mem: {cause.strerror}",
            "allow process_vm_readv in the seccomp profile; kernel.yama.ptrace_scope must be 0 or 1",
        )
    scope = _text("/proc/sys/kernel/yama/ptrace_scope")
    if scope in ("2", "3") and os.geteuid() != 0:
        return Finding("reading snapshots", "missing", f"kernel.yama.ptrace_scope is {scope}", "set it to 0 or 1")
    return Finding("reading snapshots", "ok", "through /proc/PID/mem, base images by process_vm_readv")


def _pidfd() -> Finding:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as cause:
        return Finding("pidfd", "missing", cause.strerror or "refused", "Linux 5.3 or later, and no filter on it")
    return Finding("pidfd", "ok", "the end of every cell is seen at once")


def _folders() -> Finding:
    # In a process of its own, which is in other namespaces afterwards; as a cell, with one thread.
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "snapserv.folders.probe"],
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        check=False,
    )
    try:
        probed = msgspec.json.decode(ended.stdout, type=Probed)
    except msgspec.DecodeError:
        return Finding("branched folders", "weak", f"the probe ended with status {ended.returncode}")
    if not probed.how:
        return Finding("branched folders", "weak", f"cannot be had: {probed.found}", probed.improve)
    return Finding("branched folders", "ok" if probed.how == "overlay" else "weak", probed.found, probed.improve)


def _limits() -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    nodes = max(0, hard - DESCRIPTORS_OF_ITS_OWN) // DESCRIPTORS_A_NODE
    verdict: Verdict = "ok" if nodes >= ENOUGH_NODES else "weak"
    yield Finding(
        "descriptors",
        verdict,
        f"{hard:,}, of which a server takes all that it needs: {nodes:,} snapshots",
        "" if verdict == "ok" else "ulimit -Hn 65536, or LimitNOFILE of the service",
    )
    yield _processes()
    areas = int(_text("/proc/sys/vm/max_map_count") or 0)
    gibibytes = areas * SEGMENT_MIB // 1024
    yield Finding(
        "areas",
        "ok" if areas >= ENOUGH_NODES else "weak",
        f"{areas:,} in a process: an arena of {gibibytes:,} GiB in segments of {SEGMENT_MIB} MiB",
        "" if areas >= ENOUGH_NODES else "sysctl vm.max_map_count=65530",
    )


def _processes() -> Finding:
    limits = process_limits()
    first = tightest(limits)
    if first is None:
        return Finding("processes", "ok", "no limit is known, one a node")
    told = " · ".join(f"{limit.what} {limit.most:,}" for limit in limits if limit.most is not None)
    found = f"{first.room:,} more by {first.what}, one a node: {told}"
    enough = (first.room or 0) >= ENOUGH_NODES
    return Finding("processes", "ok" if enough else "weak", found, "" if enough else first.improve)


def _namespaces() -> Finding:
    """Look whether an ordinary user may have a user namespace, without which it gets no tmpfs of huge pages."""
    most = _text("/proc/sys/user/max_user_namespaces")
    closed = _text("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1"
    cloned = _text("/proc/sys/kernel/unprivileged_userns_clone")
    if os.geteuid() == 0:
        return Finding("user namespaces", "ok", "not needed: root mounts without one")
    if most == "0":
        improve = "sysctl user.max_user_namespaces=10000"
        return Finding("user namespaces", "weak", "user.max_user_namespaces is 0", improve)
    if closed:
        improve = "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with userns"
        return Finding("user namespaces", "weak", "AppArmor keeps them from ordinary users", improve)
    if cloned == "0":
        improve = "sysctl kernel.unprivileged_userns_clone=1"
        return Finding("user namespaces", "weak", "kernel.unprivileged_userns_clone is 0", improve)
    return Finding("user namespaces", "ok", f"{int(most):,} at most" if most else "no limit is known")


def _shared_memory(folder: str = "/dev/shm") -> Finding:
    """Look at the tmpfs of the machine; arenas do not lie in it, but simulators' own files may."""
    try:
        there = os.statvfs(folder)
    except OSError as cause:
        return Finding("shared memory", "ok", f"{folder}: {cause.strerror}; not needed")
    free, size = there.f_bavail * there.f_frsize, there.f_blocks * there.f_frsize
    found = f"{folder}: {free / (1 << 30):.1f} of {size / (1 << 30):.1f} GiB free; arenas have a tmpfs of their own"
    return Finding("shared memory", "ok", found)


def _memory() -> Finding:
    room = available_bytes()
    return Finding("memory", "ok" if room > 1 << 30 else "weak", f"{room / (1 << 30):.1f} GiB available")


def _overcommit() -> Finding:
    if _text("/proc/sys/vm/overcommit_memory") == "2":
        return Finding(
            "overcommit",
            "weak",
            "strict: each cell is charged for the whole arena, though it shares it",
            "sysctl vm.overcommit_memory=0",
        )
    return Finding("overcommit", "ok", "private mappings are charged when they are written")


def _monitoring(threads: Path = Path("/sys/kernel/mm/damon/admin/kdamonds")) -> Finding:
    """Look for DAMON, which asks all processes that share a page whether they used it; clones probably wait."""
    states = []
    for state in threads.glob("*/state"):
        with contextlib.suppress(OSError):
            states.append(state.read_text().strip())
    if "on" in states:
        return Finding(
            "page monitoring",
            "weak",
            "DAMON runs: with thousands of nodes, clones probably wait for it",
            f"echo off > {threads}/N/state, where it is yours to decide",
        )
    return Finding("page monitoring", "ok", "no DAMON thread is known to run")


def _sockets() -> Finding:
    folder = socket_folder()
    try:
        prepare(f"ipc://{folder}/doctor-{os.getpid()}.sock").leave()
    except SnapservError as error:
        return Finding("socket folder", "missing", error.message, error.hint)
    return Finding("socket folder", "ok", f"{folder} ({stat.filemode(folder.stat().st_mode)})")


def _packages() -> Iterator[Finding]:
    try:
        needed = importlib.metadata.requires("snapserv") or []
    except importlib.metadata.PackageNotFoundError:
        needed = []
    always = [re.split(r"[^\w.-]", text)[0] for text in needed if "extra ==" not in text]
    for name in ("snapserv", *always, "matplotlib"):
        advice = "pip install 'snapserv[demo]'" if name == "matplotlib" else f"pip install {name}"
        try:
            yield Finding(f"package {name}", "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            what = "not installed: no demo and no pictures" if name == "matplotlib" else "not installed"
            yield Finding(f"package {name}", "weak", what, advice)


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
