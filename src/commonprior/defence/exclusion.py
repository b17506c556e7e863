"""Who is left out of later rounds: whoever is rejected again and again.

From the record alone, so that everyone leaves out the same ones. A rejection counts one, an accepted update takes one
off again: layers that send an honest site away now and then do not lock it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from commonprior.errors import RecipeError


@final
@dataclass(frozen=True)
class Exclusion:
    """Left out, for good, is who has been rejected `after` times more than accepted since its count was last 0."""

    after: int = 5

    def __post_init__(self) -> None:
        if self.after < 1:
            raise RecipeError(f"exclusion.after = {self.after}: expected at least 1 rejection")

    def excluded(self, rounds: Sequence[Mapping[bytes, bool]], liars: int) -> frozenset[bytes]:
        """Return who is left out, from every finished round's contributors and whether each was accepted.

        Never more than `liars` per cent of all who ever contributed, the first to be caught: where more are rejected,
        it is the judges who are wrong. Of those caught in one round, by name.
        """
        counts: dict[bytes, int] = {}
        out: list[bytes] = []
        for contributors in rounds:
            for who, accepted in sorted(contributors.items()):
                counts[who] = max(0, counts.get(who, 0) - 1) if accepted else counts.get(who, 0) + 1
                if counts[who] >= self.after and who not in out:
                    out.append(who)
        return frozenset(out[: liars * len(counts) // 100])
