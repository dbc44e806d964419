"""What one does with a node, from the buttons above it: each asks what it needs, and says what came of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

from .. import aio
from ..connection import Progress
from ..display import describe
from ..errors import BadRequestError
from ..expansion import Best
from ..figures import said, space
from ..plain import InputValues
from ..protocol import NodeInfo, Rng
from .dialogs import Answers, Asked, ask
from .doing import Doing
from .session import Session

RNG = Asked("rng", "random stream: same, split, or a seed", "same")


@dataclass(frozen=True)
class Action:
    """One button.

    Attributes:
        name: What is on it.
        run: Does it.
        key: The key that does it as well.
        place: Whether it is always in sight, or in the menu.
        danger: Whether something will be gone.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    key: str = ""
    in_menu: bool = False
    danger: bool = False


class Actions:
    """What can be done with one node.

    Args:
        session: Whose node.
        node: Its id.
        doing: Where it is said.
        choose: Called with a node that was made.
    """

    def __init__(self, session: Session, node: int, doing: Doing, choose: Callable[[int], None]) -> None:
        self._session = session
        self._node = node
        self._doing = doing
        self._choose = choose

    @property
    def info(self) -> NodeInfo:
        """What is known of the node."""
        return self._session.nodes[self._node]

    def offered(self) -> list[Action]:
        """Return what can be done with it, the most usual first."""
        info = self.info
        pin = Action("Unpin" if info.pinned else "Pin", self.pin, in_menu=True)
        common = [
            Action("Expand…", self.expand, in_menu=True),
            Action("Tag…", self.tag, in_menu=True),
            pin,
            Action("Save…", self.save, in_menu=True),
            Action("Drop…", self.drop, in_menu=True, danger=True),
        ]
        if info.kind == "snapshot":
            return [
                Action("Branch…", self.branch, "b"),
                Action("Restore a branch to it…", self.restore_another, "r"),
                *common,
            ]
        clear = [Action("Clear the fault", self.clear)] if info.faulted else []
        return [
            Action("Snapshot…", self.snapshot, "n"),
            Action("Branch…", self.branch, "b"),
            Action("Restore…", self.restore, "r"),
            *clear,
            Action("Mark", self.mark, "m", in_menu=True),
            Action("Rewind to the mark", self.rewind, in_menu=True),
            Action("Reset to the root…", self.reset, in_menu=True, danger=True),
            *common,
        ]

    async def snapshot(self) -> None:
        """Freeze a copy of a branch."""
        asked = (
            Asked("name", "name", hint="s and its id"),
            Asked("message", "message", hint="what there is to say"),
        )
        answers = await ask(f"Snapshot of {self.info.name}", asked, do="Snapshot")
        if answers is None:
            return

        async def work(_: Progress) -> str:
            taken = await self._branch.snapshot(_text(answers, "name") or None, message=_text(answers, "message"))
            self._session.learn([taken.last, await self._branch.info()])
            return f"{describe(taken.last)} · fork {(taken.fork_us or 0) / 1000:.2f} ms"

        await self._doing.do("snapshot", work)

    async def branch(self) -> None:
        """Make branches that go on from here."""
        asked = (
            Asked("names", "names, with blanks between", hint="b and its id"),
            Asked("count", "or how many", "1"),
            RNG,
        )
        says = "A snapshot of it is taken first." if self.info.kind == "branch" else ""
        answers = await ask(f"Branch of {self.info.name}", asked, do="Branch", says=says)
        if answers is None:
            return

        async def work(_: Progress) -> str:
            names = _text(answers, "names").split() or None
            count = len(names) if names else _whole(answers, "count")
            made = await self._here.branch(count, names=names, rng=_rng(_text(answers, "rng") or "same"))
            self._session.learn(each.last for each in made)
            if self.info.kind == "branch":
                self._session.learn([await self._here.info()])
            self._choose(made[0].id)
            return f"made {', '.join(each.name for each in made)}"

        await self._doing.do("branch", work)

    async def restore(self) -> None:
        """Put a branch back to a snapshot."""
        tree = self.info.tree
        snapshots = [each for each in self._session.nodes.values() if each.kind == "snapshot" and each.tree == tree]
        past = self._past()
        snapshots.sort(key=lambda each: (each.id not in past, -each.step, -each.id))
        options = {str(each.id): f"{each.name} · step {each.step:,}" for each in snapshots[:500]}
        asked = (Asked("snapshot", "snapshot", str(snapshots[0].id) if snapshots else "", options=options), RNG)
        answers = await ask(
            f"Restore {self.info.name}",
            asked,
            do="Restore",
            says="What it has done since then is gone.",
            danger=True,
        )
        if answers is not None:
            await self.restore_to(int(_text(answers, "snapshot")), _text(answers, "rng"))

    async def restore_to(self, snapshot: int, rng: str = "same") -> None:
        """Put the branch back to a snapshot, unasked."""

        async def work(_: Progress) -> str:
            await (branch := self._branch).restore(snapshot, rng=_rng(rng or "same"))
            self._session.learn([branch.last])
            return describe(branch.last)

        await self._doing.do("restore", work)

    async def restore_another(self) -> None:
        """Put some branch back to this snapshot."""
        branches = [
            each for each in self._session.nodes.values() if each.kind == "branch" and each.tree == self.info.tree
        ]
        options = {str(each.id): f"{each.name} · step {each.step:,}" for each in branches[:500]}
        if not options:
            self._doing.show_error(BadRequestError("there is no branch to be restored", hint="branch it"))
            return
        says = "What the branch has done since its last snapshot is gone."
        asked = (Asked("branch", "branch", next(iter(options)), options=options), RNG)
        answers = await ask(f"Restore a branch to {self.info.name}", asked, do="Restore", says=says, danger=True)
        if answers is None:
            return

        async def work(_: Progress) -> str:
            branch = self._session.branch(int(_text(answers, "branch")))
            await branch.restore(self._node, rng=_rng(_text(answers, "rng") or "same"))
            self._session.learn([branch.last])
            return describe(branch.last)

        await self._doing.do("restore", work)

    async def reset(self) -> None:
        """Put a branch back to the moment after setup."""
        says = "What it has done since its last snapshot is gone."
        answers = await ask(f"Reset {self.info.name}", (RNG,), do="Reset", says=says, danger=True)
        if answers is None:
            return

        async def work(_: Progress) -> str:
            await (branch := self._branch).reset(rng=_rng(_text(answers, "rng") or "same"))
            self._session.learn([branch.last])
            return describe(branch.last)

        await self._doing.do("reset", work)

    async def mark(self) -> None:
        """Mark this moment of a branch."""

        async def work(_: Progress) -> str:
            return f"{self.info.name} · marked at step {(await self._branch.mark()).step:,}"

        await self._doing.do("mark", work)

    async def rewind(self) -> None:
        """Put a branch back to its mark."""

        async def work(_: Progress) -> str:
            gone = await (branch := self._branch).rewind()
            self._session.learn([branch.last])
            return f"{branch.name} · step {gone.step:,} · {gone.pages:,} pages in {gone.elapsed_us / 1000:.2f} ms"

        await self._doing.do("rewind", work)

    async def clear(self) -> None:
        """Go on with what a fault left."""

        async def work(_: Progress) -> str:
            await (branch := self._branch).clear()
            self._session.learn([branch.last])
            return describe(branch.last)

        await self._doing.do("clear", work)

    async def expand(self) -> None:
        """Try several inputs from here."""
        asked = (
            Asked("inputs", "inputs of each child, one a line, as JSON", "{}\n{}", lines=5),
            Asked("steps", "ticks of each", "1"),
            Asked("keep", "keep the best by this output (all: all)", hint="none"),
        )
        answers = await ask(f"Expand {self.info.name}", asked, do="Expand")
        if answers is None:
            return
        running = self._here

        async def work(progress: Progress) -> str:
            inputs = [_inputs(line) for line in _text(answers, "inputs").splitlines() if line.strip()]
            by = _text(answers, "keep")
            found = await running.expand(
                inputs,
                steps=_whole(answers, "steps"),
                keep="all" if by == "all" else Best(1, by) if by else "none",
                progress=progress,
            )
            self._session.learn(each.node.last for each in found if each.node is not None)
            words = [f"{each.index}: {said(each.outputs) if each.ok else each.error}" for each in found[:8]]
            return f"{len(found):,} children · " + " · ".join(words)

        await self._doing.do("expand", work)

    async def tag(self) -> None:
        """Give a node a further name, or take one away."""
        tags = self.info.tags
        asked = [Asked("name", "tag", hint="golden")]
        if tags:
            asked.append(Asked("remove", f"take it away ({', '.join(tags)})", False))
        answers = await ask(f"Tag {self.info.name}", asked, do="Tag")
        if answers is None:
            return

        async def work(_: Progress) -> str:
            await (node := self._here).tag(_text(answers, "name"), remove=bool(answers.get("remove")))
            self._session.learn([node.last])
            return describe(node.last)

        await self._doing.do("tag", work)

    async def pin(self) -> None:
        """Protect a node from being dropped, or no longer."""

        async def work(_: Progress) -> str:
            await (node := self._here).pin(not node.last.pinned)
            self._session.learn([node.last])
            return describe(node.last)

        await self._doing.do("pin", work)

    async def save(self) -> None:
        """Have a snapshot last."""
        asked = [
            Asked("all", "all snapshots of its tree", False),
            Asked("replay", "what was done, where an image is refused", False),
        ]
        if self.info.kind == "branch":
            asked.insert(0, Asked("name", "name of the snapshot that is taken first", hint="s and its id"))
        answers = await ask(f"Save {self.info.name}", asked, do="Save")
        if answers is None:
            return

        async def work(_: Progress) -> str:
            node = self._here
            found = await node.save(
                _text(answers, "name") or None, all=bool(answers["all"]), replay=bool(answers["replay"])
            )
            lines = [f"{each.name} {space(each.bytes)}" for each in found.saved]
            return f"saved {', '.join(lines) or 'nothing new'}"

        await self._doing.do("save", work)

    async def drop(self) -> None:
        """End a node."""
        below = sum(1 for each in self._session.nodes.values() if each.parent == self._node)
        says = "It is gone then." + (f" {below:,} nodes come of it, which live on." if below else "")
        asked = (
            Asked("recursive", "and all that comes of it", False),
            Asked("force", "end a step that runs", False),
        )
        answers = await ask(f"Drop {self.info.name}", asked, do="Drop", says=says, danger=True)
        if answers is None:
            return

        async def work(_: Progress) -> str:
            gone = await self._here.drop(recursive=bool(answers["recursive"]), force=bool(answers["force"]))
            return f"dropped {', '.join(gone)}"

        await self._doing.do("drop", work)

    @property
    def _here(self) -> aio.Branch | aio.Snapshot:
        return self._session.node(self._node)

    @property
    def _branch(self) -> aio.Branch:
        return self._session.branch(self._node)

    def _past(self) -> set[int]:
        return {each.id for each in lineage(self._session, self._node)}


def lineage(session: Session, node: int | None) -> Sequence[NodeInfo]:
    """Return a node and what it comes of, the root last."""
    found: list[NodeInfo] = []
    while node is not None and node in session.nodes and len(found) < len(session.nodes):
        found.append(session.nodes[node])
        node = session.nodes[node].parent
    return found


def _text(answers: Answers, name: str) -> str:
    return str(answers.get(name, "")).strip()


def _whole(answers: Answers, name: str) -> int:
    given = _text(answers, name)
    try:
        return int(given.replace(",", "").replace("_", ""))
    except ValueError:
        raise BadRequestError(f"{name}: {given!r} is not a whole number") from None


def _rng(given: str) -> Rng:
    policies: dict[str, Rng] = {"same": "same", "split": "split"}
    if given in policies:
        return policies[given]
    try:
        return int(given)
    except ValueError:
        raise BadRequestError(f"random stream {given!r}", hint="same, split, or an integer seed") from None


def _inputs(line: str) -> InputValues | list[InputValues]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError as cause:
        raise BadRequestError(f"{line!r} is no JSON: {cause.msg}", hint='as in {"wind": [3, 0]}') from None
    return cast("InputValues | list[InputValues]", found)
