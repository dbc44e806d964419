"""An object whose first steps need no threads, and which has a pool from then on."""

from __future__ import annotations

import threading


class Pool:
    """It counts, and has begun a thread when it has counted far enough."""

    def __init__(self, begins: int = 1) -> None:
        self.begins, self.count, self.done = begins, 0, threading.Event()

    def step(self) -> dict[str, int]:
        """Count."""
        self.count += 1
        if self.count == self.begins:
            threading.Thread(target=self.done.wait, name="pool-worker", daemon=True).start()
        return {"count": self.count}
