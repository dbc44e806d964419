"""What of a script puts back what the kernel holds: descriptors, limits, signals, the thread, and its own code."""

from __future__ import annotations

import functools
import os
import resource
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from snapserv_client.store.format import Descriptor, Image

from .places import Places
from .script import CONTROL, FIRST_PARKING, PAGE, PARKING, PARKINGS, SCRIPT, VDSO, Call, Script, Slot, packed, text

OPENED = ("file", "folder", "device", "nameless")
"""Kinds of descriptors that are opened again."""
_PR_SET_NAME, _PR_SET_TIMERSLACK, _PR_SET_MM, _PR_SET_CHILD_SUBREAPER = 15, 29, 35, 36
_PR_SET_MM_MAP = 14
_ARCH_SET_GS, _ARCH_SET_FS = 0x1001, 0x1002
_RSEQ_UNREGISTER = 1
_SIG_SETMASK = 2
_F_DUPFD_CLOEXEC = 1030
_MREMAP_MAYMOVE_FIXED = 3
_NAMES_OF_VDSO = {
    "clock_gettime": 228,
    "gettimeofday": 96,
    "time": 201,
    "getcpu": 309,
    "clock_getres": 229,
    "getrandom": 318,
}
"""Functions that the kernel's own code may have, and the system calls that do the same."""


def close_files(script: Script, image: Image) -> None:
    """Close what a process has open that is the image."""
    for descriptor in image.descriptors:
        if descriptor.kind in OPENED:
            script.call(Call.close, descriptor.number, why=f"closing {descriptor.path}", may_fail=True)


def close_strays(script: Script, image: Image, above: int) -> None:
    """Close all that a new process was started with and that is not the image's."""
    kept = sorted({0, 1, 2, above, above + 1, image.kernel["ledger"]})
    for one, next_one in zip(kept, [*kept[1:], 1 << 32], strict=True):
        if next_one > one + 1:
            script.call(Call.close_range, one + 1, next_one - 1, why="closing what is not its own", may_fail=True)


def put_links(script: Script, image: Image) -> None:
    """Put the control socket and the ledger where they were."""
    control, ledger = image.kernel["control"], image.kernel["ledger"]
    script.call(Call.dup3, CONTROL, control, os.O_CLOEXEC, why="its control socket", into=script.slot())
    for descriptor in image.descriptors:
        if descriptor.kind == "ledger" and descriptor.number != ledger:
            flags = descriptor.flags & os.O_CLOEXEC
            script.call(Call.dup3, ledger, descriptor.number, flags, why="the ledger's other number")


def open_files(script: Script, descriptors: Iterable[Descriptor], above: int, places: Places) -> None:
    """Open what an image has open.

    Relatives may open the same file where it has no name: a frozen process writes to none, and what is cloned of it
    has a copy.
    """
    for descriptor in descriptors:
        if descriptor.kind not in OPENED:
            continue
        path, cloexec = descriptor.path, descriptor.flags & os.O_CLOEXEC
        if descriptor.same_as >= 0:
            script.call(Call.dup3, descriptor.same_as, descriptor.number, cloexec, why=f"opening {path}")
            continue
        found, high = script.slot(), script.slot()
        flags = (descriptor.flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC)) | os.O_CLOEXEC
        place = path
        if descriptor.kind == "nameless":
            flags &= ~(os.O_TMPFILE | os.O_NOFOLLOW)
            place = places.base(descriptor.content)
        elif descriptor.kind == "file":
            place = places.file(path, descriptor.content)
        script.call(Call.open, script.data(text(place)), flags, why=f"opening {path}", into=found)
        # Out of the way first: it may have got the very number that it is to have.
        script.call(Call.fcntl, found, _F_DUPFD_CLOEXEC, above, why=f"opening {path}", into=high)
        script.call(Call.close, found, why=f"opening {path}")
        if descriptor.offset:
            script.call(
                Call.lseek, high, descriptor.offset, why=f"the position in {path}", equals=descriptor.offset
            )
        script.call(Call.dup3, high, descriptor.number, cloexec, why=f"opening {path}")
        script.call(Call.close, high, why=f"opening {path}")


def put_back(script: Script, image: Image) -> None:
    """Put back what prctl(2) and its like have set, and signals, and the thread; and let go of the script."""
    held = image.kernel
    script.call(Call.chdir, script.data(text(image.folder)), why=f"the working folder, {image.folder}")
    script.call(Call.umask, held["umask"], why="umask")
    auxiliary = script.data(held["auxiliary"])
    mm = held["mm"]
    layout = script.data(
        packed("<11Q", *mm[:5], held["brk"], *mm[5:]) + bytes(8) + packed("<Ii", len(held["auxiliary"]), -1)
    )
    script.point(layout + 88, auxiliary)
    size = 12 * 8 + 8
    script.call(Call.prctl, _PR_SET_MM, _PR_SET_MM_MAP, layout, size, why="PR_SET_MM_MAP", may_fail=True)
    script.call(Call.prctl, _PR_SET_NAME, script.data(text(image.name)[:16]), why="PR_SET_NAME")
    script.call(Call.prctl, _PR_SET_TIMERSLACK, held["timer_slack"], why="PR_SET_TIMERSLACK", may_fail=True)
    script.call(Call.prctl, _PR_SET_CHILD_SUBREAPER, held["is_subreaper"], why="PR_SET_CHILD_SUBREAPER")
    for number, (soft, hard) in enumerate(held["limits"]):
        ours = _limit(number)
        if ours is not None and hard:
            wanted = script.data(packed("<QQ", min(soft, ours), ours))
            script.call(Call.prlimit64, 0, number, wanted, 0, why=f"limit {number}", may_fail=True)
    if held["nice"]:
        script.call(Call.setpriority, 0, 0, held["nice"], why="setpriority", may_fail=True)
    _put_back_signals(script, held)
    _put_back_thread(script, held)
    script.call(Call.personality, held["personality"], why="personality", may_fail=True)
    script.call(Call.close, SCRIPT, why="letting go of the script")
    script.call(Call.close, CONTROL, why="the control socket's other number")
    blocked = script.data(packed("<Q", held["blocked"]))
    script.call(Call.rt_sigprocmask, _SIG_SETMASK, blocked, 0, 8, why="the signals that are blocked")


def unregister(script: Script, image: Image) -> None:
    """Have the kernel not write to the thread's control block meanwhile: rseq(2)."""
    held = image.kernel
    if held["rseq"]:
        script.call(
            *(Call.rseq, held["rseq"], held["rseq_size"], _RSEQ_UNREGISTER, held["rseq_signature"]), why="rseq"
        )


def _put_back_signals(script: Script, held: dict[str, Any]) -> None:
    for number, action in enumerate(held["actions"]):
        if number not in (0, 9, 19):
            wanted = script.data(packed("<4Q", *action))
            script.call(Call.rt_sigaction, number, wanted, 0, 8, why=f"signal {number}", may_fail=True)
    alternate = packed("<QiiQ", held["alternate_stack"], held["alternate_flags"] & ~1, 0, held["alternate_size"])
    script.call(Call.sigaltstack, script.data(alternate), why="the signals' stack", may_fail=True)


def _put_back_thread(script: Script, held: dict[str, Any]) -> None:
    thread = script.slot()
    script.call(Call.set_tid_address, held["tid_address"], why="set_tid_address", into=thread)
    script.poke(held["tid_address"], thread, why="the thread's number")
    script.call(Call.set_robust_list, held["robust_list"], held["robust_size"], why="set_robust_list")
    script.call(Call.arch_prctl, _ARCH_SET_FS, held["fs"], why="thread-local storage")
    if held["gs"]:
        script.call(Call.arch_prctl, _ARCH_SET_GS, held["gs"], why="GS")
    if held["rseq"]:
        script.call(Call.rseq, held["rseq"], held["rseq_size"], 0, held["rseq_signature"], why="rseq")


def _limit(number: int) -> int | None:
    """Return the highest value that a limit may have here."""
    try:
        hard = resource.getrlimit(number)[1]
    except ValueError:
        return None
    return hard & ((1 << 64) - 1)


# ------------------------------------------------------------------------------------------- the kernel's own code


class KernelsPages:
    """The code that the kernel puts into each process, [vdso], and the data beside it, [vvar].

    Attributes:
        pieces: Offset from the code, and size, of each mapping.
        code: The bytes of the code.
    """

    def __init__(self, pieces: Sequence[tuple[int, int]], code: bytes) -> None:
        self.pieces = list(pieces)
        self.code = code

    @classmethod
    @functools.cache
    def here(cls) -> KernelsPages:
        """Return what every process on this machine has."""
        found, code = [], (0, 0)
        with open("/proc/self/maps") as maps:
            for line in maps:
                name = line.split()[-1]
                if name == "[vdso]" or name.startswith("[vvar"):
                    start, end = (int(each, 16) for each in line.split()[0].split("-"))
                    found.append((start, end - start))
                    code = (start, end - start) if name == "[vdso]" else code
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(code[0])
            return cls([(start - code[0], size) for start, size in found], memory.read(code[1]))

    @classmethod
    def of(cls, image: Image) -> tuple[KernelsPages, int]:
        """Return what the process had, and where its code began."""
        areas = [area for area in image.areas if area.kind in ("vdso", "vvar")]
        at = next((area.start for area in areas if area.kind == "vdso"), 0)
        return cls([(area.start - at, area.end - area.start) for area in areas], image.vdso), at


def park(script: Script, image: Image) -> int:
    """Put the kernel's pages out of the way of all that the image has; return where its code is then."""
    ours = KernelsPages.here()
    low = min(offset for offset, _ in ours.pieces)
    parking = next(
        place
        for place in range(FIRST_PARKING, FIRST_PARKING + PARKINGS * PARKING, PARKING)
        if not any(place < area.end and area.start < place + PARKING for area in image.areas)
    )
    _move(script, ours, VDSO, parking - low)
    return parking - low


def put_back_kernels(script: Script, image: Image, parked: int, *, jumps: bool = False) -> bool:
    """Have the kernel's code be where the image has it; return whether by moving it there.

    Where this kernel's code is another one, the image's stays as plain memory, in which each function begins with a
    jump to this kernel's; what that lacks becomes the system call.
    """
    ours, (theirs, at) = KernelsPages.here(), KernelsPages.of(image)
    if not at:
        return False
    if ours.pieces == theirs.pieces and ours.code == theirs.code and not jumps:
        _move(script, ours, parked, at)
        return True
    size = -(-len(theirs.code) // PAGE) * PAGE
    code = script.data(_with_jumps(theirs.code, ours.code, parked).ljust(size, b"\0"))
    script.call(Call.mmap, at, size, 3, 0x32, -1, 0, why="the kernel's code", equals=at)
    script.copy(at, code, size, why="the kernel's code")
    script.call(Call.mprotect, at, size, 5, why="the kernel's code")
    return False


def _move(script: Script, pages: KernelsPages, source: Slot | int, target: int) -> None:
    for offset, size in pages.pieces:
        script.call(
            *(Call.mremap, source + offset, size, size, _MREMAP_MAYMOVE_FIXED, target + offset),
            why="moving the kernel's pages",
            equals=target + offset,
        )


def _with_jumps(code: bytes, ours: bytes, ours_at: int) -> bytes:
    """Return a kernel's code in which each function jumps to that of another one."""
    patched, here = bytearray(code), dict(_functions(ours))
    for name, offset in _functions(code):
        if name in here:
            if patched[offset : offset + 4] == b"\xf3\x0f\x1e\xfa":  # endbr64, which an indirect call may need
                offset += 4
            jump = b"\x48\xb8" + struct.pack("<Q", ours_at + here[name]) + b"\xff\xe0"  # mov rax, to; jmp rax
        else:
            number = _NAMES_OF_VDSO.get(name.removeprefix("__vdso_").removeprefix("v"))
            jump = b"\x0f\x0b"  # ud2: nobody calls it
            if number is not None:
                jump = b"\xb8" + struct.pack("<I", number) + b"\x0f\x05\xc3"  # mov eax, number; syscall; ret
        patched[offset : offset + len(jump)] = jump
    return bytes(patched)


def _functions(code: bytes) -> list[tuple[str, int]]:
    """Return the functions that a shared object in memory gives, and where they begin (elf(5))."""
    header, count = struct.unpack_from("<Q", code, 32)[0], struct.unpack_from("<H", code, 56)[0]
    tags: dict[int, int] = {}
    for number in range(count):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", code, header + 56 * number)
        if kind == 2:  # PT_DYNAMIC
            for at in range(offset, offset + size, 16):
                tag, value = struct.unpack_from("<qQ", code, at)
                tags.setdefault(tag, value)
    symbols, names = tags[6], tags[5]
    found = []
    for number in range(_count_symbols(code, tags)):
        name, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", code, symbols + 24 * number)
        if info & 15 in (2, 10) and section and value < len(code):  # STT_FUNC, STT_GNU_IFUNC
            end = code.index(b"\0", names + name)
            found.append((code[names + name : end].decode(), value))
    return found


def _count_symbols(code: bytes, tags: dict[int, int]) -> int:
    if 4 in tags:  # DT_HASH
        return int(struct.unpack_from("<II", code, tags[4])[1])
    buckets, first, bloom, _ = struct.unpack_from("<IIII", code, tags[0x6FFFFEF5])  # DT_GNU_HASH
    at = tags[0x6FFFFEF5] + 16 + 8 * bloom
    last = max(struct.unpack_from(f"<{buckets}I", code, at), default=0)
    chain = at + 4 * buckets
    while last and not struct.unpack_from("<I", code, chain + 4 * (last - first))[0] & 1:
        last += 1
    return last + 1
