/* What a simulator forks is no cell: it is given nothing that only cells hold. */
#ifndef SNAPSERV_HELPERS_H
#define SNAPSERV_HELPERS_H

/* Have what this process, or a clone of it, forks from now on let go of two descriptors: the server's ledger, by which
 * the next server knows cells, and the socket on which the server talks to this one. In their places it gets /dev/null:
 * the numbers stay taken, so that whatever closes them there closes nothing else. Returns -1 with errno. */
int snapserv_keep_from_children(int ledger);

/* Have what this process leaves behind stay with it: it is the head of a process group of its own, by which its children
 * are known when it is gone, and orphans among its descendants become its children (PR_SET_CHILD_SUBREAPER), also those
 * that meant to be nobody's. Neither is inherited by a clone. Where cells are forked twice they are orphans themselves,
 * for the server to adopt: then it is the group alone. */
void snapserv_answer_for_children(void);

/* Set the adjustment of this process for the OOM killer (proc_pid_oom_score_adj(5)). Returns -1 with errno. */
int snapserv_prefer(int score);

/* Say which the socket is, now that it is another one. Returns -1 with errno. */
int snapserv_control_is(int control);

/* Have clones of this process close a descriptor that is of no use to them, and what it forks let go of it as well. It
 * may be closed here at any time. Returns -1 with errno. */
int snapserv_keep_from_clones(int descriptor);

/* In a clone: close it. */
void snapserv_close_in_clone(void);
/* Say which descriptor leads to a client that has the branch to itself; -1 where none does any more. */
int snapserv_lease_is(int lease);

#endif
