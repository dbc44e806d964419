"""What names what in a store."""

from __future__ import annotations

from snapserv_client.store import keys
from snapserv_client.store.format import Image, Node
from snapserv_client.store.reader import Store


class References:
    """What images name, remembered, since images never change.

    Args:
        store: The store that they are in.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._of_images: dict[bytes, frozenset[str]] = {}
        self._of_bases: dict[bytes, frozenset[str]] = {}

    def of_node(self, node: Node) -> frozenset[str]:
        """Return the keys of all that a node needs, beside itself and its tree.

        Raises:
            StoreDamagedError: Its image or a base is missing, or not what was written.
        """
        named = frozenset(named_by_node(node))
        return named | self.of_image(node.image) if node.image else named

    def of_image(self, sha256: bytes) -> frozenset[str]:
        """Return the keys of an image and of all that it needs; see `of_node`."""
        if sha256 not in self._of_images:
            image = self._store.image(sha256)
            packs = (keys.of_content(keys.PACKS, pack.sha256) for pack in image.packs)
            named = {keys.of_content(keys.IMAGES, sha256), *packs}
            self._of_images[sha256] = frozenset(named.union(*map(self.of_base, bases_of(image))))
        return self._of_images[sha256]

    def of_base(self, sha256: bytes) -> frozenset[str]:
        """Return the keys of a base image and of all that it needs; see `of_node`."""
        if sha256 not in self._of_bases:
            packs = (keys.of_content(keys.PACKS, pack.sha256) for pack in self._store.base(sha256).packs)
            self._of_bases[sha256] = frozenset({keys.of_content(keys.BASES, sha256), *packs})
        return self._of_bases[sha256]


def bases_of(image: Image) -> list[bytes]:
    """Return the SHA-256 of the base images of an image, and of the files that were embedded."""
    files = (file.content for file in image.files)
    descriptors = (descriptor.content for descriptor in image.descriptors)
    return [*image.bases, *(content for content in (*files, *descriptors) if content)]


def named_by_node(node: Node) -> list[str]:
    """Return the keys of what a node itself names, but for its tree."""
    pieces = node.recorded.pieces if node.recorded is not None else []
    return [
        *([keys.of_content(keys.IMAGES, node.image)] if node.image else []),
        *(keys.of_content(keys.LAYERS, layer.sha256) for layer in node.layers),
        *(keys.of_content(keys.ACTIONS, piece.sha256) for piece in pieces),
    ]


def named_by(image: Image) -> list[str]:
    """Return the keys of what an image itself names."""
    return [
        *(keys.of_content(keys.PACKS, pack.sha256) for pack in image.packs),
        *(keys.of_content(keys.BASES, sha256) for sha256 in bases_of(image)),
    ]
