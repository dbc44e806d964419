"""A file system mounted nowhere: reached through one descriptor, and gone with the last one that needs it."""

import os

from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport errno

cdef extern from *:
    """
    #include <sys/syscall.h>
    #include <unistd.h>

    /* linux/mount.h and the system call numbers, which not every distribution's headers have. */
    #ifndef SYS_fsopen
    #define SYS_fsopen 430
    #define SYS_fsconfig 431
    #define SYS_fsmount 432
    #endif
    enum { SET_STRING = 1, CMD_CREATE = 6, CLOSE_ON_EXEC = 1 };

    static int fs_open(const char *kind) { return (int)syscall(SYS_fsopen, kind, CLOSE_ON_EXEC); }
    static int fs_set(int context, const char *key, const char *value)
    {
        return (int)syscall(SYS_fsconfig, context, SET_STRING, key, value, 0);
    }
    static int fs_create(int context) { return (int)syscall(SYS_fsconfig, context, CMD_CREATE, 0, 0, 0); }
    static int fs_mount(int context) { return (int)syscall(SYS_fsmount, context, CLOSE_ON_EXEC, 0); }
    """
    int fs_open(const char *kind) nogil
    int fs_set(int context, const char *key, const char *value) nogil
    int fs_create(int context) nogil
    int fs_mount(int context) nogil
    int syncfs(int descriptor) nogil


def mount_detached(kind: str, source: str) -> int:
    """Mount a block device where no path leads to, and return a descriptor of its root folder.

    The file system is unmounted when that descriptor is closed, and every file of it, and every mapping of those:
    so also when the process is killed. See fsopen(2), fsconfig(2) and fsmount(2), Linux 5.2.

    Raises:
        OSError: ``filename`` names the step that the kernel refused.
    """
    encoded_kind, encoded_source = kind.encode(), source.encode()
    cdef const char *name = encoded_kind
    cdef const char *device = encoded_source
    cdef int context, root = -1, number = 0
    step = "fsopen"
    with nogil:
        context = fs_open(name)
        if context < 0:
            number = errno
    if not number:
        step = "fsconfig"
        with nogil:
            if fs_set(context, "source", device) < 0 or fs_create(context) < 0:
                number = errno
    if not number:
        step = "fsmount"
        with nogil:
            root = fs_mount(context)
            if root < 0:
                number = errno
    if context >= 0:
        os.close(context)
    if number:
        raise OSError(number, os.strerror(number), f"{step} {kind}")
    return root


def sync(descriptor: int) -> None:
    """Write all that is dirty of a file system to its disk (syncfs(2)).

    Raises:
        OSError: It could not be written.
    """
    cdef int of = descriptor, result
    with nogil:
        result = syncfs(of)
    if result < 0:
        PyErr_SetFromErrno(OSError)
