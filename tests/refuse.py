"""Run a command in which the kernel refuses a system call, as the seccomp filters of containers do.

``python -m tests.refuse clone3 -- COMMAND`` makes clone3(2) fail with ENOSYS; ``PR_GET_TID_ADDRESS`` makes that
prctl(2) fail with EINVAL; ``process_vm_readv`` with EPERM, ``process_madvise`` with ENOSYS; ``PAGEMAP_SCAN`` and
``PROCMAP_QUERY`` make these requests of ioctl(2) fail with ENOTTY.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
REFUSE = (sys.executable, "-m", "tests.refuse")
"""What to put before a command: then what is refused, and ``--``."""
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NUMBERS = {
    "x86_64": {"clone3": 435, "prctl": 157, "process_vm_readv": 310, "ioctl": 16, "process_madvise": 440},
    "aarch64": {"clone3": 435, "prctl": 167, "process_vm_readv": 270, "ioctl": 29, "process_madvise": 440},
}
PAGEMAP_SCAN, PROCMAP_QUERY = 0xC0606610, 0xC0686611


def rules(what: str) -> list[tuple[int, int, int, int]]:
    """Return a BPF program: (code, jump if true, jump if false, operand)."""
    numbers = NUMBERS[platform.machine()]
    number, argument, wanted, error = {
        "clone3": (numbers["clone3"], None, 0, 38),
        "process_vm_readv": (numbers["process_vm_readv"], None, 0, 1),
        "PR_GET_TID_ADDRESS": (numbers["prctl"], 16, 40, 22),
        "process_madvise": (numbers["process_madvise"], None, 0, 38),
        "PAGEMAP_SCAN": (numbers["ioctl"], 24, PAGEMAP_SCAN, 25),
        "PROCMAP_QUERY": (numbers["ioctl"], 24, PROCMAP_QUERY, 25),
    }[what]
    if argument is None:
        return [
            (LOAD, 0, 0, 0),
            (JUMP_IF_EQUAL, 0, 1, number),
            (RETURN, 0, 0, ERRNO | error),
            (RETURN, 0, 0, ALLOW),
        ]
    return [
        (LOAD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 3, number),
        (LOAD, 0, 0, argument),
        (JUMP_IF_EQUAL, 0, 1, wanted),
        (RETURN, 0, 0, ERRNO | error),
        (RETURN, 0, 0, ALLOW),
    ]


def install(what: str) -> None:
    """Have the kernel refuse ``what`` from now on, in this process and all that it makes (seccomp(2))."""
    program = b"".join(struct.pack("=HBBI", *rule) for rule in rules(what))
    filters = ctypes.create_string_buffer(program)
    bound = struct.pack("@HP", len(program) // 8, ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, bound, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    split = sys.argv.index("--")
    for name in sys.argv[1:split]:
        install(name)
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])
