"""A plan: the protocols with their costs, the one that fits, the committee's tolerances, and the promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from commonprior import plugin
from commonprior.errors import RecipeError
from commonprior.planning.cohort import cohort_of, size_of
from commonprior.planning.forecast import Forecast, best, forecast, operations, protecting, protocols
from commonprior.planning.network import Network, read_network
from commonprior.planning.privacy import Promise, promise_of
from commonprior.planning.speed import measure
from commonprior.recipe import Recipe
from commonprior.sums._committee_terms import Terms, Tolerance, terms_of, tolerances
from commonprior.work import Operation


class Committee(NamedTuple):
    """What a committee of all sites bears, row by row; or why there is none."""

    terms: Terms | None
    rows: tuple[Tolerance, ...] = ()
    refusal: str = ""


class Plan(NamedTuple):
    """What a round of a recipe will cost and promise. `protecting` is the seconds a site spends on clip and noise."""

    sites: int
    dropouts: int
    colluders: int
    parameters: int
    width: int
    word: int
    network: Network
    protocols: tuple[Forecast, ...]
    own: str
    advice: Forecast | None
    reason: str
    committee: Committee
    promise: Promise
    protecting: float
    speed: dict[Operation, float]


def make_plan(recipe: Recipe, data: Path | None, sites: int = 0, parameters: int = 0, network: str = "wan") -> Plan:
    """Plan a round of a recipe; measures this machine for about a second.

    `sites` and `parameters` take the place of what the tasks say, where they are not 0. Raises `InputError` where the
    network is unknown, the tasks cannot be read and a number is missing, or the parts do not go together.
    """
    link = read_network(network)
    cohort = cohort_of(recipe, size_of(recipe, data, sites, parameters))
    promise = promise_of(recipe, cohort)
    protecting_one = protecting(recipe.mechanism, cohort)
    found = protocols(recipe, cohort)
    speed = measure(operations(found, protecting_one))
    costed = tuple(forecast(one, cohort, link, speed) for one in found)
    advice, reason = best(costed)
    session, schedule = cohort.session, recipe.schedule
    own = next((one.name for one in costed if one.sum == recipe.sum), plugin.kind_of(recipe.sum))
    return Plan(
        len(session.roster), schedule.dropouts, schedule.colluders, cohort.release.length, session.length,
        session.encoding.width, link, costed, own, advice, reason, _committee(session), promise,
        speed[protecting_one] * session.length, speed,
    )  # fmt: skip


def as_table(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain values, for JSON: seconds, bytes, and whole numbers."""
    return {
        "sites": plan.sites, "dropouts": plan.dropouts, "colluders": plan.colluders, "parameters": plan.parameters,
        "numbers_travelling": plan.width, "bytes_a_number": plan.word, "network": plan.network._asdict(),
        "protocols": [_row(one) for one in plan.protocols], "recipe": plan.own,
        "advice": plan.advice.name if plan.advice else None, "reason": plan.reason,
        "committee": {
            "aggregators": len(plan.committee.terms.seats) if plan.committee.terms else None,
            "threshold": plan.committee.terms.degree if plan.committee.terms else None,
            "tolerates": [row._asdict() for row in plan.committee.rows], "refusal": plan.committee.refusal,
        },
        "privacy": {**plan.promise._asdict(), "needed": [need._asdict() for need in plan.promise.needed],
                    "affordable": _finite(plan.promise.affordable)},
        "clip_and_noise_seconds": plan.protecting,
        "unit_costs": {operation.name: cost for operation, cost in plan.speed.items()},
    }  # fmt: skip


def _committee(session: Any) -> Committee:
    try:
        terms = terms_of(session, 0, 0)
    except RecipeError as error:
        return Committee(None, (), str(error))
    return Committee(terms, tolerances(len(terms.seats), terms.degree))


def _row(one: Forecast) -> dict[str, Any]:
    row = {"name": one.name, "trust": one.sum.trust, "insecure": one.sum.insecure, "refusal": one.refusal}
    if one.work is None:
        return row
    return {
        **row, "seconds": one.seconds, "seconds_in_process": one.here, "site_seconds": one.site,
        "coordinator_seconds": one.coordinator, "up": one.up, "down": one.down, "all_up": one.all_up,
        "round_trips": one.round_trips,
        "reader": one.work.reader, "wrong_sum_is_noticed": one.work.is_checked,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None
