"""Trees, nodes and images of made-up processes, to put into stores."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xxhash
from snapserv_client.store.columns import pack_columns
from snapserv_client.store.format import (
    PAGE,
    Area,
    Base,
    FieldPlace,
    Image,
    Machine,
    Node,
    Pack,
    Runs,
    Session,
    Tree,
)

from snapserv.store.writing import Saving

MACHINE = Machine("x86_64", ["sse2"], "6.18", "2.36", "3.11", "0.1.0", 1)
START = 0x7F00_0000_0000
"""Where the memory of made-up processes begins."""


def uid() -> str:
    return secrets.token_hex(16)


def digests_of(pages: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.frombuffer(b"".join(xxhash.xxh3_128_digest(page.data) for page in pages), "V16")


def some_pages(generator: np.random.Generator, count: int) -> np.ndarray[Any, Any]:
    """Return pages of which half can be compressed."""
    pages = generator.integers(0, 256, (count, PAGE), np.uint8)
    pages[::2, 64:] = 7
    return pages


def runs_of(parts: Sequence[tuple[int, int, int, int]]) -> Runs:
    """Return runs of (address, pages, pack, slot)."""
    table = np.array(parts, np.uint64).reshape(-1, 4)
    return pack_columns(*table.T)


def runs_of_slots(start: int, slots: np.ndarray[Any, Any], pack: int = 0) -> Runs:
    """Return a run for each page, from ``start`` on."""
    return runs_of([(start + at * PAGE, 1, pack, slot) for at, slot in enumerate(slots.tolist())])


def put_pages(saving: Saving, pages: np.ndarray[Any, Any]) -> tuple[Pack, np.ndarray[Any, Any]]:
    """Write a pack; return it, and the slot of each page."""
    with saving.pack() as writer:
        slots = writer.add(pages.data, digests_of(pages))
        pack = writer.close()
    assert pack is not None
    return pack, slots


def put_base(saving: Saving, pages: np.ndarray[Any, Any]) -> bytes:
    pack, slots = put_pages(saving, pages)
    return saving.put_base(Base(pages.size, [pack], runs_of_slots(0, slots)))


def image_of(pages: int, packs: Sequence[Pack], runs: Runs, base: bytes | None = None) -> Image:
    """Return an image of one area, on zeros or on a base image."""
    kind: Any = "anonymous" if base is None else "base"
    area = Area(START, START + pages * PAGE, 3, kind)
    return Image(MACHINE, list(packs), [area], runs, [], [] if base is None else [base], [], {})


def tree_of(
    name: str = "world", fields: Mapping[str, tuple[int, Any, Sequence[int]]] | None = None, **more: Any
) -> Tree:
    """Return a tree, with fields given as (offset, dtype, shape)."""
    places = [
        FieldPlace(field, START + offset, dtype, list(shape))
        for field, (offset, dtype, shape) in (fields or {}).items()
    ]
    return Tree(uid(), name, "world:World", uid(), {"seed": 7}, places, {}, **more)


def node_of(tree: Tree, image: bytes, name: str, parent: Node | None = None, **more: Any) -> Node:
    step = parent.step + 1 if parent else 0
    above = parent.uid if parent else None
    return Node(uid(), tree.uid, above, image, name, step, created=1000.0 + step, saved=2000.0, **more)


def save(
    saving: Saving,
    tree: Tree,
    name: str,
    pages: np.ndarray[Any, Any],
    parent: Node | None = None,
    base: bytes | None = None,
    reused: Pack | None = None,
    **more: Any,
) -> Node:
    """Save a node whose memory is ``pages``, or of a base with those as its first ones; the tree as well."""
    pack, slots = put_pages(saving, pages)
    packs = [pack] if reused is None else [pack, reused]
    image = saving.put_image(image_of(len(pages), packs, runs_of_slots(START, slots), base))
    saving.put_tree(tree)
    node = node_of(tree, image, name, parent, **more)
    saving.put_node(node)
    return node


def session_of(tree: Tree) -> Session:
    return Session(uid(), "host", "boot", 1, 1000.0, 1001.0, trees=[tree.uid])
