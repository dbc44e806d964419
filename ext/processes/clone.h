/* The one wrapper that makes processes. Nothing else of snapserv forks. */
#ifndef SNAPSERV_CLONE_H
#define SNAPSERV_CLONE_H

#include <sys/types.h>

enum snapserv_fork_mode {
    SNAPSERV_CLONE3 = 0, /* clone3 with CLONE_PARENT: children are the server's own */
    SNAPSERV_FORK = 1,   /* fork twice; the orphan becomes the child of the nearest subreaper, the server */
};

/* Which primitive this process uses, and in *refused what refused the better one: "" or a system call's name.
 * Probed on each call: a seccomp filter may have been installed since. */
enum snapserv_fork_mode snapserv_fork_mode(const char **refused);

/* Make an ordinary child of the caller. Returns its pid, 0 in the child, -1 with errno. */
pid_t snapserv_clone_child(void);

/* Make a child of the caller's parent (see enum above). Returns a positive number in the caller, 0 in the
 * child, -1 with errno. The number is the child's pid only under SNAPSERV_CLONE3. */
pid_t snapserv_clone_sibling(void);

/* Whether one of these is forking now, in the parent or in what it makes: then it is no fork of the simulator's. */
int snapserv_cloning(void);

#endif
