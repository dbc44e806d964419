"""snapserv's client. `connect` talks to a server, `local` starts a private one, `aio` is for asyncio.

Names are imported on first use: the processes that hold simulations import this package's protocol and must
not load ZeroMQ, which does not survive a fork.
"""

from __future__ import annotations
