"""``store``: what lies in a store, without a server: list, read, check, collect, copy and remove."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
from rich.console import Group
from rich.text import Text
from snapserv_client.cli.data import FieldName, RegionText, show_array, write_npy
from snapserv_client.cli.drawing import Colours, Limits, limits_of
from snapserv_client.cli.options import Json, failing, region_of
from snapserv_client.cli.output import EXIT_CODES, exit_code, mebibytes, moment, plain, report, show, table
from snapserv_client.cli.parameters import Argument, Option
from snapserv_client.cli.saving import saving
from snapserv_client.figures import dtype_name, said, space

from snapserv.errors import BadRequestError, MachineDiffersError, NotPortableError, SnapservError

if TYPE_CHECKING:
    from snapserv_client.store.format import Image, Node, Tree
    from snapserv_client.store.reader import Store

    from snapserv.store.copying import Copied
    from snapserv.store.writing import StoreWriter

StoreOption = Annotated[
    str | None,
    Option(
        "--store", "-s", envvar="SNAPSERV_STORE",
        help="A folder or a URL; this user's own by default.",
    ),
]  # fmt: skip
StoredName = Annotated[str, Argument(metavar="NODE", help="A node's uid, name, tag or TREE/NAME.")]


@contextmanager
def opened(place: str | None, *, as_json: bool) -> Iterator[Store]:
    """Yield the store that is meant, to be read."""
    with failing(as_json=as_json):
        yield _open(place)


@contextmanager
def written(place: str | None, *, as_json: bool) -> Iterator[StoreWriter]:
    """Yield the store that is meant, to be changed."""
    with failing(as_json=as_json):
        yield _writer(place, create=False)


def ls(
    place: Annotated[str | None, Argument(metavar="STORE", help="A folder or a URL; as --store.")] = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Show all nodes as trees.

    Examples:
        snapserv store ls
        snapserv store ls /data/runs
    """
    damaged: list[SnapservError] = []
    with opened(place if place is not None else store, as_json=as_json) as found:
        trees = found.trees(damaged)
        of: dict[str, list[Node]] = defaultdict(list)
        for node in found.nodes(damaged=damaged):
            of[node.tree].append(node)
    names = {tree.uid: tree for tree in trees}
    lost = [uid for uid in of if uid not in names]

    def people() -> Any:
        lines = [Text(found.blobs.url, "bold")]
        for uid in (*names, *lost):
            tree = names.get(uid)
            title = f"{tree.name} · {tree.simulation}" if tree else f"tree {uid}, which is missing"
            lines.append(Text.assemble((title, "bold" if tree else "red"), (f" · {len(of[uid])} nodes", "dim")))
            lines += _rows(of[uid])
        return Group(*lines) if len(lines) > 1 else f"{found.blobs.url} is empty"

    listed = {
        "store": found.blobs.url,
        "trees": [{**_tree(tree), "nodes": [_node(node) for node in of[tree.uid]]} for tree in trees],
        "lost": [_node(node) for uid in lost for node in of[uid]],
        "damaged": [error.to_wire() for error in damaged],
    }
    show(listed, as_json=as_json, people=people)
    for error in damaged if not as_json else ():
        report(error, as_json=False)
    if damaged:
        raise click.exceptions.Exit(exit_code(damaged[0]))


def show_(node: StoredName, store: StoreOption = None, as_json: Json = False) -> None:
    """Say what a node is, what it was taken of, and whether it can be brought back on this machine.

    Examples:
        snapserv store show before
    """
    with opened(store, as_json=as_json) as found:
        it = found.node(node)
        tree = found.tree(it.tree)
        image = found.image(it.image) if it.image else None
        lineage = [each.name for each in reversed(found.lineage(it))]
        differs = _differs(image)
        recorded = it.recorded
        done = found.actions(it) if recorded is not None and not recorded.missing else None

    def people() -> Any:
        rows = table(f"{tree.name}/{it.name}", f"step {it.step:,}")
        facts = {
            "uid": it.uid,
            "lineage": " → ".join(lineage),
            "tags": " ".join(it.tags),
            "pinned": "yes" if it.pinned else "",
            "faulted": it.faulted or "",
            "message": it.message,
            "taken": moment(it.created),
            "saved": moment(it.saved),
            "written": space(it.size),
            "simulation": tree.simulation,
            "params": ", ".join(f"{name} {said(value, 1)}" for name, value in tree.params.items()),
            "of": _made_by(image),
            "needs": f"a processor of {image.machine.baseline} or later"
            if image and image.machine.baseline
            else "",
            "files": "in the store" if it.facts.get("embedded") else "",
            "here": f"cannot be brought back: {differs.message}" if differs else "can be brought back",
            "actions": f"{done.ticks:,} ticks" if done is not None else recorded.missing if recorded else "",
        }
        for name, value in facts.items():
            if value:
                rows.add_row(name, value)
        for field in tree.fields:
            rows.add_row("field", f"{field.name} · {dtype_name(field.dtype)} {field.shape}")
        return rows

    told = {
        **_node(it),
        "tree": _tree(tree),
        "lineage": lineage,
        "fields": tree.fields,
        "machine": None if image is None else image.machine,
        "actions": None if done is None else {"count": len(done), "ticks": done.ticks},
        "differs": None if differs is None else differs.to_wire(),
    }
    show(told, as_json=as_json, people=people)


def read(
    node: StoredName,
    field: FieldName,
    region: RegionText = None,
    npy: Annotated[Path | None, Option(help="Save as a .npy file.")] = None,
    png: Annotated[Path | None, Option(help="Save as a picture: a map, or a line of one dimension.")] = None,
    limits: Limits = None,
    colours: Colours = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Read a field of a node: a summary, and a file if asked.

    Examples:
        snapserv store read before state --npy state.npy
    """
    with opened(store, as_json=as_json) as found:
        wanted = region_of(region)
        kept = found.node(node)
        array = found.field(kept, field)
        if wanted is not None:
            from snapserv.memory.regions import resolve_region

            array = array[resolve_region([_bounds(part) for part in wanted], array.shape, what=field).select]
        if npy is not None:
            write_npy(array, npy)
        if png is not None:
            from snapserv_client.export.stored import node_of_store
            from snapserv_client.pictures.facts import Facts, cut
            from snapserv_client.pictures.still import draw_array

            facts = Facts(node_of_store(found, kept.uid).fields, lambda name: found.field(kept, name))
            title = f"{kept.name} · {field}{cut(wanted, facts[field])} · step {kept.step:,}"
            with saving(png):
                draw_array(png, array, facts, field, wanted, title=title, limits=limits_of(limits), colours=colours)
    show_array({"node": node, "field": field}, array, npy, png, as_json=as_json)


def verify(store: StoreOption = None, as_json: Json = False) -> None:
    """Read everything, and check it; exits with 4 where something is damaged or missing.

    Examples:
        snapserv store verify
    """
    with opened(store, as_json=as_json) as found:
        from snapserv.store import verifying

        seen = verifying.verify(found)

    def people() -> Any:
        read = f"{seen.objects:,} objects, {space(seen.size)}, {seen.nodes:,} nodes"
        lines: list[Any] = [Text(f"{read}: {'all is well' if not seen.damage else 'damaged'}")]
        for each in seen.damage:  # lines, since keys are to be copied
            lines.append(Text.assemble((each.key, "red"), f": {each.what}"))
            lines += [Text(f"  needed by {node}") for node in each.nodes]
        lines += [Text(f"strange, and left alone: {key}") for key in seen.strange]
        return Group(*lines)

    damage = [{"key": each.key, "what": each.what, "nodes": each.nodes} for each in seen.damage]
    told = {"objects": seen.objects, "size": seen.size, "nodes": seen.nodes, "strange": seen.strange}
    show({**told, "damage": damage}, as_json=as_json, people=people)
    if damage:
        raise click.exceptions.Exit(EXIT_CODES["machine"])


def gc(
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would go.")] = False,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Remove what no node needs; servers may go on saving meanwhile.

    Examples:
        snapserv store gc --dry-run
        snapserv store gc
    """
    with written(store, as_json=as_json) as writer:
        from snapserv.store.collecting import collect

        done = collect(writer, dry_run=dry_run)

    def people() -> str:
        said = f"{'would remove' if dry_run else 'removed'} {len(done.removed):,} objects, {space(done.size)}"
        return said + (f"; {space(done.young)} are too young to go" if done.young else "")

    told = {"removed": done.removed, "size": done.size, "young": done.young, "dry_run": dry_run}
    show(told, as_json=as_json, people=people)


def du(store: StoreOption = None, as_json: Json = False) -> None:
    """Say how much each tree and node takes: for itself alone, and together with others.

    Examples:
        snapserv store du
    """
    with opened(store, as_json=as_json) as found:
        from snapserv.store.usage import measure

        used = measure(found)

    def people() -> Any:
        rows = table("~node", ">own MiB", ">shared MiB")
        for tree in used.trees:
            rows.add_row(Text(tree.name or tree.uid, "bold"), mebibytes(tree.own), mebibytes(tree.shared))
            for each in tree.nodes:
                rows.add_row(f"  {each.node.name}", mebibytes(each.own), mebibytes(each.shared))
        unneeded = f"; {space(used.unnamed)} are needed by none, and go with gc" if used.unnamed else ""
        return Group(rows, Text(f"{space(used.named)} in all{unneeded}"))

    trees = [
        {
            "uid": tree.uid, "name": tree.name, "own": tree.own, "shared": tree.shared,
            "nodes": [
                {"uid": each.node.uid, "name": each.node.name, "own": each.own, "shared": each.shared}
                for each in tree.nodes
            ],
        }
        for tree in used.trees
    ]  # fmt: skip
    show({"trees": trees, "named": used.named, "unnamed": used.unnamed}, as_json=as_json, people=people)


def rm(
    names: Annotated[list[str], Argument(metavar="NODE...", help="Nodes by uid, name, tag or TREE/NAME.")],
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Remove nodes; their descendants stay. What only they needed goes with `store gc`.

    A server that runs counts on what it has stored there: drop a node there first.

    Examples:
        snapserv store rm before
    """
    with written(store, as_json=as_json) as writer:
        nodes = list({node.uid: node for node in map(writer.store.node, names)}.values())
        _refuse_roots(writer.store, nodes)
        for node in sorted(nodes, key=lambda node: node.step, reverse=True):  # so a root goes last
            writer.remove_node(node.tree, node.uid)
    gone = [node.name for node in nodes]
    told = [{"uid": node.uid, "name": node.name} for node in nodes]
    show({"removed": told}, as_json=as_json, people=lambda: f"removed {', '.join(gone)}")


All = Annotated[bool, Option("--all", help="All nodes.")]


def push(
    names: Annotated[
        list[str], Argument(metavar="NODE... TARGET", help="Which; then a folder or a URL, made if needed.")
    ],
    every: All = False,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Copy nodes to another store, with all that they need: only what is not there, and their roots.

    Examples:
        snapserv store push before /backup/runs
    """
    with failing(as_json=as_json):
        *nodes, target = names
        copied = _copy(_open(store), lambda: _writer(target, create=True), nodes, every=every)
    _show_copied(copied, as_json=as_json)


def pull(
    names: Annotated[list[str], Argument(metavar="NODE... SOURCE", help="Which; then a folder or a URL.")],
    every: All = False,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Copy nodes out of another store, with all that they need: only what is not here, and their roots.

    An image is a program that runs as you when it is brought back: pull from stores that you trust.

    Examples:
        snapserv store pull before /backup/runs
    """
    with failing(as_json=as_json):
        *nodes, source = names
        copied = _copy(_open(source), lambda: _writer(store, create=True), nodes, every=every)
    _show_copied(copied, as_json=as_json)


def _open(place: str | None) -> Store:
    from snapserv_client.store import open_store

    return open_store(place)


def _writer(place: str | None, *, create: bool) -> StoreWriter:
    import snapserv
    from snapserv.store.writing import StoreWriter

    return StoreWriter(place, create=create, by=f"snapserv {snapserv.__version__}")


def _copy(source: Store, target: Callable[[], StoreWriter], names: list[str], *, every: bool) -> Copied:
    from snapserv.store.copying import copy_nodes

    if every == bool(names):
        raise BadRequestError("which nodes?", hint="name them before the other store, or say --all and no node")
    there = source.nodes()
    asked = there if every else [source.node(name) for name in names]
    roots = {source.tree(uid).root for uid in {node.tree for node in asked}}
    asked += [node for node in there if node.uid in roots]
    return copy_nodes(source, target(), asked)


def _show_copied(copied: Copied, *, as_json: bool) -> None:
    told = {"nodes": copied.nodes, "objects": copied.objects, "size": copied.size}
    said = f"copied {copied.nodes:,} nodes; {copied.objects:,} objects, {space(copied.size)} were not there"
    show(told, as_json=as_json, people=lambda: said)


def _refuse_roots(store: Store, nodes: list[Node]) -> None:
    """Refuse to remove a root without which others could not be brought back."""
    gone = {node.uid for node in nodes}
    for tree in {node.tree for node in nodes}:
        root = store.tree(tree).root
        left = [node for node in store.nodes(tree) if node.uid not in gone]
        if root in gone and left:
            raise BadRequestError(
                f"the root of {store.tree(tree).name} cannot go: without it {len(left)} others cannot be loaded",
                hint="remove these along with it",
                details={"nodes": [node.uid for node in left]},
            )


def _made_by(image: Image | None) -> str:
    if image is None:
        return "its recording alone"
    return f"snapserv {image.machine.snapserv} · Python {image.machine.python} · {image.machine.kernel}"


def _differs(image: Image | None) -> SnapservError | None:
    """Return why an image cannot be brought back on this machine."""
    from snapserv.images.machine import Files, refuse_other

    if image is None:
        return NotPortableError("there is no image of it; load --replay does again what was done to it")
    try:
        refuse_other(image.machine)
        Files().find_changed(image.files)
    except MachineDiffersError as error:
        return error
    return None


def _bounds(part: int | slice) -> int | list[int | None]:
    return part if isinstance(part, int) else [part.start, part.stop, part.step]


def _rows(nodes: list[Node]) -> Iterator[Text]:
    from snapserv_client.display import stems, subject

    there = {node.uid for node in nodes}
    below: dict[str | None, list[Node]] = defaultdict(list)
    for node in nodes:
        below[node.parent if node.parent in there else None].append(node)
    for stem, node in stems(below, lambda node: node.uid):
        parts = [node.name, f"step {node.step:,}", *(f"#{tag}" for tag in node.tags)]
        facts = {"pinned": node.pinned, "faulted": node.faulted, "replay": not node.image}
        parts += [word for word, is_so in facts.items() if is_so]
        parts += [f'"{subject(node.message)}"'] if node.message else []
        yield Text.assemble(stem, ("●", "blue"), " ", " · ".join([*parts, f"{space(node.size)} written"]))


def _tree(tree: Tree) -> dict[str, Any]:
    return {name: plain(getattr(tree, name)) for name in ("uid", "name", "simulation", "root", "params")}


def _node(node: Node) -> dict[str, Any]:
    names = (
        "uid",
        "parent",
        "name",
        "step",
        "created",
        "saved",
        "tags",
        "pinned",
        "named",
        "automatic",
        "faulted",
        "message",
    )
    return {**{name: plain(getattr(node, name)) for name in names}, "size": node.size, "image": node.image.hex()}
