"""Who sums with whom: a partition of the roster that every site draws, every site checks and every auditor repeats.

Each group holds its sum in a session of its own, bound to the whole session and to everything that was shown in the
draw: no key, share or signature of one group, or of another draw, means anything in it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple, TypeAlias

from commonprior.canonical import digest
from commonprior.errors import InputError, ProtocolError, RecipeError
from commonprior.session import Seat, Session
from commonprior.sums._draw import Coins, commit_contribution, joint_seed

Draw: TypeAlias = tuple[tuple[Seat, bytes], ...]
"""What each site that took part in a draw has shown, by seat: the groups follow from it."""


class Group(NamedTuple):
    """One group: the session in which it sums, and who sits on its seats, as seats of the whole roster, rising."""

    session: Session
    seats: tuple[Seat, ...]


@dataclass(frozen=True)
class Grouping:
    """How many groups sum apart, how many sites each may lose (None: all that the schedule allows to drop out), and
    how their means become one: the median, or the mean without the `trim` smallest and `trim` largest.
    """

    groups: int = 1
    combine: Literal["median", "trimmed_mean"] = "median"
    trim: int = 0
    dropouts: int | None = None

    @property
    def tolerated(self) -> int:
        """How many groups may hold a site that lies, and the result still lies within the honest groups' means."""
        return (self.groups - 1) // 2 if self.combine == "median" else self.trim

    def spare(self, dropouts: int, gone: int) -> int:
        """Return how many sites a group may lose after a draw that `gone` of the allowed `dropouts` missed."""
        left = dropouts - gone
        return left if self.dropouts is None else min(self.dropouts, left)

    def least(self, parties: int, dropouts: int) -> int:
        """Return how many sites are left in the smallest group when the worst of what is allowed has happened."""
        return min((parties - gone) // self.groups - self.spare(dropouts, gone) for gone in range(dropouts + 1))

    def repeated(self, parties: int, dropouts: int) -> Fraction:
        """Return the probability that an attempt fails because a group lost more than it may.

        For the worst case that the schedule allows: all `dropouts` vanish after the draw, whoever they are (the draw
        does not know them): a multivariate hypergeometric tail, exact.
        """
        spare, ways = self.spare(dropouts, 0), [1]
        for size in sizes(parties, self.groups):
            fits = [math.comb(size, lost) for lost in range(min(spare, size) + 1)]
            ways = [
                sum(ways[i] * fits[total - i] for i in range(len(ways)) if 0 <= total - i < len(fits))
                for total in range(min(dropouts, len(ways) + len(fits) - 2) + 1)
            ]
        fine = ways[dropouts] if dropouts < len(ways) else 0
        return 1 - Fraction(fine, math.comb(parties, dropouts))

    def describe(self, parties: int, dropouts: int, colluders: int) -> str:
        """Return what groups cost and give, in words; nothing where everyone is in one sum."""
        if self.groups == 1:
            return ""
        rule = "median" if self.combine == "median" else "trimmed mean"
        more = math.sqrt(math.pi * self.groups / 2)
        again = float(self.repeated(parties, dropouts))
        repeats = f"; an attempt with all allowed dropouts is repeated with probability {again:.2g}" * (again > 0)
        return (
            f"the means of {self.groups} groups, drawn anew in each attempt, are seen instead of one mean: each hides "
            f"a site among at least {self.least(parties, dropouts) - colluders} sites that do not collude, and each is "
            f"noised by itself, so that the stated cost holds and the new prior has up to {more:.2g} times the noise; "
            f"their {rule} stays within the honest groups' means while at most {self.tolerated} groups hold a site "
            f"that lies{repeats}"
        )

    def require(self, session: Session, minimum: int) -> None:
        """Raise `RecipeError`, with the numbers, unless every group keeps `minimum` sites that do not collude."""
        n, k, g = len(session.roster), session.dropouts, session.colluders
        for gone in range(k + 1):
            size, spare = (n - gone) // self.groups, self.spare(k, gone)
            if size - spare - g < minimum or size <= 2 * spare + g:
                need = max(minimum + spare + g, 2 * spare + g + 1)
                raise RecipeError(
                    f"sum.groups = {self.groups} of {n - gone} sites have {size} sites each, of which {spare} may "
                    f"drop out and {g} collude: expected at least {need} a group, {need * self.groups + gone} sites "
                    f"in all, for a minimum cohort of {minimum}; invite more sites, or allow fewer groups or dropouts"
                )


WHOLE = Grouping()
"""Everyone in one sum."""


def sizes(participants: int, groups: int) -> list[int]:
    """Return the groups' sizes, which differ by at most one, the larger ones first."""
    return [participants // groups + (number < participants % groups) for number in range(groups)]


def commitment_of(session: Session, seat: Seat, contribution: bytes) -> bytes:
    """Return a site's commitment to what it will show in the draw of this session's groups."""
    return commit_contribution(_context(session), seat, contribution)


def groups_of(session: Session, grouping: Grouping, draw: Draw) -> tuple[Group, ...]:
    """Return the groups that a draw makes: the whole session where there is one, and nothing to draw.

    The participants, shuffled by what all of them have shown, are dealt out like cards. Raises `ProtocolError` for a
    draw that no honest attempt makes.
    """
    if grouping.groups == 1:
        if draw:
            raise ProtocolError(f"a draw of {len(draw)} sites, where everyone is in one sum")
        return (Group(session, tuple(range(len(session.roster)))),)
    seats = [seat for seat, _ in draw]
    if seats != sorted(set(seats)) or not all(0 <= seat < len(session.roster) for seat in seats):
        raise ProtocolError(f"a draw by seats {seats}: expected seats of the roster, rising")
    if len(seats) < session.threshold:
        raise ProtocolError(f"{len(seats)} sites took part in the draw, expected at least {session.threshold}")
    commitments = {seat: commitment_of(session, seat, shown) for seat, shown in draw}
    seed = joint_seed(_context(session), commitments, dict(draw))
    shuffled = Coins(seed).sample(seats, len(seats))
    dealt = [tuple(sorted(shuffled[number :: grouping.groups])) for number in range(grouping.groups)]
    return tuple(_group(session, grouping, seed, number, dealt) for number in range(grouping.groups))


def _context(session: Session) -> bytes:
    return digest(["commonprior/groups/1", session.hash])


def _group(session: Session, grouping: Grouping, seed: bytes, number: int, dealt: Sequence[tuple[Seat, ...]]) -> Group:
    seats, gone = dealt[number], len(session.roster) - sum(map(len, dealt))
    try:
        own = dataclasses.replace(
            session,
            run=digest(["commonprior/group/1", session.hash, seed, number]),
            roster=tuple(session.roster[seat] for seat in seats),
            dropouts=grouping.spare(session.dropouts, gone),
            encoding=dataclasses.replace(session.encoding, parties=len(seats)),
        )
    except InputError as error:
        raise ProtocolError(f"group {number}: {error}") from None
    return Group(own, seats)
