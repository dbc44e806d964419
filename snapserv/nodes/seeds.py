"""Which random stream a branch is given."""

from __future__ import annotations

from snapserv_client.protocol import Rng

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def seed_of(rng: Rng, node_id: int) -> int | None:
    """Return the seed that a branch is given: None keeps the stream, ``"split"`` derives one from its id.

    The derivation is the splitmix64 mixer (Steele, Lea, Flood, 2014), so that neighbouring ids give seeds that
    have nothing in common.
    """
    if rng == "same":
        return None
    if isinstance(rng, int):
        return rng
    mixed = (node_id * _GOLDEN) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) >> 1
