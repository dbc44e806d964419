"""Nodes out of a store: loaded into a running server, or all of those that the last server had.

What is loaded is stored at first: it takes its place in the tree, and gets a process when somebody needs it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from typing import Any

import structlog

from ..errors import BadRequestError, NameTakenError, NotFoundError, UnsupportedError
from ..nodes.bringing import new_temporaries
from ..nodes.nodes import Nodes
from ..nodes.tree import Autosnap, NameInUseError, Node, Tree
from .heads import described
from .saving import Saving
from .sessions import started

log = structlog.get_logger(__name__)

ALIVE_WITHIN_S = 60.0
"""For so long after it wrote last, a server on another machine is taken to be running."""


class Loading:
    """What a server takes out of its store.

    Args:
        nodes: The server's nodes.
        saving: Its store.
    """

    def __init__(self, nodes: Nodes, saving: Saving) -> None:
        self._nodes = nodes
        self._saving = saving

    async def load(self, reference: str, *, name: str | None, whole: bool) -> list[Node]:
        """Load a node with its ancestors, or with its whole tree; return what is here now, the node first.

        Args:
            reference: The node in the store: its ``uid``, its name, or ``tree/name``.
            name: What the tree is called here, where it is not here yet; by default as it was.
            whole: Whether to load all of the tree's nodes.

        Raises:
            NotFoundError: The store has no such node.
            NameTakenError: There is a tree of that name, or its tree is here under another one.
            MachineDiffersError: It cannot be brought back here; nothing was loaded.
            StoreDamagedError: It is not what was written; nothing was loaded.
        """
        found, _ = await self._saving.reader.ask("find", node=reference, tree=None, all=whole)
        wanted = next(each for each in found["nodes"] if each["uid"] == found["node"])
        await self._saving.reader.ask("check", image=wanted["image"])
        here = self._tree_here(found["tree"]["uid"])
        if here is not None and name not in (None, here.name):
            raise NameTakenError(f"the node's tree is here already, and is called {here.name!r}")
        if here is None:
            found["nodes"] = await self._with_root(found)
        with self._nodes.ledger.gathering():
            tree = here or self._plant(found["tree"], name or found["tree"]["name"])
            taken = self._take(tree, found["nodes"], root=found["tree"]["root"])
        node = taken[found["node"]]
        return [node, *(each for each in taken.values() if each is not node)]

    async def _with_root(self, found: dict[str, Any]) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = found["nodes"]
        root = found["tree"]["root"]
        if not any(each["uid"] == root for each in nodes):
            more, _ = await self._saving.reader.ask("find", node=root, tree=None, all=False)
            nodes = [*more["nodes"], *nodes]
        return nodes

    async def go_on(self, endpoint: str) -> bool:
        """Take up all that the last server had; return whether there was one.

        That is the last one at this endpoint of this machine or, where there was none, anywhere. Its live branches
        go on from their newest snapshot that lasts, and what they had done since is said.

        Raises:
            BadRequestError: That server runs still.
            SnapservError: Something is damaged, or cannot be brought back here.
        """
        told, _ = await self._saving.reader.ask("sessions")
        sessions = [each for each in told["sessions"] if each.get("trees")]
        if not sessions:
            return False
        here = (told["host"], endpoint)
        last = next((each for each in sessions if (each["host"], each.get("endpoint")) == here), sessions[0])
        if _is_alive(last, told):
            raise BadRequestError(
                f"the server that wrote to {self._saving.store} last runs still: process {last['pid']} of "
                f"{last['host']}",
                hint="go on with it, or end it; or serve a simulation, which begins a tree of its own",
                details={"pid": last["pid"], "host": last["host"]},
            )
        for uid, name in itertools.zip_longest(last["trees"], last.get("names", [])):
            found, _ = await self._saving.reader.ask("find", node=None, tree=uid, all=True)
            with self._nodes.ledger.gathering():
                tree = self._plant(found["tree"], name or found["tree"]["name"])
                taken = self._take(tree, found["nodes"], root=found["tree"]["root"])
            taken[""] = taken[found["tree"]["root"]]
            for live in last.get("live", []):
                if live["tree"] == uid:
                    newest = _newest(live, found["nodes"], last["uid"]) or live["snapshot"]
                    await self._revive(live, taken.get(newest))
        return True

    async def _revive(self, live: Mapping[str, Any], snapshot: Node | None) -> None:
        if snapshot is None:
            log.error("branch_lost", branch=live["name"], step=live["step"], why="no snapshot of it lasts")
            return
        branch = await self._nodes.make_branch(snapshot, name=live["name"], rng="same", silent=True)
        for tag in live.get("tags", []):
            self._nodes.tag(branch, tag, remove=False)
        rule = live.get("facts", {}).get("autosnap")
        branch.autosnap = None if rule is None else Autosnap(**rule)
        self._nodes.note(branch)
        missing = live["step"] - snapshot.step
        if missing > 0:
            log.warning("steps_missing", branch=branch.path, step=snapshot.step, was=live["step"], steps=missing)
            self._nodes.tell("restored", branch, f"step {snapshot.step}; {missing} later steps were not saved")

    def _tree_here(self, uid: str) -> Tree | None:
        for tree in self._nodes.forest.trees.values():
            if self._saving.uid_of(tree) == uid:
                return tree
        return None

    def _plant(self, head: Mapping[str, Any], name: str) -> Tree:
        if head["described"].get("folders") is not None:
            raise UnsupportedError("a tree that branches folders cannot be loaded yet")
        if not head["described"]:
            raise NotFoundError(f"the tree {head['name']} says nothing of how it was served")
        temporaries, said = new_temporaries(self._nodes.processes, head["described"])
        try:
            tree = self._nodes.put_back_tree(
                name,
                {
                    "simulation": head["simulation"],
                    "first": not self._nodes.forest.trees,
                    "root": 0,
                    "described": said,
                },
            )
        except NameInUseError as cause:
            raise NameTakenError(str(cause), hint="load it under another name") from cause
        self._saving.keep_files(tree, temporaries)
        return tree

    def _take(self, tree: Tree, heads: list[dict[str, Any]], *, root: str) -> dict[str, Node]:
        """Put nodes into a tree where they are not there yet; return each by its ``uid``."""
        nodes, there = self._nodes, self._here(tree)
        by_uid = {each["uid"]: each for each in heads}
        for head in sorted(heads, key=lambda each: (each["uid"] != root, each["step"], each["created"])):
            if head["uid"] in there:
                continue
            parent = head.get("parent")
            while parent is not None and parent not in there and parent in by_uid:
                parent = by_uid[parent].get("parent")
            node = nodes.load(tree, head, there.get(parent) if parent is not None else None)
            there[head["uid"]] = node
            self._saving.put(node, described(head))
            if head["uid"] == root:
                tree.root = node.id
            nodes.note(node)
        nodes.note_tree(tree)
        return {uid: there[uid] for uid in by_uid}

    def _here(self, tree: Tree) -> dict[str, Node]:
        return {saved.uid: node for node in tree.names.values() if (saved := self._saving.saved(node)) is not None}


def _newest(live: Mapping[str, Any], heads: Iterable[Mapping[str, Any]], session: str) -> str | None:
    """Return the newest snapshot that a session has taken of a branch since that came to where it went on from."""
    since = live.get("facts", {}).get("since", 0)
    wanted = {"taken_of": live["name"], "session": session}
    found = [
        (head["facts"]["id"], head["uid"]) for head in heads if wanted.items() <= head.get("facts", {}).items()
    ]
    return max((uid for number, uid in sorted(found)[-1:] if number > since), default=None)


def _is_alive(session: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    if session.get("ended"):
        return False
    if session["host"] != told["host"]:
        return bool(time.time() - session["written"] < ALIVE_WITHIN_S)
    return bool(session["boot"] == told["boot"] and started(session["pid"]) == session.get("started", 0))
