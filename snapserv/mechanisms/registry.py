"""The mechanisms by name, in the order in which they are presented."""

from __future__ import annotations

from .base import Mechanism
from .copy import Copy
from .fork import Fork
from .ksm import Ksm
from .mprotect import Mprotect
from .reflink import Reflink, ReflinkXfs
from .remap import Remap, RemapFilePages
from .rewire import Rewire
from .uffd import Uffd, UffdAsync

MECHANISMS: dict[str, type[Mechanism]] = {
    mechanism.name: mechanism for mechanism in (Copy, Fork, Rewire, Mprotect, Remap, Ksm, Reflink, Uffd)
}
"""By name, in the order in which they are presented."""

VARIANTS: dict[str, type[Mechanism]] = {
    mechanism.name: mechanism for mechanism in (RemapFilePages, ReflinkXfs, UffdAsync)
}
"""Other ways to do one of them: by another system call, on another file system, without a thread."""
