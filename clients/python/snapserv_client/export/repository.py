"""A tree as an Icechunk repository: a commit a snapshot, whose history is the lineage. `export_icechunk`."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import icechunk
import zarr

from ..errors import BadRequestError, StoreUnavailableError
from ..labelled.layout import layouts_of
from ..labelled.source import TreeNode, TreePlan, TreeSource
from ..sync import Branch, Server, Snapshot
from .dataset import write
from .served import tree_of_server

KEY = "snapserv"
"""In a commit's metadata, what tells ours from others'."""
MAIN = "main"
WORKING = "snapserv-exporting"
"""The branch that commits are made on; the tree's are put where they belong when all commits are there."""
VALID_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
"""What may be a name in a repository wherever it lies."""


@dataclass(frozen=True)
class Exported:
    """What a repository has of a tree.

    Attributes:
        commits: By the uid of each node, the id of its commit.
        written: The uids of the nodes that were not there before.
        branches: What the repository's branches are called, and which commit each is at.
        tags: Likewise.
        skipped: Names of snapshots that could not be read any more.
    """

    commits: dict[str, str]
    written: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def export_icechunk(
    source: TreeSource | Server | Snapshot | Branch,
    repository: str | os.PathLike[str] | icechunk.Storage,
    *,
    fields: Sequence[str] | None = None,
    on_commit: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write the snapshots of a tree into an Icechunk repository, those that are not there yet.

    Chunks that are as in a snapshot's parent are shared with it. Each branch and each snapshot that has none after
    it is a branch of the repository; names and tags are its tags. ``main`` is the tree's, or at what is newest.

    Args:
        source: A tree, as `tree_of_server` and `tree_of_store` return it; a server, whose first tree is meant; or a
            node, whose tree is.
        repository: A folder, which is made where it is not there, or an Icechunk storage.
        fields: Names of the fields to write; all by default.
        on_commit: Called with how many snapshots are written, and how many there are to write.

    Raises:
        BadRequestError: There is something else, or a repository of something else.
        NotFoundError: There is no such field; or a snapshot was dropped meanwhile: what was written stays, and
            another export goes on from there.
        UnsupportedError: A field holds what Zarr has no type for; ``details["field"]`` says which one.
        StoreUnavailableError: The repository cannot be read or written, or somebody else exports into it.
    """
    tree = _tree_of(source)
    with contextlib.ExitStack() as stack:
        storage = repository
        if isinstance(storage, str | os.PathLike):
            storage = stack.enter_context(_folder(Path(storage)))
        stack.enter_context(_typed())
        plan = tree.plan()
        repo = icechunk.Repository.open_or_create(storage)
        commits = _known(repo, plan)
        new = [node for node in plan.nodes if node.uid not in commits]
        for number, node in enumerate(new):
            commits[node.uid] = _commit(repo, tree, plan, node, commits, fields)
            if on_commit is not None:
                on_commit(number + 1, len(new))
        written = [node.uid for node in new]
        return Exported(
            commits, written, _put_branches(repo, plan, commits), _put_tags(repo, plan, commits), plan.skipped
        )


def _tree_of(source: TreeSource | Server | Snapshot | Branch) -> TreeSource:
    if isinstance(source, Server):
        return tree_of_server(source)
    if isinstance(source, Snapshot | Branch):
        server = source._server
        assert isinstance(server, Server)
        return tree_of_server(server, source.last.tree)
    return source


def _known(repo: icechunk.Repository, plan: TreePlan) -> dict[str, str]:
    """Return the commits of nodes that a repository has.

    Raises:
        BadRequestError: It is of something else.
    """
    commits: dict[str, str] = {}
    seen: set[str] = set()
    strange = ""
    heads = [repo.lookup_branch(name) for name in repo.list_branches()]
    for head in [*heads, *(repo.lookup_tag(name) for name in repo.list_tags())]:
        for info in repo.ancestry(snapshot_id=head):
            if info.id in seen:
                break
            seen.add(info.id)
            told = info.metadata.get(KEY)
            if isinstance(told, dict):
                if told.get("tree") != plan.uid:
                    raise BadRequestError(
                        f"the repository is of another tree, {told.get('tree_name')!r}", hint="choose another place"
                    )
                commits[str(told["node"])] = info.id
            elif info.parent_id is not None:
                strange = info.message
    if strange and not commits:
        raise BadRequestError(
            f"the repository is none of ours: it has the commit {strange!r}", hint="choose another place"
        )
    return commits


def _commit(
    repo: icechunk.Repository,
    tree: TreeSource,
    plan: TreePlan,
    node: TreeNode,
    commits: dict[str, str],
    fields: Sequence[str] | None,
) -> str:
    first = next(info.id for info in repo.ancestry(branch=MAIN) if info.parent_id is None)
    onto = first if node.parent is None else commits[node.parent]
    if WORKING in repo.list_branches():
        repo.reset_branch(WORKING, onto)
    else:
        repo.create_branch(WORKING, onto)
    session = repo.writable_session(WORKING)
    with tree.node(node.uid) as source:
        write(
            zarr.open_group(session.store, mode="a", zarr_format=3),
            source,
            layouts_of(source.fields, fields),
            tree.changes(node),
            lineage=False,
        )
    told = {
        "tree": plan.uid,
        "tree_name": plan.name,
        "node": node.uid,
        "parent": node.parent,
        "names": list(node.names),
        "step": node.step,
        "created": node.created,
    }
    made: str = session.commit(f"{node.names[0]} · step {node.step}", {KEY: told})
    return made


def _put_branches(repo: icechunk.Repository, plan: TreePlan, commits: dict[str, str]) -> dict[str, str]:
    """Put branches where the tree's are, and one at each leaf; return them all, without others'."""
    inner = {node.parent for node in plan.nodes} | set(plan.branches.values())
    wanted = [(name, uid) for name, uid in plan.branches.items()]
    wanted += [(node.names[0], node.uid) for node in plan.nodes if node.uid not in inner]
    if plan.nodes and MAIN not in (name for name, _ in wanted):
        wanted.append((MAIN, max(plan.nodes, key=lambda node: node.created).uid))
    there = {name: repo.lookup_branch(name) for name in repo.list_branches()}
    ours = {*commits.values(), *(info.id for info in repo.ancestry(branch=MAIN) if info.parent_id is None)}
    put: dict[str, str] = {}
    for name, uid in wanted:
        commit = commits[uid]
        chosen = _ref(name, uid)
        if chosen in put or there.get(chosen, commit) not in ours:
            chosen = f"{chosen}-{uid[:8]}"
        if chosen not in there:
            repo.create_branch(chosen, commit)
        elif there[chosen] != commit:
            repo.reset_branch(chosen, commit)
        put[chosen] = commit
    if WORKING in there:
        repo.delete_branch(WORKING)
    return put


def _put_tags(repo: icechunk.Repository, plan: TreePlan, commits: dict[str, str]) -> dict[str, str]:
    """Make a tag for each name; a name that was another node's before, which a tag cannot forget, gets a suffix."""
    there = {name: repo.lookup_tag(name) for name in repo.list_tags()}
    for node in plan.nodes:
        commit = commits[node.uid]
        for name in node.names:
            chosen = _ref(name, node.uid)
            for tag in (chosen, f"{chosen}-{node.uid[:8]}"):
                if there.get(tag) == commit:
                    break
                if tag in there:
                    continue
                try:
                    repo.create_tag(tag, commit)
                except icechunk.IcechunkError:
                    if tag != chosen:
                        raise
                    continue  # somebody has deleted one of that name, which can then never be made again
                there[tag] = commit
                break
    of = set(commits.values())
    return {tag: commit for tag, commit in there.items() if commit in of}


def _ref(name: str, uid: str) -> str:
    """Return a node's name as a repository may have it."""
    if VALID_REF.fullmatch(name) and name != WORKING:
        return name
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)[:90].lstrip('.-') or 'node'}-{uid[:8]}"


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[icechunk.Storage]:
    """Yield a folder as storage, ours alone meanwhile: two commits at the same time would not notice each other."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        storage = icechunk.local_filesystem_storage(str(path.absolute()))
        if any(path.iterdir()) and not icechunk.Repository.exists(storage):
            raise BadRequestError(f"{path} is no repository, and is not empty", hint="choose another place")
        held = _hold(path)
    except OSError as cause:
        raise BadRequestError(
            f"cannot write {path}: {cause.strerror or cause}", hint="choose another place"
        ) from cause
    try:
        yield storage
    finally:
        if held is not None:
            os.close(held)


def _hold(path: Path) -> int | None:
    """Lock a folder for this process, where the system can; return the descriptor that holds the lock."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        os.close(descriptor)
        raise StoreUnavailableError(
            f"somebody else exports into {path}", hint="wait for it to end", details={"reason": "in_use"}
        ) from cause
    return descriptor


@contextlib.contextmanager
def _typed() -> Iterator[None]:
    """Turn what Icechunk raises into an error of ours."""
    try:
        yield
    except icechunk.IcechunkError as cause:
        lines = [line.strip(" |×x") for line in str(cause).splitlines()]
        what = next(filter(None, lines), type(cause).__name__)
        details: dict[str, Any] = {"reason": "input_output", "cause": str(cause)}
        raise StoreUnavailableError(f"the repository cannot be read or written: {what}", details=details) from cause
