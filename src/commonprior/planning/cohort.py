"""A cohort that does not exist yet: so many sites, so many parameters, and the session that they would hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from commonprior.aggregation import release_of
from commonprior.canonical import digest, encode
from commonprior.errors import CommonPriorError, InputError
from commonprior.identity import Identity
from commonprior.privacy import Release
from commonprior.recipe import Recipe
from commonprior.sampling import learning_key
from commonprior.session import Member, Session

_MOST_SITES, _MOST_PARAMETERS = 100_000, 10**10


class Cohort(NamedTuple):
    """The session of a first round, its `coordinator`, what a round releases, the bytes of the prior, and whether sites
    cast ballots for a ledger.
    """

    session: Session
    coordinator: Identity
    release: Release
    prior_bytes: int
    ballots: bool = True


class Size(NamedTuple):
    """How many sites learn how many parameters, and the bytes of their prior."""

    sites: int
    parameters: int
    prior_bytes: int


def size_of(recipe: Recipe, data: Path | None, sites: int, parameters: int) -> Size:
    """Return the size of a run; `sites` and `parameters` that are not 0 take the place of what the tasks say.

    The tasks are loaded only where one of the two is 0. Raises `InputError` where that fails.
    """
    for flag, value in (("--sites", sites), ("--parameters", parameters)):
        least, most = (2, _MOST_SITES) if flag == "--sites" else (1, _MOST_PARAMETERS)
        if value and not least <= value <= most:
            raise InputError(f"{flag} {value}: expected {least} to {most:,}")
    if sites and parameters:
        return Size(sites, parameters, 4 * parameters)
    try:
        family = recipe.tasks.load(data)
        prior = recipe.learner.init(family.spec, learning_key(recipe.schedule.seed, "init"))
    except CommonPriorError as error:
        missing = " and ".join(f for f, v in (("--sites N", sites), ("--parameters D", parameters)) if not v)
        raise InputError(f"{error}; without the tasks, say {missing}") from None
    if parameters:
        return Size(len(family.train), parameters, 4 * parameters)
    return Size(sites or len(family.train), recipe.learner.length(prior), len(prior.encode()))


def cohort_of(recipe: Recipe, size: Size) -> Cohort:
    """Return the cohort; raise `InputError` where sites, dropouts, colluders and the mechanism do not go together."""
    schedule, n, coordinator = recipe.schedule, size.sites, Identity.generate()
    release = release_of(recipe.sum, n, schedule.dropouts, schedule.colluders, size.parameters,
                         schedule.tasks_per_site, recipe.public)  # fmt: skip
    roster = tuple(Member(f"site {seat}", digest(["commonprior/plan/1", seat])) for seat in range(n))
    if 2 * (n - schedule.dropouts) <= n + schedule.colluders:
        raise InputError(
            f"{n} sites, {schedule.dropouts} dropouts and {schedule.colluders} colluders do not go together: expected "
            f"2 · (sites - dropouts) > sites + colluders; allow fewer dropouts or plan for more sites"
        )
    blank = bytes(32)
    session = Session(
        bytes(16), 1, 0, blank, recipe.hash(), blank, coordinator.key, roster, schedule.dropouts, schedule.colluders,
        recipe.mechanism.width(size.parameters), recipe.mechanism.encoding(release),
    )  # fmt: skip
    return Cohort(session, coordinator, release, size.prior_bytes, recipe.ledger.kind != "none")


def invitation_bytes(cohort: Cohort) -> int:
    """Return the bytes of an invitation's body: session, prior, and the last record with everyone's signatures."""
    signature = len(encode([[seat, bytes(64)] for seat in range(len(cohort.session.roster))]))
    if cohort.ballots:
        signature += len(encode({"ballots": [[seat, bytes(65)] for seat in range(len(cohort.session.roster))]}))
    return len(encode(dataclasses.asdict(cohort.session))) + cohort.prior_bytes + entry_bytes(cohort) + signature


def entry_bytes(cohort: Cohort) -> int:
    """Return the bytes of a round's entry: whose bytes were summed, commitments to them, signatures."""
    return len(encode([[seat, bytes(32), seat, bytes(64)] for seat in range(len(cohort.session.roster))])) + 440
