"""What a host that is gone had live, as the store has it: plain reading, by whoever brings it back.

Servers write down what they have live in their sessions (docs/store.md); each session of a cluster's says which
host of it that is. So nobody keeps a second book of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..store.format import Live, Node, Session
from ..store.framing import pack_object
from ..store.keys import of_session
from ..store.reader import Store
from .facts import LostBranch


def sessions_of(store: Store, uid: str) -> dict[int, list[Session]]:
    """Return the sessions of a cluster's hosts by their numbers, of each the latest first."""
    found: dict[int, list[Session]] = {}
    for session in store.sessions(damaged=[]):
        of, _, number = session.member.rpartition("/")
        if of == uid:
            found.setdefault(int(number), []).append(session)
    return found


def is_over(session: Session) -> bool:
    """Return whether a server has ended, as far as this machine can tell: in order, or it was a process here."""
    if session.ended:
        return True
    if session.host != socket.gethostname() or session.boot != _boot():
        return False
    try:
        stat = Path(f"/proc/{session.pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return int(stat[19]) != session.started or stat[0] in "ZX"


def lost_branches(store: Store, sessions: list[Session]) -> list[LostBranch]:
    """Return what the last of a host's sessions had live."""
    last, *_ = sessions
    heads = {uid: store.nodes(uid, damaged=[]) for uid in last.trees}
    known = {each.uid for each in sessions}
    return [
        LostBranch(live.name, _newest(live, heads.get(live.tree, []), known) or live.snapshot, live.step, live.tags)
        for live in last.live
    ]


def end_sessions(store: Store, sessions: Iterable[Session]) -> None:
    """Write that nobody needs to go on with these sessions: somebody has."""
    for session in sessions:
        session.ended, session.live = True, []
        store.blobs.put(of_session(session.uid), pack_object(session))


def snapshots_of(store: Store, tree: str, sessions: Iterable[Session]) -> dict[str, str]:
    """Return the ``uid`` of each snapshot that servers of these sessions have saved, by its name and tags."""
    uids, found = {each.uid for each in sessions}, dict[str, str]()
    for node in store.nodes(tree, damaged=[]):
        if node.facts.get("session") in uids:
            found |= dict.fromkeys((node.name, *node.tags), node.uid)
    return found


def _newest(live: Live, heads: Iterable[Node], sessions: set[str]) -> str | None:
    """Return the newest snapshot that was taken of a branch since that came to where it went on from."""
    since = live.facts.get("since", 0)
    found = sorted((head.facts.get("id", 0), head.uid) for head in heads if _is_of(head.facts, live.name, sessions))
    return next((uid for number, uid in reversed(found) if number > since), None)


def _is_of(facts: Mapping[str, object], branch: str, sessions: set[str]) -> bool:
    return facts.get("taken_of") == branch and facts.get("session") in sessions


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"pid {os.getpid()}"
