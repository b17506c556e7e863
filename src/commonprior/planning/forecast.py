"""What a round costs under each protocol: seconds here, seconds over a network, bytes; and which protocol fits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

import commonprior.sums
from commonprior import plugin
from commonprior.errors import CommonPriorError
from commonprior.planning.cohort import Cohort, entry_bytes, invitation_bytes
from commonprior.planning.network import Network
from commonprior.planning.speed import Speed, seconds
from commonprior.prior import Contributions
from commonprior.privacy import Mechanism
from commonprior.recipe import Recipe
from commonprior.sums import SecureSum
from commonprior.sums._operations import made, message, read
from commonprior.sums._work import variants_of, work_of
from commonprior.work import Amounts, Operation, Phase, Role, Work, together

_SAMPLE = 20_000
_DEARER = 2.0
"""A sum whose result is checked is worth at most so many times the seconds of one whose result is not."""


class Forecast(NamedTuple):
    """A protocol for this cohort. `work` is None where `refusal` says why it does not fit.

    Of a round in which nobody drops out, learning not counted: `seconds` over the network, `here` with everyone in one
    process, `site` and `coordinator` of computing in the busiest site and in the coordinator, `up` and `down` the bytes
    of the busiest site, `all_up` of all sites.
    """

    name: str
    sum: SecureSum
    work: Work | None
    refusal: str = ""
    seconds: float = 0.0
    here: float = 0.0
    site: float = 0.0
    coordinator: float = 0.0
    up: float = 0.0
    down: float = 0.0
    all_up: float = 0.0

    @property
    def round_trips(self) -> int:
        """How often a site is asked and answers in a round, by the invitation and for the record included."""
        return 2 + sum(1 for phase in self.work.phases if phase.roles) if self.work else 0

    @property
    def is_hidden(self) -> bool:
        """Whether nobody at all could read an update."""
        return self.work is not None and not self.work.reader


def protocols(recipe: Recipe, cohort: Cohort) -> list[Forecast]:
    """Return every protocol that there is, the recipe's own as it is, with its work or why it does not fit."""
    found: list[Forecast] = []
    for kind in plugin.kinds(commonprior.sums):
        try:
            cls = plugin.load(commonprior.sums, SecureSum, kind)
            named = variants_of(cls, cohort.session)
        except CommonPriorError as error:
            found.append(Forecast(kind, recipe.sum, None, str(error)))
            continue
        if plugin.kind_of(recipe.sum) == kind and recipe.sum not in named.values():
            named = {**named, f"{kind}, as in the recipe": recipe.sum}
        found += [_protocol(name, sum_, recipe, cohort) for name, sum_ in named.items()]
    return found


def operations(found: Sequence[Forecast], mechanism: Operation) -> list[Operation]:
    """Return all elementary operations of the protocols, and the mechanism's."""
    return [mechanism, *dict.fromkeys(op for one in found if one.work for op in one.work.everyone)]


def protecting(mechanism: Mechanism, cohort: Cohort) -> Operation:
    """Return the operation of clipping, rounding and noising one number at one site."""
    release = cohort.release._replace(length=min(cohort.release.length, _SAMPLE))
    width = mechanism.width(release.length)

    def prepare() -> Callable[[], object]:
        encoding = mechanism.encoding(release)
        rows = np.full((1 if mechanism.unit == "site" else release.rows, release.length), mechanism.clip / _SAMPLE)
        given, key = Contributions(rows, mechanism.unit), jax.random.key(0)
        return lambda: mechanism.protect(given, encoding, release, {}, key, os.urandom)

    return Operation("number clipped, rounded, noised", prepare, width)


def forecast(one: Forecast, cohort: Cohort, network: Network, speed: Speed) -> Forecast:
    """Return a protocol with its seconds and bytes, the round's own frames included."""
    if one.work is None:
        return one
    work = one.work._replace(phases=(_inviting(cohort), *one.work.phases, _acknowledging(cohort)))
    total = site = coordinator = 0.0
    for phase in work.phases:
        up, down = (sum(role.seats * getattr(role, way) for role in phase.roles) for way in ("up", "down"))
        slowest = busiest = 0.0
        for role in phase.roles:
            computing = seconds(role.does, speed) + seconds(phase.public, speed)
            slowest = max(slowest, computing + sum(network.seconds(role.up, role.down, up, down)))
            busiest = max(busiest, computing)
        after = seconds(phase.coordinator, speed)
        total += (network.round_trip if phase.roles else 0.0) + slowest + after
        site, coordinator = site + busiest, coordinator + after
    return one._replace(
        seconds=total, here=seconds(work.everyone, speed), site=site, coordinator=coordinator,
        up=work.up, down=work.down, all_up=work.all_up,
    )  # fmt: skip


def best(found: Sequence[Forecast]) -> tuple[Forecast | None, str]:
    """Return the protocol that fits, and why in a sentence; None where none does.

    Nobody may be able to read an update; of the protocols that keep to that the fastest, or one that also notices a
    wrong sum, if it takes at most twice as long.
    """
    fitting = [one for one in found if one.work is not None and not one.sum.insecure]
    hidden = [one for one in fitting if one.is_hidden]
    if not hidden:
        if not fitting:
            return None, "no secure sum fits this cohort; the table says why"
        least = min(fitting, key=lambda one: one.seconds)
        return least, f"it is the fastest that fits, but {least.work.reader if least.work else ''} could read updates"
    fastest = min(hidden, key=lambda one: one.seconds)
    checked = [one for one in hidden if one.work and one.work.is_checked and one.seconds <= _DEARER * fastest.seconds]
    if not checked or fastest in checked:
        noticed = " and a wrong sum is noticed" if fastest in checked else ""
        return fastest, f"nobody can read an update{noticed}, and no other such sum is faster on this network"
    chosen = min(checked, key=lambda one: one.seconds)
    return chosen, (
        f"nobody can read an update and a wrong sum is noticed, for {chosen.seconds / fastest.seconds:.2g} times the "
        f"seconds and {chosen.up / fastest.up:.2g} times the bytes up of {fastest.name}, where it is not"
    )


def _protocol(name: str, kind: SecureSum, recipe: Recipe, cohort: Cohort) -> Forecast:
    if kind.grouping != recipe.sum.grouping:
        return Forecast(name, kind, None, "sums in groups are another release; plan its own recipe")
    try:
        kind.coordinator(cohort.session, cohort.coordinator)
        return Forecast(name, kind, work_of(kind, cohort.session))
    except CommonPriorError as error:
        return Forecast(name, kind, None, str(error))


def _inviting(cohort: Cohort) -> Phase:
    n = len(cohort.session.roster)
    request = message("invite", {"body": float(invitation_bytes(cohort))}, 2 * n)
    answer = message("ready", None)
    return Phase("invite", (Role(n, together(read(1, request), made(1, answer)), answer.size, request.size),),
                 together(made(n, request), read(n, answer)))  # fmt: skip


def _acknowledging(cohort: Cohort) -> Phase:
    session = cohort.session
    n, total = len(session.roster), session.length * session.encoding.width
    request = message("acknowledge", {"total": float(total), "entry": float(entry_bytes(cohort))}, 4 * n)
    answer = message("signed", {"signature": bytes(64), "ballot": bytes(65 * cohort.ballots)})
    does: Amounts = together(read(1, request), made(1, answer))
    return Phase(
        "acknowledge", (Role(n, does, answer.size, request.size),), together(made(n, request), read(n, answer))
    )
