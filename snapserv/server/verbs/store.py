"""Verbs of the store: snapshots that outlive the server."""

from __future__ import annotations

from snapserv_client import protocol

from ...errors import NotFoundError, SnapservError, UnsupportedError
from ...nodes.tree import Node
from ...nodes.turns import Turn
from ...operations.keeping import Keeper
from ..service import Call
from .registry import handles


@handles("save")
async def save(call: Call, args: protocol.SaveArgs) -> protocol.SaveResult:
    await call.service.planted()
    keeper, nodes = _keeper(call), call.service.nodes
    node = nodes.find(call.reference)
    if node.kind == "branch":
        async with Turn(nodes.queue(node)):
            node, _ = await nodes.take_snapshot(node, name=args.name)
    saved = [await _save(call, keeper, node, args)]
    others = [each for each in node.tree.names.values() if each.kind == "snapshot" and each is not node]
    for each in {other.id: other for other in others}.values() if args.all else ():
        try:
            saved.append(await _save(call, keeper, each, args))
        except SnapservError as error:
            saved.append(protocol.SavedNode(each.path, error=error.code, message=error.message))
    return protocol.SaveResult(nodes.info(node), saved, keeper.saving.store)


@handles("load")
async def load(call: Call, args: protocol.LoadArgs) -> protocol.LoadResult:
    await call.service.planted()
    loading = _keeper(call).loading
    found = await loading.load(
        args.stored,
        name=args.name,
        whole=args.tree,
        replay=args.replay,
        on_progress=call.told(args.progress),
    )
    infos = [call.service.nodes.info(each) for each in found]
    return protocol.LoadResult(infos[0], infos)


@handles("stored")
async def stored(call: Call, args: protocol.StoredArgs) -> protocol.StoredResult:
    await call.service.planted()
    keeper = _keeper(call)
    page, total = await keeper.saving.list_stored(args.offset, args.limit)
    after = args.offset + len(page)
    return protocol.StoredResult(
        keeper.saving.store,
        [protocol.StoredNode(**each) for each in page],
        total,
        after if after < total else None,
    )


async def _save(call: Call, keeper: Keeper, node: Node, args: protocol.SaveArgs) -> protocol.SavedNode:
    nodes = call.service.nodes
    async with Turn(shared=[nodes.queue(node)]):
        if node.id not in nodes.forest.nodes:
            raise NotFoundError(f"{node.path} was dropped")
        before = keeper.saving.saved(node)
        saved = await keeper.saving.save(node, replay=args.replay, embed=args.embed)
    return protocol.SavedNode(
        node.path,
        saved.uid,
        saved.size,
        new=before is None or before.image != saved.image,
        embedded=saved.embedded,
        replay=not saved.image,
    )


def _keeper(call: Call) -> Keeper:
    if call.service.keeper is None:
        raise UnsupportedError("this server has no store", hint="serve with --store")
    return call.service.keeper
