"""The first process of the other machine: it goes on with a store there, and says on the console what it found.

It has only what `guest.py` has put there.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
import traceback
from typing import Any

RB_AUTOBOOT = 0x01234567
SERVE = """
import sys
from snapserv.server import logs
from snapserv.server.options import ServeOptions
from snapserv.server.server import serve

logs.configure(as_json=True, quiet=False, verbose=False)
options = ServeOptions([], endpoint="ipc:///run/s.sock", ready_fd=int(sys.argv[1]), store="/store", durable="none")
serve(options, then_exit=True)
"""
"""What `snapserv serve --store /store` does, without the command line, which takes longer to load than all else."""
BEGIN, END = "<<RESULT ", " RESULT>>"
MOUNTED = {"proc": "/proc", "sysfs": "/sys", "devtmpfs": "/dev", "tmpfs": "/run", "tmpfs ": "/tmp"}


def main(told: dict[str, Any]) -> dict[str, Any]:
    """Serve what is in the store, and return what came of it."""
    began = time.monotonic()
    os.environ["PYTHONPATH"] = ":".join(told["path"])
    sys.path[:0] = told["path"]
    ready, write = os.pipe()
    with open("/run/log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE, str(write)], pass_fds=[write], stdout=log, stderr=log
        )
    os.close(write)
    from snapserv_client import connect  # while the server starts

    with os.fdopen(ready) as answer:
        line = answer.readline()
    found = {
        "kernel": os.uname().release,
        "booted_s": began,
        "ready": json.loads(line or "null"),
        "ready_s": time.monotonic() - began,
    }
    try:
        if line and "error" not in found["ready"]:
            with connect("ipc:///run/s.sock", timeout_s=60.0) as client:
                found |= look(client, told)
                client.shutdown()
            found["ended"] = server.wait(30)
    finally:
        server.kill()
        with open("/run/log") as written:
            found["log"] = written.read().splitlines()
    return {**found, "traps": traps(), "all_s": time.monotonic() - began}


def look(client: Any, told: dict[str, Any]) -> dict[str, Any]:
    """Return what a branch of the node puts out, one of a snapshot of that, and the branch that was live."""
    branch = client.snapshot(told["node"]).branch()
    outputs = [repr(branch.step(1).outputs) for _ in range(told["ticks"])]
    again = repr(branch.snapshot("here").branch().step(1).outputs)
    with open(f"/proc/{branch.info().pid}/maps") as maps:
        mapped = {line.split(maxsplit=5)[5].strip() for line in maps if "snapserv-file-" in line}
    main = [repr(client.branch("main").step(1).outputs) for _ in range(told["ticks"])]
    return {"outputs": outputs, "main": main, "again": again, "mapped": sorted(mapped)}


def traps() -> list[str]:
    """Return what the kernel says of processes that did what this processor cannot, and where."""
    lines = []
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    while True:
        try:
            lines.append(os.read(log, 8192).decode(errors="replace"))
        except BlockingIOError:
            return [line for line in lines if "trap" in line]


if __name__ == "__main__":
    libc = ctypes.CDLL(None)
    for name, where in MOUNTED.items():
        os.makedirs(where, exist_ok=True)
        kind = name.strip()
        libc.mount(kind.encode(), where.encode(), kind.encode(), 0, b"mode=755" if kind == "tmpfs" else None)
    try:
        with open("/told.json") as file:
            outcome = main(json.load(file))
    except BaseException:  # noqa: BLE001 - whatever it is, the other machine is told
        outcome = {"error": traceback.format_exc()}
    print(BEGIN + json.dumps(outcome) + END, flush=True)
    libc.reboot(RB_AUTOBOOT)
