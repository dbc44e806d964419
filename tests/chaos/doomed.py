"""A client in a process of its own, which steps a branch until it is killed: ``doomed.py ENDPOINT KEYS NODE``."""

from __future__ import annotations

import sys

from snapserv_client import connect


def main(endpoint: str, keys: str, node: str) -> None:
    """Step the branch, one tick a request, and say so after the first."""
    with connect(endpoint, keys=keys, timeout_s=30.0) as server:
        branch = server.branch(int(node))
        branch.step(1, pattern=1)
        print("stepping", flush=True)
        while True:
            branch.step(1, pattern=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
