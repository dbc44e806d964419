"""A real object store on loopback, in a process of its own, and a way to it that can be cut."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

SERVER = """
import sys
from moto.server import ThreadedMotoServer
import boto3
server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
server.start()
_, port = server.get_host_and_port()
boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1").create_bucket(Bucket="bucket")
print(port, flush=True)
sys.stdin.read()
"""
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@contextlib.contextmanager
def object_store(environment: dict[str, str]) -> Iterator[int]:
    """Run an object store with a bucket called ``bucket``; yield its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


class Way:
    """A way to a port of this machine, by another one, that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open = list[socket.socket]()
        self._threads = list[threading.Thread]()
        self._cut_after: int | None = None
        self._passed = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._start(self._accept)

    def cut(self, after: int = 0) -> None:
        """Break all connections, and those to come, once so many bytes more have gone to the store."""
        with self._lock:
            self._cut_after = self._passed + after
        if not after:
            self._break()

    def mend(self) -> None:
        """Let connections pass again."""
        with self._lock:
            self._cut_after = None

    def close(self) -> None:
        """End it."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._break()
        for thread in self._threads:
            thread.join(10)

    def _start(self, run: object, *given: object) -> None:
        thread = threading.Thread(target=run, args=given, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self._is_cut(0):
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._to))
            self._open += [near, far]
            self._start(self._pass, near, far, True)
            self._start(self._pass, far, near, False)

    def _pass(self, one: socket.socket, other: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                if self._is_cut(len(data) if counts else 0):
                    self._break()
                    break
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _is_cut(self, more: int) -> bool:
        with self._lock:
            self._passed += more
            return self._cut_after is not None and self._passed >= self._cut_after

    def _break(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
