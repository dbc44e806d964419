"""Snapshots that last: saved when somebody asks, or by themselves, and brought back when somebody needs them.

What is written is written by a process of its own, and read by another, so that neither the server nor whoever
needs a stored node waits for a disk that is busy with the next save. A node that is saved keeps its process; one
that gives it up (`snapserv.budget`) is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import structlog

from ..archiver.asking import Archiver
from ..errors import NodeDiedError, NotFoundError, NotPortableError, SnapservError, StoreUnavailableError
from ..nodes.nodes import Nodes
from ..nodes.temporaries import Temporaries
from ..nodes.tree import Node, Tree
from ..nodes.turns import Turn
from . import heads, relatives
from .heads import Saved
from .recorded import InThread, recorded_alone, recorded_of

log = structlog.get_logger(__name__)

Durable = Literal["all", "named", "none"]
NICE = 10
RETRY_AFTER_S, RETRY_AFTER_MOST_S = 0.5, 30.0
FINISH_LOOK_S = 0.02


class Way(NamedTuple):
    """How a node is saved: as its recording alone, where an image is refused; with the files that it stands on."""

    replay: bool
    embed: bool


class Saving:
    """The store of a server.

    Args:
        nodes: The server's nodes.
        store: The store's folder or URL.
        durable: Which snapshots are saved by themselves: all, those with a name, a tag or a pin and automatic ones,
            or none.
        bytes_per_s: How fast it is written at most; without a bound for None.
        replay: Whether what is saved by itself lasts as its recording alone, where an image is refused.
        embed: Whether the files that snapshots stand on are written as well.
        in_thread: Runs what takes long without holding up others.
    """

    def __init__(
        self,
        nodes: Nodes,
        store: str,
        *,
        durable: Durable,
        bytes_per_s: float | None,
        replay: bool,
        embed: bool,
        in_thread: InThread,
    ) -> None:
        self.store = store
        self.replay = replay
        self._in_thread = in_thread
        self.durable = durable
        self._embed = embed
        self.session = secrets.token_hex(16)
        """The ``uid`` of this server's session in the store."""
        self._nodes = nodes
        on_process: Callable[[int, bool], None] = nodes.processes.note_helper
        self.writer = Archiver(store, nice=NICE, bytes_per_s=bytes_per_s, on_process=on_process)
        self.reader = Archiver(store, nice=0, bytes_per_s=None, on_process=on_process)
        self._saved = {number: Saved(*told) for number, told in nodes.ledger.entries("saved").items()}
        self._trees: dict[str, str] = {}
        self._files: dict[str, Temporaries] = {}
        self._written: dict[int, bytes] = {}
        self._in_progress: dict[int, tuple[Way, asyncio.Task[Saved]]] = {}
        self._due: dict[int, None] = {}
        self._gone: list[Saved] = []
        self._refused: dict[int, SnapservError] = {}
        self.session_of_save: Callable[[], dict[str, Any] | None] | None = None
        """Gives what there is to say of this server with a save, before anybody is told that it lasts."""
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        nodes.stored.save = self._save_quietly
        nodes.stored.lasts = self._lasts
        nodes.on_note = self._on_note

    def begin(self) -> None:
        """Save in the background what is to be saved by itself, from now on."""
        for node in self._nodes.forest.nodes.values():
            if node.id in self._saved:
                self._trees[node.tree.name] = self._saved[node.id].tree
                self._keep_files(node.tree)
            self._on_note(node)
        self._worker = self._nodes.processes.loop.create_task(self._work())

    async def finish(self) -> None:
        """Wait until all that is due was saved."""
        while self._due or self._gone:
            self._wake.set()
            await asyncio.sleep(FINISH_LOOK_S)

    async def list_stored(self, offset: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return a page of what the store holds, and how much it is.

        Raises:
            SnapservError: It cannot be read.
        """
        answer, _ = await self.reader.ask("list", offset=offset, limit=limit)
        here = {saved.uid: self._nodes.forest.nodes.get(number) for number, saved in self._saved.items()}
        for each in answer["nodes"]:
            node = here.get(each["uid"])
            each["here"] = None if node is None else node.path
        return answer["nodes"], answer["total"]

    async def close(self) -> None:
        """End both processes; what is being written is finished first."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
        await asyncio.gather(self.writer.close(), self.reader.close())
        for files in self._files.values():
            files.release(self)

    # ------------------------------------------------------------------------------------------------- saving

    @property
    def waiting(self) -> int:
        """How many snapshots are to be saved by themselves, and are not yet."""
        return len(self._due)

    def saved(self, node: Node) -> Saved | None:
        """Return what the store has of a node; None where it has nothing."""
        return self._saved.get(node.id)

    def uid_of(self, tree: Tree) -> str | None:
        """Return a tree's ``uid``; None where nothing of it was saved."""
        return self._trees.get(tree.name)

    async def save(self, node: Node, *, kept: bool = True, replay: bool = False, embed: bool = False) -> Saved:
        """Save a snapshot, whose turn the caller shares, and its root before it; return when it lasts.

        Args:
            node: One that is saved already is not written again.
            kept: Whether it stays in the store when the node is dropped.
            replay: Whether it is to last as its recording alone, where an image is refused; its root as well.
            embed: Whether to write the files that both stand on as well, where this server does not anyway.

        Raises:
            NotPortableError: It holds what no image can keep; nothing was written.
            StoreUnavailableError: It could not be written.
            NodeDiedError: Its process has ended.
        """
        way = Way(replay, embed or self._embed)
        root = self._nodes.find(node.tree.root)
        self._keep_files(node.tree)
        if root is not node and (way.embed or root.id not in self._saved):
            try:
                await self._once(root, way, kept=False)
            except NotPortableError as error:
                if root.id not in self._saved:
                    raise
                log.warning("not_embedded", node=root.path, why=error.message)
        saved = await self._once(node, way, kept=kept)
        if kept and not saved.kept:
            saved = saved._replace(kept=True)
            self._take_note(node, saved)
            await self._write_head(node)
        return saved

    async def _once(self, node: Node, way: Way, *, kept: bool) -> Saved:
        """Save a node, once: who asks while it is being saved waits for the same."""
        while (there := self._saved.get(node.id)) is None or (way.embed and there.image and not there.embedded):
            doing, task = self._in_progress.get(node.id, (way, None))
            if task is None:
                work = self._write(node, way, kept=kept) if there is None else self._add_files(node, there)
                task = asyncio.ensure_future(work)
                self._in_progress[node.id] = way, task
                task.add_done_callback(lambda _: self._in_progress.pop(node.id, None))
            if doing == way:
                await asyncio.shield(task)
            else:  # what ends that way, or is refused, may not this way
                await asyncio.wait((task,))
        return there

    async def _add_files(self, node: Node, saved: Saved) -> Saved:
        """Have the store hold the files as well that a node stands on which lasts already."""
        head = self._head(node, saved._replace(embedded=True))
        answer, _ = await self.writer.ask("embed", head=head)
        self._written[node.id] = heads.what_changes(head)
        saved = self._saved.get(node.id, saved)._replace(embedded=True, image=answer["image"], size=answer["size"])
        self._take_note(node, saved)
        await self._write_head(node)  # somebody may have asked for it to be kept meanwhile
        return saved

    async def _write(self, node: Node, way: Way, *, kept: bool) -> Saved:
        nodes = self._nodes
        cell, root = nodes.cell(node), nodes.find(node.tree.root)
        recorded, actions = await recorded_of(nodes, node)
        processes: list[dict[str, Any]] = [{"pid": cell.pid, "record": await cell.describe()}]
        others = [] if root is node else [nodes.cell_of(root)]
        processes += [{"pid": other.pid, "record": None} for other in others if other is not None and other.pid]
        tree = self._trees.setdefault(node.tree.name, secrets.token_hex(16))
        uid = secrets.token_hex(16)
        stacks = cell.stacks
        folders = None if stacks is None else dict(stacks.described)
        saved = Saved(uid, tree, b"", kept, 0.0, 0, folders, embedded=way.embed)
        head = self._head(node, saved)
        relative, relative_pid = relatives.to_save_beside(nodes, self._saved, node)
        said: dict[str, Any] = {
            "tree": heads.of_tree(nodes, node.tree, tree, root=uid) if root is node else None,
            "head": {**head, "recorded": recorded},
            "actions": actions,
            "session": self.session_of_save() if self.session_of_save is not None else None,
        }
        try:
            with contextlib.nullcontext() if stacks is None else stacks.kept(cell) as layers:
                answer, _ = await self.writer.ask(
                    "save",
                    [_open_memory(each["pid"]) for each in processes],
                    processes=processes,
                    ledger=nodes.ledger.name,
                    relative=relative,
                    relative_pid=relative_pid,
                    folders=layers,
                    embed=way.embed,
                    baseline=nodes.plan_of(node.tree).described.get("cpu_baseline", ""),
                    **said,
                )
                if stacks is not None and layers is not None:
                    stacks.saved(layers, answer["layers"])
        except NotPortableError:
            if not way.replay:
                raise
            saved = saved._replace(embedded=False)
            head = self._head(node, saved)
            said["head"] = {**head, "recorded": await recorded_alone(nodes, self._in_thread, node, cell, recorded)}
            answer, _ = await self.writer.ask("record", **said)
        told = {name: answer[name] for name in ("image", "saved", "size", "layers")}
        saved = saved._replace(**told)
        self._written[node.id] = heads.what_changes(head)
        self._take_note(node, saved)
        how, seconds = "image" if saved.image else "replay", round(answer["seconds"], 3)
        log.info("saved", node=node.path, bytes=saved.size, seconds=seconds, how=how)
        nodes.tell("saved", node, f"{saved.size:,} bytes")
        return saved

    async def _save_quietly(self, node: Node) -> None:
        try:
            await self.save(node, kept=False)
        except NotPortableError as error:
            self._refused[node.id] = error
            raise

    def _lasts(self, node: Node) -> bool:
        """Return whether a snapshot has an image, or will when it is saved by itself."""
        saved = self._saved.get(node.id)
        return bool(saved.image) if saved is not None else node.id not in self._refused and self.wants(node)

    def _take_note(self, node: Node, saved: Saved) -> None:
        self._saved[node.id] = saved
        self._due.pop(node.id, None)
        self._nodes.stored.lasting(node, recorded=not saved.image)
        with self._nodes.ledger.at_once():
            self._nodes.ledger.put("saved", node.id, lambda: list(saved))

    def _parent(self, node: Node) -> str | None:
        """Return the ``uid`` of a node's nearest ancestor that lasts."""
        return next(
            (self._saved[each.id].uid for each in self._nodes.forest.above(node) if each.id in self._saved), None
        )

    async def _write_head(self, node: Node) -> None:
        """Have the store know of a node what there is to know now."""
        while (saved := self._saved.get(node.id)) is not None and node.id in self._nodes.forest.nodes:
            head = self._head(node, saved)
            changes = heads.what_changes(head)
            if self._written.get(node.id) == changes:
                return
            await self.writer.ask("head", head=head)
            self._written[node.id] = changes  # more may have changed meanwhile

    def _head(self, node: Node, saved: Saved) -> dict[str, Any]:
        return heads.of_node(node, saved, parent=self._parent(node), session=self.session)

    # ---------------------------------------------------------------------------------------- in the background

    def wants(self, node: Node) -> bool:
        """Return whether a snapshot is saved by itself."""
        if node.kind != "snapshot" or node.death is not None or self.durable == "none":
            return False
        named = node.named or node.tags or node.pinned or node.automatic
        return bool(self.durable == "all" or named or node.id == node.tree.root)

    def will_save(self, node: Node) -> bool:
        """Return whether a snapshot that does not last yet is saved before the server ends."""
        return self.wants(node) and node.id not in self._refused

    def _on_note(self, node: Node) -> None:
        if node.id not in self._nodes.forest.nodes:
            self._due.pop(node.id, None)
            self._refused.pop(node.id, None)
            saved = self._saved.pop(node.id, None)
            self._written.pop(node.id, None)
            if saved is None:
                return
            self._nodes.ledger.remove("saved", node.id)
            if node.id == node.tree.root and (files := self._files.pop(node.tree.name, None)) is not None:
                files.release(self)
            if not saved.kept:
                self._gone.append(saved)
        elif node.id not in self._saved and (node.id in self._refused or not self.wants(node)):
            return
        else:
            self._due[node.id] = None
        self._wake.set()

    async def _work(self) -> None:
        pause_s = RETRY_AFTER_S
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._catch_up()
                pause_s = RETRY_AFTER_S
            except StoreUnavailableError as error:
                log.warning("not_saved_yet", why=error.message, again_s=pause_s, waiting=self.waiting)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_AFTER_MOST_S)
                self._wake.set()

    async def _catch_up(self) -> None:
        """Save what is due, the oldest first, and remove what is gone.

        Raises:
            StoreUnavailableError: The store cannot be written now.
        """
        while self._gone or self._due:
            while self._gone:
                gone = self._gone[-1]
                try:
                    await self.writer.ask("remove", tree=gone.tree, uid=gone.uid)
                except StoreUnavailableError:
                    raise
                except SnapservError as error:
                    if not isinstance(error, NotFoundError):  # somebody has removed it before
                        log.warning("not_removed", uid=gone.uid, code=error.code, why=error.message)
                self._gone.remove(gone)
            if self._due:
                await self._save_due(next(iter(self._due)))

    async def _save_due(self, number: int) -> None:
        node = self._nodes.forest.nodes.get(number)
        if node is None:
            self._due.pop(number, None)
            return
        try:
            if number in self._saved:
                self._due.pop(number, None)
                await self._write_head(node)
                return
            async with Turn(shared=[self._nodes.queue(node)]):
                if number in self._nodes.forest.nodes:
                    await self.save(node, kept=False, replay=self.replay)
        except StoreUnavailableError:
            self._due[number] = None
            raise
        except SnapservError as error:
            self._due.pop(number, None)
            self._refused[number] = error
            level = log.warning if isinstance(error, NotPortableError) else log.error
            level("not_saved", node=node.path, code=error.code, why=error.message)
            self._nodes.tell("not_saved", node, error.message)
        self._due.pop(number, None)

    # ------------------------------------------------------------------------------------------ what comes back

    def keep_files(self, tree: Tree, temporaries: Temporaries | None) -> None:
        """Have the folders for temporary files of a tree's nodes stay while some of them last."""
        if temporaries is not None and tree.name not in self._files:
            self._files[tree.name] = temporaries
            temporaries.keep(self)

    def _keep_files(self, tree: Tree) -> None:
        nodes = self._nodes
        if tree.name in self._files or nodes.plan_of(tree).described.get("temporary") is None:
            return
        cells = [nodes.cell_of(node) for node in tree.names.values()]
        found = next(
            (cell.temporaries for cell in cells if cell is not None and cell.temporaries is not None), None
        )
        self.keep_files(tree, found or nodes.processes.books(nodes.plan_of(tree).described)[1])

    def files_of(self, tree: Tree) -> Temporaries | None:
        """Return the folders for temporary files of a tree's nodes, where it has some."""
        return self._files.get(tree.name)

    def forget(self, node: Node) -> None:
        """Know nothing more of a node, which stays in the store."""
        self._saved.pop(node.id, None)
        self._nodes.stored.forget(node)
        self._nodes.ledger.remove("saved", node.id)
        if node.id == node.tree.root:
            self._trees.pop(node.tree.name, None)
            if (files := self._files.pop(node.tree.name, None)) is not None:
                files.release(self)

    def put(self, node: Node, head: Mapping[str, Any]) -> None:
        """Take up a node that was loaded: it lies in the store, which says this of it, and has no process yet."""
        saved = Saved.of(head)
        self._trees[node.tree.name] = saved.tree
        self._written[node.id] = heads.what_changes(head)
        self._nodes.stored.away.add(node.id)
        self._take_note(node, saved)


def _open_memory(pid: int) -> int:
    try:
        return os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as cause:
        raise NodeDiedError("the node ended before it was saved") from cause
