"""Mounts that only this process and its descendants see: namespaces, overlays, and folders shown at another path."""

import os

from libc.errno cimport errno

cdef extern from *:
    """
    #include <linux/kcmp.h>
    #include <sched.h>
    #include <sys/mount.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #include <fcntl.h>
    #include <stdint.h>

    /* linux/mount.h and the system call numbers, which not every distribution's headers have. */
    #ifndef SYS_open_tree
    #define SYS_open_tree 428
    #define SYS_move_mount 429
    #define SYS_fsopen 430
    #define SYS_fsconfig 431
    #define SYS_fsmount 432
    #endif
    #ifndef SYS_mount_setattr
    #define SYS_mount_setattr 442
    #endif
    enum { FLAG = 0, STRING = 1, CREATE = 6, FS_CLOEXEC = 1, TREE_CLONE = 1, FROM_EMPTY_PATH = 4, READ_ONLY = 1 };

    static int leave_namespace(int user)
    {
        return unshare(CLONE_NEWNS | (user ? CLONE_NEWUSER : 0));
    }
    static int make_private(void) { return mount(0, "/", 0, MS_REC | MS_PRIVATE, 0); }
    static int fs_open(const char *kind) { return (int)syscall(SYS_fsopen, kind, FS_CLOEXEC); }
    static int fs_set(int context, const char *key, const char *value)
    {
        return (int)syscall(SYS_fsconfig, context, *value ? STRING : FLAG, key, *value ? value : 0, 0);
    }
    static int fs_create(int context) { return (int)syscall(SYS_fsconfig, context, CREATE, 0, 0, 0); }
    static int fs_mount(int context) { return (int)syscall(SYS_fsmount, context, FS_CLOEXEC, 0); }
    static int clone_mount(const char *path)
    {
        return (int)syscall(SYS_open_tree, AT_FDCWD, path, TREE_CLONE | O_CLOEXEC);
    }
    static int set_read_only(int mounted)
    {
        struct { uint64_t set, clear, propagation, user; } attributes = {READ_ONLY, 0, 0, 0};
        return (int)syscall(SYS_mount_setattr, mounted, "", AT_EMPTY_PATH, &attributes, sizeof attributes);
    }
    static int move_mount_to(int mounted, const char *path)
    {
        return (int)syscall(SYS_move_mount, mounted, "", AT_FDCWD, path, FROM_EMPTY_PATH);
    }
    static int unmount(const char *path) { return umount2(path, MNT_DETACH); }
    static int same_file(int a, int b)
    {
        return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, a, b) == 0;
    }
    """
    int leave_namespace(int user)
    int make_private()
    int fs_open(const char *kind)
    int fs_set(int context, const char *key, const char *value)
    int fs_create(int context)
    int fs_mount(int context)
    int clone_mount(const char *path)
    int set_read_only(int mounted)
    int move_mount_to(int mounted, const char *path)
    int unmount(const char *path)
    int same_file(int a, int b)


def unshare(*, user: bool) -> None:
    """Give this process a mount namespace of its own, a copy of the one it had, in which nothing spreads.

    Args:
        user: Whether to make a user namespace as well, in which an ordinary user may mount: the same user and
            group as outside, and no others. Only a process with one thread can (unshare(2)).

    Raises:
        OSError: ``filename`` names the step that the kernel refused.
    """
    uid, gid = os.geteuid(), os.getegid()
    if leave_namespace(user) < 0:
        raise OSError(errno, os.strerror(errno), "unshare")
    if user:
        # In this order: without privilege, groups can be mapped only once setgroups(2) is given up.
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    if make_private() < 0:
        raise OSError(errno, os.strerror(errno), "mount --make-rprivate /")


def unshare_again() -> None:
    """Give this process a copy of the mount namespace that it has and shares with the process it was cloned from.

    Raises:
        OSError: The kernel refused, such as ENOSPC for too many namespaces.
    """
    if leave_namespace(False) < 0:
        raise OSError(errno, os.strerror(errno), "unshare")


def make(kind: str, options: dict[str, str]) -> int:
    """Mount a file system where no path leads to, and return a descriptor of its root folder, for `attach`.

    Args:
        kind: What kind of file system.
        options: As in the kernel's Documentation/filesystems; an empty value for a flag. Each is cut off by the
            kernel at 255 bytes (fsconfig(2)).

    Raises:
        OSError: ``filename`` names the step that the kernel refused.
    """
    cdef int root = -1
    cdef int context = fs_open(kind.encode())
    if context < 0:
        raise OSError(errno, os.strerror(errno), f"fsopen {kind}")
    try:
        for key, value in options.items():
            if fs_set(context, key.encode(), os.fsencode(value)) < 0:
                raise OSError(errno, os.strerror(errno), f"{kind} {key}={value}")
        if fs_create(context) < 0:
            raise OSError(errno, os.strerror(errno), kind)
        root = fs_mount(context)
        if root < 0:
            raise OSError(errno, os.strerror(errno), f"fsmount {kind}")
    finally:
        os.close(context)
    return root


def show(path: str, *, read_only: bool = False) -> int:
    """Return a descriptor of a mount that shows the folder ``path``, for `attach`.

    Raises:
        OSError: ``filename`` names the step that the kernel refused.
    """
    cdef int mounted = clone_mount(os.fsencode(path))
    if mounted < 0:
        raise OSError(errno, os.strerror(errno), f"open_tree {path}")
    if read_only and set_read_only(mounted) < 0:
        number = errno
        os.close(mounted)
        raise OSError(number, os.strerror(number), f"mount_setattr {path}")
    return mounted


def attach(mounted: int, path: str) -> None:
    """Mount at ``path`` what `overlay` or `show` returned; the descriptor stays open.

    Raises:
        OSError: move_mount(2) failed.
    """
    if move_mount_to(mounted, os.fsencode(path)) < 0:
        raise OSError(errno, os.strerror(errno), f"move_mount {path}")


def detach(path: str) -> None:
    """Take the topmost mount away from ``path``; it lives on for whoever has files of it open.

    Raises:
        OSError: umount2(2) failed: nothing of ours is mounted there.
    """
    if unmount(os.fsencode(path)) < 0:
        raise OSError(errno, os.strerror(errno), f"umount {path}")


def same_description(a: int, b: int) -> bool:
    """Return whether two descriptors of this process share one offset (kcmp(2)); False where it cannot be told."""
    return bool(same_file(a, b))
