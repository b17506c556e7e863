"""Who is left out of later rounds: whoever is rejected again and again.

From the record alone, so that everyone leaves out the same ones. A rejection counts one, an accepted update takes
several off again: a cumulative sum test (Page 1954, Biometrika 41, 100-115) of somebody who is rejected nearly always
against somebody whom the layers send away now and then, as they do with one honest update in three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

from commonprior.errors import RecipeError


class Strikes(NamedTuple):
    """Where everyone stands who ever contributed: its count; and who was caught, the first one first."""

    counts: Mapping[bytes, int]
    caught: tuple[bytes, ...]


NOBODY = Strikes({}, ())


@final
@dataclass(frozen=True)
class Exclusion:
    """Left out, for good, is whose count reaches `after`; an accepted update takes `pardons` off, never below 0.

    An honest site that is rejected in half of its rounds by chance gets there in one of some 1,500 attempts from 0 (its
    count's bound exp(-0.61 after)), a liar who is rejected in nine of ten after some 20 rounds.
    """

    after: int = 12
    pardons: int = 3

    def __post_init__(self) -> None:
        if self.after < 1:
            raise RecipeError(f"exclusion.after = {self.after}: expected at least 1 rejection")
        if self.pardons < 1:
            raise RecipeError(f"exclusion.pardons = {self.pardons}: expected at least 1 rejection taken off")

    def counted(self, strikes: Strikes, contributors: Mapping[bytes, bool]) -> Strikes:
        """Return where everyone stands after one more round, from its contributors and whether each was accepted."""
        counts, caught = dict(strikes.counts), list(strikes.caught)
        for who, accepted in sorted(contributors.items()):
            before = counts.get(who, 0)
            counts[who] = max(0, before - self.pardons) if accepted else before + 1
            if counts[who] >= self.after and who not in caught:
                caught.append(who)
        return Strikes(counts, tuple(caught))

    def left_out(self, strikes: Strikes, liars: int) -> frozenset[bytes]:
        """Return who is left out: never more than `liars` per cent of all who ever contributed, the first to be caught.

        Where more are rejected, it is the judges who are wrong. Of those caught in one round, by name.
        """
        return frozenset(strikes.caught[: liars * len(strikes.counts) // 100])

    def excluded(self, rounds: Sequence[Mapping[bytes, bool]], liars: int) -> frozenset[bytes]:
        """Return who is left out after so many finished rounds."""
        strikes = NOBODY
        for contributors in rounds:
            strikes = self.counted(strikes, contributors)
        return self.left_out(strikes, liars)
