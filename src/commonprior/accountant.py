"""How much privacy releases have cost, as data: a Rényi curve that adds up.

Neighbouring is zero-out: one unit's row (a task's or a whole site's) is there or is replaced by zeros, everything else
alike. No amplification by sampling is ever claimed: rosters are public, and so is what a seed draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)
from dp_accounting.rdp import RdpAccountant, compute_epsilon

from commonprior.canonical import decode, encode
from commonprior.errors import BudgetExhausted, MalformedMessage, RecipeError
from commonprior.privacy._rdp import RenyiDpEvent

Unit = Literal["task", "site"]

ORDERS: tuple[float, ...] = tuple(1.0 + (8 + step) / 8 * 2.0**octave for octave in range(-4, 13) for step in range(8))
"""The α of every curve: α - 1 from 1/16 to almost 8192, eight an octave, exact in binary. Old spends rest on it."""

NEIGHBOURING = "zero-out"
"""The neighbouring relation behind every figure: one unit's row is there or is replaced by zeros."""

_VERSION = "commonprior/spend/1"

_LEAST_NOISE, _MOST_NOISE = 2.0**-10, 2.0**19

_KNOWN = (GaussianDpEvent, LaplaceDpEvent, ZCDpEvent)


@dataclass(frozen=True)
class Spend:
    """What releases have cost one `unit`: a bound on its Rényi divergence at each of `ORDERS`, inf where there is none.

    Adaptive composition is addition.
    """

    unit: Unit
    rdp: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.unit not in ("task", "site"):
            raise RecipeError(f"a spend for {self.unit!r} has no meaning; expected 'task' or 'site'")
        if len(self.rdp) != len(ORDERS) or not all(r >= 0 for r in self.rdp):
            raise RecipeError(f"a spend needs {len(ORDERS)} costs of at least 0; got {len(self.rdp)} numbers")

    @property
    def private(self) -> bool:
        """Whether there is any guarantee at all."""
        return any(math.isfinite(r) for r in self.rdp)

    def __add__(self, other: Spend) -> Spend:
        if self.unit != other.unit:
            raise RecipeError(f"a spend for each {self.unit} and one for each {other.unit} do not add up to anything")
        return Spend(self.unit, tuple(a + b for a, b in zip(self.rdp, other.rdp, strict=True)))

    def times(self, count: int) -> Spend:
        """Return the cost of `count` such releases."""
        if count < 0:
            raise RecipeError(f"{count} releases cannot be; expected at least 0")
        return Spend(self.unit, tuple(count * r if count else 0.0 for r in self.rdp))

    def epsilon(self, delta: float) -> float:
        """Return the smallest epsilon that follows at `delta`; inf where there is no guarantee."""
        if not 0 < delta < 1:
            raise RecipeError(f"delta = {delta}: expected a probability between 0 and 1")
        return float(compute_epsilon(ORDERS, self.rdp, delta)[0])

    def describe(self, delta: float) -> str:
        """Return the guarantee in words: epsilon, delta, unit and neighbouring relation."""
        if not self.private:
            return "no differential privacy (no noise)"
        return f"epsilon {self.epsilon(delta):.3g} at delta {delta:.1g} for each {self.unit} ({NEIGHBOURING})"

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        rdp = [r if math.isfinite(r) else None for r in self.rdp]
        return encode({"spend": _VERSION, "unit": self.unit, "rdp": rdp})

    @staticmethod
    def decode(data: bytes) -> Spend:
        """Return the spend whose canonical bytes these are, or raise `MalformedMessage`."""
        match decode(data, limit=1 << 16):
            case {"spend": version, "unit": str() as unit, "rdp": list() as rdp, **rest} if not rest:
                if version != _VERSION:
                    raise MalformedMessage(f"a spend of version {version!r}, expected {_VERSION!r}")
                if len(rdp) != len(ORDERS):
                    raise MalformedMessage(f"a spend of {len(rdp)} orders, expected {len(ORDERS)}")
                if unit not in ("task", "site"):
                    raise MalformedMessage(f"a spend for {unit!r}, expected 'task' or 'site'")
                return Spend("task" if unit == "task" else "site", tuple(_cost(r) for r in rdp))
            case _:
                raise MalformedMessage("expected a spend: a map of spend, unit and rdp")


def nothing_spent(unit: Unit) -> Spend:
    """Return the spend of no release at all."""
    return Spend(unit, (0.0,) * len(ORDERS))


def spend_of(event: DpEvent, unit: Unit) -> Spend:
    """Return the cost of an event; raise `RecipeError` for one whose cost is not known, sampling included."""
    rdp = _rdp(event)
    if not np.all(rdp >= 0):  # NaN is not
        raise RecipeError(f"the privacy cost of {event} is not a number of at least 0; check its parameters")
    return Spend(unit, tuple(float(r) for r in rdp))


def affords(spent: Spend, upcoming: Spend, epsilon: float, delta: float) -> bool:
    """Say whether one more release stays within `epsilon` (0: no limit) at `delta`."""
    return epsilon == 0 or (spent + upcoming).epsilon(delta) <= epsilon


def remaining(spent: Spend, upcoming: Spend, epsilon: float, delta: float) -> float:
    """Return how many more such releases stay within `epsilon` at `delta`: a whole number, or inf for no limit."""
    most = 2**40
    if epsilon == 0 or affords(spent, upcoming.times(most), epsilon, delta):
        return math.inf
    if not affords(spent, nothing_spent(spent.unit), epsilon, delta):
        return 0
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        if affords(spent, upcoming.times(middle), epsilon, delta):
            low = middle
        else:
            high = middle
    return low


def charge(spent: Spend, upcoming: Spend, epsilon: float, delta: float) -> Spend:
    """Return the spend after one more release; raise `BudgetExhausted` where it goes over `epsilon` (0: no limit)."""
    if not affords(spent, upcoming, epsilon, delta):
        raise BudgetExhausted(
            f"the next release would bring {spent.describe(delta)} to {(spent + upcoming).describe(delta)}, over the "
            f"budget of epsilon {epsilon:g}; stop here, or start a run with more noise or fewer rounds"
        )
    return spent + upcoming


def calibrate(cost: Callable[[float], DpEvent], epsilon: float, delta: float, rounds: int) -> float:
    """Return the smallest noise multiplier, to 1 in 1,000, whose `rounds` releases stay within `epsilon` at `delta`.

    `cost` gives the event of one release at a noise multiplier, such as
    `lambda z: dataclasses.replace(mechanism, noise=z).spends(release)`. Raises `RecipeError` with the nearest epsilon
    where no noise that fits the encoding is enough.
    """
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise RecipeError(f"epsilon = {epsilon}: expected a finite number above 0")
    if rounds < 1:
        raise RecipeError(f"rounds = {rounds}: expected at least 1")

    def spent(noise: float) -> float:
        return spend_of(cost(noise), "task").times(rounds).epsilon(delta)

    high = _LEAST_NOISE
    reached = math.inf
    try:
        while (reached := spent(high)) > epsilon:
            high *= 2
            if high > _MOST_NOISE:
                raise RecipeError(f"noise {high:g} is beyond {_MOST_NOISE:g}")
    except RecipeError as error:
        raise RecipeError(
            f"epsilon {epsilon:g} at delta {delta:g} over {rounds} rounds cannot be met: noise {high / 2:g} still "
            f"gives {reached:.3g}, and more is refused: {error}"
        ) from None
    low = high / 2
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) <= epsilon else (middle, high)
    return high


def _rdp(event: DpEvent) -> np.ndarray:
    match event:
        case NonPrivateDpEvent():
            return np.full(len(ORDERS), np.inf)
        case NoOpDpEvent():
            return np.zeros(len(ORDERS))
        case RenyiDpEvent():
            return event.rdp(ORDERS)
        case SelfComposedDpEvent(event=inner, count=count) if count >= 0:
            return count * _rdp(inner) if count else np.zeros(len(ORDERS))
        case ComposedDpEvent(events=events):
            return sum((_rdp(inner) for inner in events), np.zeros(len(ORDERS)))
        case _ if type(event) in _KNOWN:
            try:
                return RdpAccountant(ORDERS).compose(event).rdp
            except (ValueError, ZeroDivisionError) as error:
                raise RecipeError(f"the privacy cost of {event} is unknown: {error}") from None
        case _:
            raise RecipeError(
                f"the privacy cost of {event} is unknown, and what is unknown is not free: expected a noised sum, "
                f"Gaussian, Laplace, zCDP, or a composition of them (sampling is public here and amplifies nothing)"
            )


def _cost(value: object) -> float:
    if value is None:
        return math.inf
    if type(value) is not float or math.copysign(1.0, value) < 0:
        raise MalformedMessage(f"a spend's cost {value!r} is neither a number of at least 0 nor null")
    return value
