"""Which random stream a branch is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snapserv_client.protocol import Notice, Rng

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


class Reseeding:
    """What became of a request for random streams, in all branches that it was for: ``names`` were reseeded."""

    def __init__(self, rng: Rng) -> None:
        self.names: list[str] = []
        self._asked = rng != "same"
        self._missed: list[str] = []
        self._begun = 0

    def add(self, begun: Mapping[str, Any]) -> None:
        """Add what a cell answered when it began; nothing where none of the author's code has run."""
        if "reseeded" not in begun:
            return
        self._begun += 1
        for told, further in ((self.names, begun["reseeded"]), (self._missed, begun["missed"])):
            told += [each for each in further if each not in told]

    def notices(self) -> list[Notice]:
        """Return what whoever asked should know."""
        if not self._asked or not self._begun:
            return []
        if self._missed:
            return [
                Notice(
                    "rng_partly_unchanged",
                    f"some random streams may be the same as they were: {'; '.join(self._missed)}",
                    hint="reseed them in a method reseed(seed) of the simulation's, or in on_branch",
                    details={"reseeded": [*self.names], "missed": [*self._missed]},
                )
            ]
        if self.names:
            return []
        return [
            Notice(
                "rng_unchanged",
                "another random stream was asked for, and no stream was found that the simulation draws from",
                hint="where it has chance from elsewhere, give it a method reseed(seed), or on_branch",
            )
        ]
