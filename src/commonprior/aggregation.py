"""What a round's sum becomes: the same bits at the coordinator, at each site before it signs, and for any auditor.

A mean for each group (`Mechanism.mean`), the groups' median or trimmed mean, and the new prior (`Learner.apply`).
Everyone in one sum is one group, whose mean is the result as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from commonprior.canonical import digest
from commonprior.entry import Round
from commonprior.errors import ProtocolError
from commonprior.identity import verify
from commonprior.learners import Learner
from commonprior.prior import Prior
from commonprior.privacy import Mechanism, Release
from commonprior.session import Encoding, Seat, Session, consistency_statement
from commonprior.sums import SecureSum
from commonprior.sums._groups import Draw, Grouping, groups_of


class Summed(NamedTuple):
    """A round's sum [groups, d] int64, its release, and how many sites are in it, group by group."""

    total: np.ndarray
    release: Release
    survivors: tuple[int, ...]


def release_of(
    kind: SecureSum, parties: int, dropouts: int, colluders: int, length: int, rows: int, public: bool = False
) -> Release:
    """Return what a round gives away: each sum is protected by the noise of the smallest group that can be left, less
    those who collude and those who may be missing. A public delta is protected by its own noise alone.
    """
    honest = kind.grouping.least(parties, dropouts) - colluders - kind.unsigned(parties, dropouts, colluders)
    return Release(parties, 1 if public else honest, length, rows)


def survivors_of(session: Session, grouping: Grouping, draw: Draw, survivors: Sequence[Seat]) -> tuple[int, ...]:
    """Return how many of the survivors are in each group of a draw; raise `ProtocolError` for a stranger to it."""
    counts = tuple(len(set(g.seats).intersection(survivors)) for g in groups_of(session, grouping, draw))
    if sum(counts) != len(survivors):
        raise ProtocolError(f"of {len(survivors)} contributors, {sum(counts)} are in the groups that the draw makes")
    return counts


def check_agreement(session: Session, grouping: Grouping, entry: Round) -> None:
    """Raise `ProtocolError` unless each group's threshold of sites signed whose sealed bytes are summed in it."""
    chosen = entry.survivors
    if len(chosen) < session.threshold or len(chosen) != len(entry.commitments) or list(chosen) != sorted(set(chosen)):
        raise ProtocolError(f"{len(chosen)} contributors, expected at least {session.threshold}, rising, each once")
    survivors_of(session, grouping, entry.draw, chosen)
    commitments = dict(zip(chosen, entry.commitments, strict=True))
    for own, seats in groups_of(session, grouping, entry.draw):
        here = [seat for seat in seats if seat in commitments]
        statement = consistency_statement(own, [seats.index(s) for s in here], [commitments[s] for s in here])
        agreed = {s for s, g in entry.consistency if s in seats and verify(session.roster[s].key, g, statement)}
        if min(len(agreed), len(here)) < own.threshold:
            raise ProtocolError(
                f"whose updates are summed: signed by {len(agreed)} sites, expected {own.threshold}"
                + f" in the group of {len(seats)}" * (grouping.groups > 1)
            )


def read_sum(data: bytes, session: Session, grouping: Grouping, entry: Round, release: Release) -> Summed:
    """Return the sum whose bytes these are; raise `ProtocolError` where they are not those that the entry names."""
    encoding, survivors = session.encoding, survivors_of(session, grouping, entry.draw, entry.survivors)
    if digest(data) != entry.sum or len(data) != grouping.groups * session.length * encoding.width:
        raise ProtocolError("the sum's bytes are not those that the entry names")
    total = encoding.from_words(np.frombuffer(data, encoding.word)).reshape(grouping.groups, session.length)
    for row, count in zip(total, survivors, strict=True):
        largest = max(int(row.max(initial=0)), -int(row.min(initial=0)))  # abs(-2^63) is no int64
        if largest > count * encoding.limit:
            raise ProtocolError(
                f"a number of the sum is {largest}, over {count * encoding.limit} = {count} sites of up to "
                f"{encoding.limit}: someone sent more than its encoding allows"
            )
    return Summed(total, release, survivors)


def new_prior(
    learner: Learner, mechanism: Mechanism, grouping: Grouping, prior: Prior, encoding: Encoding, summed: Summed
) -> tuple[Prior, Mechanism]:
    """Return the prior that a sum makes of the one before, and the mechanism of the next round.

    Canonical: float64 elementwise in a fixed order, whatever the machine.
    """
    means = [
        mechanism.mean(total, encoding, summed.release, survivors)
        for total, survivors in zip(summed.total, summed.survivors, strict=True)
    ]
    following = next_mechanism(mechanism, summed)
    return learner.apply(prior, combined(grouping, np.stack(means)), None).with_state(following.state()), following


def combined(grouping: Grouping, means: np.ndarray) -> np.ndarray:
    """Return the coordinate-wise median or trimmed mean [d] of the groups' means [groups, d], float64.

    While at most `grouping.tolerated` rows are not what they should be, each coordinate lies between the smallest and
    the largest of the other rows' (Yin et al. 2018, arXiv 1803.01498). One row comes back as it is, -0.0 as 0.0.
    """
    ranked = np.sort(means + 0.0, axis=0)  # of 0.0 and -0.0, which sorting does not tell apart, only 0.0 is left
    out = grouping.groups // 2 if grouping.combine == "median" else grouping.trim
    kept = ranked[out : grouping.groups - out]
    total = kept[0].copy()
    for row in kept[1:]:  # one addition after the other: numpy may sum an axis pairwise
        total += row
    # Rounding may carry a mean of equal numbers past them by a bit.
    return np.clip(total / len(kept), kept[0], kept[-1])


def next_mechanism(mechanism: Mechanism, summed: Summed) -> Mechanism:
    """Return the mechanism of the next round: of those that each group would go on with, the one of median clip.

    As every group moves it within the same bounds, liars in fewer than half of the groups leave its clip within what
    the honest ones ask for.
    """
    moved = [
        mechanism.observe(total, summed.release, survivors)
        for total, survivors in zip(summed.total, summed.survivors, strict=True)
    ]
    return sorted(moved, key=lambda m: m.clip)[(len(moved) - 1) // 2]
