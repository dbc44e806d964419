"""The first process of the other machine: it goes on with a store there, and says on the console what it found.

It has only what `guest.py` has put there.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
import traceback

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


def main(told):
    began = time.monotonic()
    os.environ["PYTHONPATH"] = ":".join(told["path"])
    sys.path[:0] = told["path"]
    ready, write = os.pipe()
    log = open("/run/log", "wb")
    server = subprocess.Popen(
        [sys.executable, "-P", "-c", SERVE, str(write)], pass_fds=[write], stdout=log, stderr=log
    )
    os.close(write)
    from snapserv_client import connect  # while the server starts

    found = {"kernel": os.uname().release, "booted_s": began, "imported_s": time.monotonic() - began}

    with os.fdopen(ready) as answer:
        line = answer.readline()
    found |= {"ready": json.loads(line or "null"), "ready_s": time.monotonic() - began}
    try:
        if line and "error" not in found["ready"]:
            with connect("ipc:///run/s.sock", timeout_s=60.0) as client:
                found.update(look(client, told))
                client.shutdown()
            found["ended"] = server.wait(30)
    finally:
        server.kill()
        with open("/run/log") as written:
            found["log"] = written.read().splitlines()
    found["traps"] = traps()
    found["all_s"] = time.monotonic() - began
    return found


def traps():
    """Return what the kernel says of processes that it has ended, and where they were."""
    with open(
        "/dev/kmsg", "rb", buffering=0, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)
    ) as said:
        lines = []
        while True:
            try:
                lines.append(said.read(8192).decode(errors="replace"))
            except (BlockingIOError, TypeError, AttributeError):
                return [line for line in lines if "trap" in line]


def look(client, told):
    branch = client.snapshot(told["node"]).branch(name="here")
    outputs = [repr(branch.step(1, **told["inputs"]).outputs) for _ in range(told["ticks"])]
    again = repr(branch.snapshot("later").branch().step(1, **told["inputs"]).outputs)
    with open(f"/proc/{branch.info().pid}/maps") as maps:
        mapped = {line.split(maxsplit=5)[5].strip() for line in maps if "snapserv-file-" in line}
    main = [repr(client.branch("main").step(1, **told["inputs"]).outputs) for _ in range(told["ticks"])]
    return {"outputs": outputs, "main": main, "again": again, "mapped": sorted(mapped)}


if __name__ == "__main__":
    libc = ctypes.CDLL(None)
    for kind, where in (
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
    ):
        os.makedirs(where, exist_ok=True)
        libc.mount(kind.encode(), where.encode(), kind.encode(), 0, b"mode=755" if kind == "tmpfs" else None)
    try:
        with open("/told.json") as file:
            outcome = main(json.load(file))
    except BaseException:
        outcome = {"error": traceback.format_exc()}
    print(BEGIN + json.dumps(outcome) + END, flush=True)
    libc.reboot(RB_AUTOBOOT)
