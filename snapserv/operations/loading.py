"""Nodes out of a store: loaded into a running server, or all of those that the last server had.

What is loaded is stored at first: it takes its place in the tree, and gets a process when somebody needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog
from snapserv_client.store.format import FieldPlace

from ..errors import (
    BadRequestError,
    MachineDiffersError,
    NameTakenError,
    NotFoundError,
    NotPortableError,
    SnapservError,
)
from ..nodes.bringing import new_temporaries
from ..nodes.nodes import Nodes
from ..nodes.tree import Autosnap, NameInUseError, Node, Tree
from ..nodes.turns import Turn
from .heads import fields_of
from .reaching import Ground, Reaching
from .recorded import InThread
from .replaying import OnProgress, say_nothing
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
        in_thread: Runs what takes long without holding up others.
    """

    def __init__(self, nodes: Nodes, saving: Saving, in_thread: InThread) -> None:
        self._nodes = nodes
        self._saving = saving
        self._reaching = Reaching(nodes, saving.reader, in_thread)
        self._replaying = asyncio.Lock()

    async def load(
        self,
        reference: str,
        *,
        name: str | None,
        whole: bool,
        replay: bool = False,
        on_progress: OnProgress = say_nothing,
    ) -> list[Node]:
        """Load a node with its ancestors, or with its whole tree; return what is here now, the node first.

        Args:
            reference: The node in the store: its ``uid``, its name, or ``tree/name``.
            name: What the tree is called here, where it is not here yet; by default as it was.
            whole: Whether to load all of the tree's nodes.
            replay: Whether to do again what was done to those that no image brings here.
            on_progress: Is told how far a replay has come.

        Raises:
            NotFoundError: The store has no such node.
            NameTakenError: There is a tree of that name, or its tree is here under another one.
            MachineDiffersError: It cannot be brought back here; nothing was loaded.
            NotPortableError: It lasts as its recording alone; or it is to be replayed, and there is none.
            RecordingMismatchError: What was done to it does not lead there any more; nothing was loaded.
            StoreDamagedError: It is not what was written; nothing was loaded.
        """
        found, _ = await self._saving.reader.ask("find", node=reference, tree=None, all=whole)
        here = self._tree_here(found["tree"]["uid"])
        if here is not None and name not in (None, here.name):
            raise NameTakenError(f"the node's tree is here already, and is called {here.name!r}")
        if here is None:
            found["nodes"] = await self._with_root(found)
        wanted = {each["uid"] for each in found["nodes"]} if whole else {found["node"]}
        async with self._replaying if replay else contextlib.nullcontext():  # or two would do the same again
            here = self._tree_here(found["tree"]["uid"])
            taken = await self._bring_in(found, here, name, wanted, replay=replay, on_progress=on_progress)
        node = taken[found["node"]]
        return [node, *(each for each in taken.values() if each is not node)]

    async def _bring_in(
        self,
        found: dict[str, Any],
        here: Tree | None,
        name: str | None,
        wanted: set[str],
        *,
        replay: bool,
        on_progress: OnProgress = say_nothing,
    ) -> dict[str, Node]:
        """Put nodes of a tree of the store into this server: all of those that are wanted, or none.

        Others, which are there for the lineage, are left out where they last as recordings alone.
        """
        heads, root = found["nodes"], found["tree"]["root"]
        refused = await self._refused(heads, self._here(here), wanted, replay=replay)
        if not replay:
            for uid in refused:
                if uid in wanted or (uid == root and here is None):
                    raise refused[uid]
                log.info("left_out", uid=uid, why=refused[uid].message)
            refused_heads: list[dict[str, Any]] = []
        else:
            refused_heads = [each for each in heads if each["uid"] in refused]
        images = [each for each in heads if each["uid"] not in refused]
        if here is None and replay and root in refused:
            return await self._set_up(found, name, images, refused_heads, on_progress)
        with self._nodes.ledger.gathering():
            tree = here or self._plant(found["tree"], name or found["tree"]["name"])
            before = set(self._here(tree))
            there = self._take(tree, images, heads, root=root)
        if refused_heads:
            try:
                async with self._reaching.of(self._nodes.find(tree.root)) as ground:
                    await self._reach_all(ground, heads, refused_heads, there, on_progress)
            except BaseException:
                await self._abandon([there[each["uid"]] for each in images if each["uid"] not in before])
                raise
            there = self._settle(tree, ground, heads, kin=True)
        return {each["uid"]: there[each["uid"]] for each in heads if each["uid"] in there}

    async def _refused(
        self, heads: list[dict[str, Any]], here: Mapping[str, Node], wanted: set[str], *, replay: bool
    ) -> dict[str, SnapservError]:
        """Return why no image brings nodes here; of those that were asked for or, to be replayed, of all."""
        refused: dict[str, SnapservError] = {}
        for head in heads:
            uid, node = head["uid"], here.get(head["uid"])
            if node is not None and node.death is None and node.id not in self._nodes.stored.away:
                continue
            if not head["image"]:
                refused[uid] = NotPortableError(
                    f"{head['name']} lasts as its recording alone: there is no image of it",
                    hint="load it with --replay, which does again what was done to it",
                    details={"uid": uid},
                )
            elif replay or uid in wanted:
                try:
                    await self._saving.reader.ask("check", image=head["image"], files=replay)
                except MachineDiffersError as error:
                    refused[uid] = error
        return refused

    async def _set_up(
        self,
        found: dict[str, Any],
        name: str | None,
        images: list[dict[str, Any]],
        refused: list[dict[str, Any]],
        on_progress: OnProgress,
    ) -> dict[str, Node]:
        """Bring in a tree whose root is set up anew: the same tree, where its memory lies as it did."""
        head, heads = found["tree"], found["nodes"]
        if (name or head["name"]) in self._nodes.forest.trees:
            raise NameTakenError(f"there is a tree {name or head['name']!r}", hint="load it under another name")
        root = next(each for each in heads if each["uid"] == head["root"])
        async with self._reaching.anew(head, root) as ground:
            fields = msgspec.convert([head.get("fields", []), fields_of(ground.plan)], list[list[FieldPlace]])
            held = [said.get("cpu_baseline", "") for said in (head["described"], ground.plan.described)]
            kin = fields[0] == fields[1] and held[0] == held[1]
            again = refused if kin else [*refused, *images]  # images of other memory, or libraries, are no kin
            await self._reach_all(ground, heads, [each for each in again if each is not root], {}, on_progress)
            with self._nodes.ledger.gathering():
                tree = self._put_back(name or head["name"], head, ground.plan.described)
                there = self._settle(tree, ground, heads, kin=kin)
                self._saving.keep_files(tree, ground.root.temporaries)
                return self._take(tree, images, heads, root=head["root"]) if kin else there

    async def _reach_all(
        self,
        ground: Ground,
        heads: list[dict[str, Any]],
        refused: list[dict[str, Any]],
        there: Mapping[str, Node],
        on_progress: OnProgress,
    ) -> None:
        by_uid = {each["uid"]: each for each in heads}
        for head in sorted(refused, key=lambda each: (each["step"], each["created"])):
            above: list[dict[str, Any]] = []
            while (parent := by_uid.get((above[-1] if above else head).get("parent") or "")) is not None:
                above.append(parent)
            await self._reaching.reach(ground, head, above, there, on_progress)

    def _settle(self, tree: Tree, ground: Ground, heads: list[dict[str, Any]], *, kin: bool) -> dict[str, Node]:
        """Make nodes of what was reached again; ``kin`` says whether they are those of the store."""
        there = self._here(tree)
        by_uid = {each["uid"]: each for each in heads}
        for head in _in_order(by_uid[uid] for uid in ground.reached):
            uid = head["uid"]
            node = there.get(uid) or self._nodes.load(tree, head, _parent(head, by_uid, there))
            there[uid] = node
            if ground.reached[uid] is ground.root:
                tree.root = node.id
            if kin:
                self._saving.put(node, {**head, "image": b""})
            self._nodes.brought(node, ground.reached[uid])
        self._nodes.note_tree(tree)
        return there

    async def _abandon(self, taken: list[Node]) -> None:
        """Have nodes that were just taken go, but not out of the store; a root stays on which others stand."""
        for node in sorted(taken, key=lambda node: (node.id == node.tree.root, -node.step)):
            async with Turn(self._nodes.queue(node)):
                if node.id == node.tree.root and len(set(map(id, node.tree.names.values()))) > 1:
                    continue
                self._saving.forget(node)
                await asyncio.shield(self._nodes.drop(node))

    async def _with_root(self, found: dict[str, Any]) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = found["nodes"]
        root = found["tree"]["root"]
        if not any(each["uid"] == root for each in nodes):
            more, _ = await self._saving.reader.ask("find", node=root, tree=None, all=False)
            nodes = [*more["nodes"], *nodes]
        return nodes

    async def go_on(self, endpoint: str, *, replay: bool) -> bool:
        """Take up all that the last server had; return whether there was one.

        That is the last one at this endpoint of this machine or, where there was none, anywhere. Its live branches
        go on from their newest snapshot that lasts, and what they had done since is said.

        Args:
            endpoint: Where this server listens.
            replay: Whether to do again what was done to nodes that no image brings here.

        Raises:
            BadRequestError: That server runs still.
            NotPortableError: There are nodes that last as recordings alone, and these are not to be replayed.
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
            wanted = {each["uid"] for each in found["nodes"] if not each["image"]}
            taken = await self._bring_in(found, None, name, wanted, replay=replay)
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
        if not head["described"]:
            raise NotFoundError(f"the tree {head['name']} says nothing of how it was served")
        temporaries, said = new_temporaries(self._nodes.processes, head["described"])
        tree = self._put_back(name, head, said)
        self._saving.keep_files(tree, temporaries)
        return tree

    def _put_back(self, name: str, head: Mapping[str, Any], said: Mapping[str, Any]) -> Tree:
        told = {
            "simulation": head["simulation"],
            "first": not self._nodes.forest.trees,
            "root": 0,
            "described": said,
        }
        try:
            return self._nodes.put_back_tree(name, told)
        except NameInUseError as cause:
            raise NameTakenError(str(cause), hint="load it under another name") from cause

    def _take(
        self, tree: Tree, images: list[dict[str, Any]], heads: list[dict[str, Any]], *, root: str
    ) -> dict[str, Node]:
        """Put nodes into a tree where they are not there yet; return each of those that are, by its ``uid``."""
        nodes, there = self._nodes, self._here(tree)
        by_uid = {each["uid"]: each for each in heads}
        for head in _in_order(images, root):
            if head["uid"] in there:
                continue
            node = nodes.load(tree, head, _parent(head, by_uid, there))
            there[head["uid"]] = node
            self._saving.put(node, head)
            if head["uid"] == root:
                tree.root = node.id
            nodes.note(node)
        nodes.note_tree(tree)
        return there

    def _here(self, tree: Tree | None) -> dict[str, Node]:
        if tree is None:
            return {}
        return {saved.uid: node for node in tree.names.values() if (saved := self._saving.saved(node)) is not None}


def _in_order(heads: Iterable[dict[str, Any]], root: str = "") -> list[dict[str, Any]]:
    return sorted(heads, key=lambda each: (each["uid"] != root, each["step"], each["created"]))


def _parent(head: Mapping[str, Any], by_uid: Mapping[str, Any], there: Mapping[str, Node]) -> Node | None:
    """Return a node's nearest ancestor that is here."""
    parent = head.get("parent")
    while parent is not None and parent not in there and parent in by_uid:
        parent = by_uid[parent].get("parent")
    return there.get(parent) if parent is not None else None


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
