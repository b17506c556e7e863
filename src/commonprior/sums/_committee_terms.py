"""Who adds up for whom in a committee sum, how many of them may vanish or lie, and what is refused beforehand."""

from __future__ import annotations

from typing import NamedTuple

from commonprior.errors import RecipeError
from commonprior.session import Seat, Session
from commonprior.sums._committee_field import FIELD, HALF


class Terms(NamedTuple):
    """The aggregators' seats, and how many of them together learn nothing: the degree of every sharing polynomial.

    Of the seats, `degree` + 2 are left when every allowed dropout is one of them: degree + 1 answers determine a sum
    and one more checks it. So whatever has the session's threshold of sites has enough aggregators, too.
    """

    seats: tuple[Seat, ...]
    degree: int


class Tolerance(NamedTuple):
    """What a committee bears with so many of it gone: liars that are named while the sum comes out right, and liars
    that cannot make it wrong without being noticed. With more than that, nothing is promised.
    """

    dropouts: int
    named: int
    detected: int


def tolerances(aggregators: int, threshold: int) -> tuple[Tolerance, ...]:
    """Return a row for each number of aggregators that may vanish from `aggregators` of privacy `threshold`.

    a answers are a Reed-Solomon word of distance a - threshold: correcting e of them (a >= threshold + 1 + 2e)
    leaves a - threshold - 1 - e to be noticed.
    """
    rows = []
    for dropouts in range(aggregators - threshold - 1):
        spare = aggregators - dropouts - threshold - 1
        rows.append(Tolerance(dropouts, spare // 2, spare - spare // 2))
    return tuple(rows)


def terms_of(session: Session, aggregators: int, threshold: int) -> Terms:
    """Return the terms of a session; 0 stands for every seat, and for the threshold that still names one liar when
    every allowed dropout is an aggregator (at least 1, at least the assumed colluders).

    Raises `RecipeError`, with the numbers, where the parts do not go together.
    """
    n, dropouts, colluders = len(session.roster), session.dropouts, session.colluders
    _require_company(session)
    _require_field(session)
    m = aggregators or n
    if m > n:
        raise RecipeError(f"sum.aggregators = {m}: there are {n} sites; take at most that many, or 0 for all")
    t = threshold or max(1, colluders, m - dropouts - 3)
    if t < colluders:
        raise RecipeError(
            f"sum.threshold = {t}: {colluders} colluders are assumed, who would open every update; take at least "
            f"{colluders}"
        )
    if t + 2 + dropouts > m:
        raise RecipeError(
            f"{m} aggregators of threshold {t} open a sum while at most {m - t - 2} of them are gone, but "
            f"{dropouts} sites may drop out: expected aggregators >= threshold + 2 + dropouts = {t + 2 + dropouts}"
        )
    return Terms(tuple(range(m)), t)


def _require_company(session: Session) -> None:
    """A sum over two gives each of them the other's update; colluders shrink it as if they were not there."""
    least, known = session.threshold, max(1, session.colluders)
    if least - known < 2:
        raise RecipeError(
            f"{len(session.roster)} sites of whom {session.dropouts} may drop out: a sum over {least} shows what "
            f"{least - known} of them sent to anyone who knows the other {known}; expected at least {known + 2} "
            f"contributors, so invite more sites or allow fewer dropouts"
        )


def _require_field(session: Session) -> None:
    encoding = session.encoding
    reach = encoding.parties * encoding.limit
    if reach > HALF:
        raise RecipeError(
            f"{encoding.parties} sites of integers up to {encoding.limit} reach {reach}, expected at most "
            f"{HALF} = (p - 1)/2 in the committee's field of p = {FIELD}: take mechanism.bytes = 2 or 4"
        )
