"""``mprotect``: the region is write-protected, and a signal handler copies each page before it is first written.

Taking a snapshot maps the region's file once more and protects the region (mprotect(2)); the first write to a
page then raises SIGSEGV, and the handler has every open snapshot take a copy of that page before it lets the
write go on.

So a snapshot of the live region costs two system calls, and each further one that is open costs a copy of every
page that is written. There is no snapshot of a snapshot: the pages of a snapshot that were not copied yet are
the live file's, and a writable copy of them would need, for each page, the list of all who still share it. That
list is what the mechanism ``remap`` keeps, and what the kernel keeps for fork.

Each page that is written alone splits the protected area in two, so the number of areas grows with them, up to
vm.max_map_count. When no more can be had, all pages are copied at once and the region becomes one area again.
System calls that write to a protected page (read(2) into it, say) fail with EFAULT: they raise no signal.
"""

from __future__ import annotations

from snapserv.ext import guards

from .base import Mechanism, Region
from .guarded import GuardedRegion


class Mprotect(Mechanism):
    """Write protection and a signal handler."""

    name = "mprotect"
    summary = "write protection, and a SIGSEGV handler that copies pages before they are written"
    copies_of_copies = False
    shares_pages = True
    writers = True
    needs = "a SIGSEGV handler in the process"

    @classmethod
    def make(cls, size: int) -> Region:
        """Return a region that is a shared mapping of a memfd."""
        return MprotectRegion(size, cls.admit(size))


class MprotectRegion(GuardedRegion):
    """A live region."""

    guard = guards.ProtectedGuard
