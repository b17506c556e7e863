"""What a recipe promises about whom, what a promise would take, and how much the noise drowns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from commonprior.accountant import calibrate, remaining, spend_of
from commonprior.errors import CommonPriorError
from commonprior.planning.cohort import Cohort
from commonprior.privacy import Mechanism, Release
from commonprior.recipe import Recipe

TARGETS = (1.0, 4.0, 8.0)
"""What to ask the noise of, where the recipe has no budget."""

_MOST_SITES = 2**24


class Needed(NamedTuple):
    """The noise that an `epsilon` takes; None with a `refusal` where no noise does."""

    epsilon: float
    noise: float | None
    refusal: str = ""


class Promise(NamedTuple):
    """Epsilon of `rounds` rounds, one attempt each, for each `unit` at `delta`; None where there is no promise.

    `a_record` is for a record that is changed or taken out within a task or site: at most twice the clip away, at half
    the noise. `ratio` is the noise-to-signal ratio of one round's mean, `enough` from how many sites it is at most 1.
    """

    unit: str
    noise: float
    delta: float
    rounds: int
    a_round: float | None
    a_run: float | None
    a_record: float | None
    budget: float
    affordable: float
    needed: tuple[Needed, ...]
    width: int
    parameters: int
    ratio: float
    enough: int | None


def promise_of(recipe: Recipe, cohort: Cohort) -> Promise:
    """Return what the recipe promises in this cohort."""
    mechanism, release, budget, rounds = recipe.mechanism, cohort.release, recipe.budget, recipe.schedule.rounds
    unit, delta = mechanism.unit, budget.delta
    spend = spend_of(mechanism.spends(release), unit)
    a_round = a_run = a_record = None
    affordable = math.inf
    if spend.private:
        a_round, a_run = spend.epsilon(delta), spend.times(rounds).epsilon(delta)
        half = spend_of(_with_noise(mechanism, mechanism.noise / 2).spends(release), unit)
        a_record = half.times(rounds).epsilon(delta)
        affordable = remaining(spend.times(0), spend, budget.epsilon, delta)
    targets = (budget.epsilon,) if budget.epsilon else TARGETS
    needed = tuple(_needed(mechanism, release, target, delta, rounds) for target in targets)
    ratio = noise_to_signal(mechanism, release)
    return Promise(
        unit, mechanism.noise, delta, rounds, a_round, a_run, a_record, budget.epsilon, affordable, needed,
        mechanism.width(release.length), release.length, ratio, _enough(recipe, release),
    )  # fmt: skip


def noise_to_signal(mechanism: Mechanism, release: Release) -> float:
    """Return the expected L2 norm of the noise in one round's mean over the clip, which is the most that the mean of
    clipped rows can measure. At 1 the noise is as long as the longest mean.

    Each of n sites adds noise of variance (noise · clip)² / honest to each number that travels; the mean divides the
    sum by n sites, and by the rows of each where the unit is the task.
    """
    rows = release.rows if mechanism.unit == "task" else 1
    spread = mechanism.noise * math.sqrt(release.parties / release.honest)
    return spread * math.sqrt(mechanism.width(release.length)) / (release.parties * rows)


def _enough(recipe: Recipe, release: Release) -> int | None:
    """Return the fewest sites at which the noise-to-signal ratio is at most 1, dropouts and colluders as they are.

    The few of a fleet who may be missing (`SecureSum.unsigned`) are not counted: this tries a million sites.
    """
    mechanism, schedule = recipe.mechanism, recipe.schedule

    def ratio(sites: int) -> float:
        honest = recipe.sum.grouping.least(sites, schedule.dropouts) - schedule.colluders
        planned = release._replace(parties=sites, honest=honest)
        return noise_to_signal(mechanism, planned) if planned.honest > 0 else math.inf

    low = 2 * schedule.dropouts + schedule.colluders
    high = max(low + 1, 2)
    while ratio(high) > 1:
        low, high = high, 2 * high
        if high > _MOST_SITES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if ratio(middle) <= 1 else (middle, high)
    return max(high, 2)


def _needed(mechanism: Mechanism, release: Release, epsilon: float, delta: float, rounds: int) -> Needed:
    try:
        return Needed(epsilon, calibrate(_event(mechanism, release), epsilon, delta, rounds))
    except CommonPriorError as error:
        return Needed(epsilon, None, str(error))


def _event(mechanism: Mechanism, release: Release) -> Callable[[float], Any]:
    return lambda noise: _with_noise(mechanism, noise).spends(release)


def _with_noise(mechanism: Mechanism, noise: float) -> Mechanism:
    # Every mechanism is a frozen dataclass, which its abstract class cannot say.
    return dataclasses.replace(mechanism, noise=noise)  # pyright: ignore
