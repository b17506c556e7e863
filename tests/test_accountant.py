import dataclasses
import itertools
import math

import numpy as np
import pytest
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    UnsupportedDpEvent,
    ZCDpEvent,
)
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import fminbound

from commonprior.accountant import (
    ORDERS,
    Spend,
    affords,
    calibrate,
    charge,
    nothing_spent,
    remaining,
    spend_of,
)
from commonprior.canonical import decode, encode
from commonprior.errors import BudgetExhausted, MalformedMessage, RecipeError
from commonprior.privacy import Release
from commonprior.privacy.discrete_gaussian import DiscreteGaussian

DELTA = 1e-5
RELEASE = Release(10, 7, 5_000, 8)
MECHANISM = DiscreteGaussian(1.0, 4.0)


def gaussian(z):
    return spend_of(GaussianDpEvent(z), "task")


def closed_form(rho, delta):
    """The least epsilon of ρ-zCDP over every order (arXiv 2004.00010, proposition 12)."""

    def epsilon(log_a):
        a = 1 + math.exp(log_a)
        return rho * a + math.log1p(-1 / a) - math.log(delta * a) / (a - 1)

    return float(epsilon(fminbound(epsilon, -6, 9, xtol=1e-9)))


@pytest.mark.parametrize("rounds", [1, 10, 100, 1000])
@pytest.mark.parametrize("z", [1.0, 5.0, 40.0])
def test_composed_gaussians_cost_what_the_closed_form_says(rounds, z):
    expected = closed_form(rounds / (2 * z**2), DELTA)
    for spend in (gaussian(z).times(rounds), spend_of(SelfComposedDpEvent(GaussianDpEvent(z), rounds), "task")):
        assert expected * (1 - 1e-9) <= spend.epsilon(DELTA) <= expected * 1.003


def test_the_mechanism_costs_what_a_gaussian_of_its_noise_costs():
    spend = spend_of(MECHANISM.spends(RELEASE), "task").times(50)
    assert spend.epsilon(DELTA) == pytest.approx(closed_form(50 / (2 * 4.0**2), DELTA), rel=3e-3)


def test_composition_is_addition_in_any_grouping():
    a, b = GaussianDpEvent(2.0), LaplaceDpEvent(3.0)
    together = spend_of(ComposedDpEvent([a, SelfComposedDpEvent(ComposedDpEvent([a, b]), 3), NoOpDpEvent()]), "site")
    one_by_one = sum((spend_of(e, "site") for e in (a, a, a, a, b, b, b)), nothing_spent("site"))
    assert np.allclose(together.rdp, one_by_one.rdp, rtol=1e-12)
    assert together.epsilon(DELTA) == pytest.approx(
        RdpAccountant(ORDERS).compose(a, 4).compose(b, 3).get_epsilon(DELTA)
    )
    assert spend_of(ZCDpEvent(0.125), "task").epsilon(DELTA) == pytest.approx(gaussian(2.0).epsilon(DELTA))


def test_nothing_costs_nothing():
    assert nothing_spent("task").epsilon(DELTA) == 0
    assert nothing_spent("task") == spend_of(NoOpDpEvent(), "task") == gaussian(1.0).times(0)
    assert nothing_spent("task") + gaussian(1.0) == gaussian(1.0)


def test_no_noise_is_infinite_and_stays_so():
    spend = spend_of(DiscreteGaussian(1.0).spends(RELEASE), "task")
    for total in (spend, spend + gaussian(1.0), gaussian(1.0) + spend, spend.times(3)):
        assert math.isinf(total.epsilon(DELTA))
        assert total.describe(DELTA) == "no differential privacy (no noise)"
        assert Spend.decode(total.encode()) == total
    composed = spend_of(ComposedDpEvent([GaussianDpEvent(1.0), NonPrivateDpEvent()]), "task")
    assert math.isinf(composed.epsilon(DELTA))


def test_the_words_name_unit_and_neighbouring():
    text = gaussian(1.0).describe(DELTA)
    assert text == f"epsilon {gaussian(1.0).epsilon(DELTA):.3g} at delta 1e-05 for each task (zero-out)"


class _Unheard(DpEvent):
    pass


@pytest.mark.parametrize(
    "event",
    [
        UnsupportedDpEvent(),
        _Unheard(),
        PoissonSampledDpEvent(0.01, GaussianDpEvent(1.0)),
        ComposedDpEvent([GaussianDpEvent(1.0), UnsupportedDpEvent()]),
        SelfComposedDpEvent(PoissonSampledDpEvent(0.01, GaussianDpEvent(1.0)), 3),
        SelfComposedDpEvent(GaussianDpEvent(1.0), -1),
        GaussianDpEvent(-1.0),
        GaussianDpEvent(math.nan),
        LaplaceDpEvent(0.0),
        ZCDpEvent(-1.0),
    ],
)
def test_what_is_unknown_or_amplified_or_senseless_is_refused(event):
    with pytest.raises(RecipeError, match="privacy cost"):
        spend_of(event, "task")


def test_units_do_not_mix():
    with pytest.raises(RecipeError, match="each task and one for each site"):
        _ = gaussian(1.0) + spend_of(GaussianDpEvent(1.0), "site")
    with pytest.raises(RecipeError, match="sample"):
        spend_of(GaussianDpEvent(1.0), "sample")  # pyright: ignore[reportArgumentType]


def test_a_spend_reads_back_what_it_wrote():
    spend = spend_of(MECHANISM.spends(RELEASE), "task") + gaussian(3.3)
    data = spend.encode()
    assert Spend.decode(data) == spend
    assert Spend.decode(data).encode() == data
    assert len(data) < 2_000


def tampered(**changes):
    value = decode(gaussian(1.0).encode())
    assert isinstance(value, dict)
    return encode({k: v for k, v in {**value, **changes}.items() if v != "left out"})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        gaussian(1.0).encode()[:-1],
        tampered(unit="sample"),
        tampered(unit=1),
        tampered(unit="left out"),
        tampered(spend="commonprior/spend/2"),
        tampered(more=1),
        tampered(rdp=[]),
        tampered(rdp=[0.5] * (len(ORDERS) + 1)),
        tampered(rdp=[-0.5] * len(ORDERS)),
        tampered(rdp=[-0.0] * len(ORDERS)),
        tampered(rdp=[1] * len(ORDERS)),
        tampered(rdp=["1.0"] * len(ORDERS)),
        tampered(rdp={"0": 1.0}),
    ],
)
def test_other_bytes_are_no_spend(data):
    with pytest.raises(MalformedMessage):
        Spend.decode(data)


def test_the_orders_are_pinned():
    # A spend on a site's disk is a list of numbers at these orders.
    assert len(ORDERS) == 136
    assert ORDERS[0] == 1.0625
    assert ORDERS[8] == 1.125
    assert ORDERS[-1] == 7681.0
    assert all(a < b for a, b in itertools.pairwise(ORDERS))


def test_a_budget_affords_so_many_rounds_and_not_one_more():
    spent, one = gaussian(10.0).times(7), gaussian(10.0)
    left = remaining(spent, one, 4.0, DELTA)
    assert 0 < left < math.inf
    last = spent.times(1)
    for _ in range(int(left)):
        last = charge(last, one, 4.0, DELTA)
    assert not affords(last, one, 4.0, DELTA)
    assert remaining(last, one, 4.0, DELTA) == 0
    with pytest.raises(BudgetExhausted, match=r"bring epsilon 3\.\d+ .* over the budget of epsilon 4"):
        charge(last, one, 4.0, DELTA)


@pytest.mark.parametrize("epsilon", [0.7, 1.0, 1.3, 1.7, 2.0, 2.2, 2.5, 3.1])
def test_what_remains_is_what_can_be_counted(epsilon):
    one = gaussian(12.0)
    counted = next(n for n in range(200) if one.times(n + 1).epsilon(DELTA) > epsilon)
    assert remaining(nothing_spent("task"), one, epsilon, DELTA) == counted


def test_zero_is_no_limit_and_what_is_overspent_has_nothing_left():
    free = spend_of(NonPrivateDpEvent(), "task")
    assert affords(free, free, 0.0, DELTA)
    assert remaining(free, free, 0.0, DELTA) == math.inf
    assert charge(free, free, 0.0, DELTA) == free
    assert not affords(nothing_spent("task"), free, 1e6, DELTA)
    assert remaining(gaussian(0.5), gaussian(10.0), 1.0, DELTA) == 0
    assert remaining(nothing_spent("task"), nothing_spent("task"), 1.0, DELTA) == math.inf


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_a_delta_that_is_no_probability_is_refused(delta):
    with pytest.raises(RecipeError, match="delta"):
        gaussian(1.0).epsilon(delta)


@pytest.mark.parametrize(("epsilon", "rounds"), [(1.0, 1), (8.0, 100), (0.5, 1000), (50.0, 3)])
def test_calibration_meets_its_target_and_hardly_more(epsilon, rounds):
    def cost(z):
        return dataclasses.replace(MECHANISM, noise=z).spends(RELEASE)

    z = calibrate(cost, epsilon, DELTA, rounds)
    assert spend_of(cost(z), "task").times(rounds).epsilon(DELTA) <= epsilon
    assert spend_of(cost(z * 0.997), "task").times(rounds).epsilon(DELTA) > epsilon
    assert math.isclose(z, calibrate(GaussianDpEvent, epsilon, DELTA, rounds), rel_tol=5e-3)


def test_a_target_out_of_reach_is_refused_with_the_nearest():
    small = DiscreteGaussian(1.0, 1.0, bytes=2)

    def cost(z):
        return dataclasses.replace(small, noise=z).spends(RELEASE)

    with pytest.raises(RecipeError, match=r"epsilon 0\.01 .* over 500 rounds .* noise \S+ still gives .*bytes = 2"):
        calibrate(cost, 0.01, DELTA, 500)
    with pytest.raises(RecipeError, match="cannot be met"):
        calibrate(lambda _: NonPrivateDpEvent(), 1.0, DELTA, 1)
    for epsilon, rounds in ((0.0, 1), (math.inf, 1), (1.0, 0)):
        with pytest.raises(RecipeError, match="expected"):
            calibrate(GaussianDpEvent, epsilon, DELTA, rounds)
