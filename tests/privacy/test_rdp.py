import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.rdp import RdpAccountant
from scipy.special import ive

from commonprior.errors import RecipeError
from commonprior.privacy._rdp import DiscreteGaussianSumEvent, SkellamSumEvent

ORDERS = [1.0625, 1.5, 2.0, 3.0, 8.0, 33.0, 100.0]


def summed_pmf(variance, parties, reach=120):
    """The exact distribution of a sum of discrete Gaussians, by convolution."""
    x = np.arange(-reach, reach + 1, dtype=float)
    one = np.exp(-(x**2) / (2 * variance))
    one /= one.sum()
    total = one
    for _ in range(parties - 1):
        total = np.convolve(total, one)
    return total


def renyi(p, shift, alpha):
    """D_α of p shifted against p, over the part of the support where neither underflows."""
    a, b = np.roll(p, shift), p
    keep = (a > 1e-280) & (b > 1e-280)
    logs = alpha * np.log(a[keep]) + (1 - alpha) * np.log(b[keep])
    top = logs.max()
    return (top + np.log(np.exp(logs - top).sum())) / (alpha - 1)


@pytest.mark.parametrize("variance", [1, 3, 20])
@pytest.mark.parametrize("shift", [1, 2, 5])
def test_one_discrete_gaussian_costs_at_most_its_curve(variance, shift):
    p = summed_pmf(variance, 1)
    orders = [1.0625, 1.5, 2.0, 2.5, 3.0]
    curve = DiscreteGaussianSumEvent(variance, 1, shift**2, 1).rdp(orders)
    exact = [renyi(p, shift, a) for a in orders]
    assert np.all(exact <= curve * (1 + 1e-9))
    # Where α·Δ is a whole number the bound is the divergence itself.
    assert exact[2] == pytest.approx(curve[2], rel=1e-6)
    assert exact[4] == pytest.approx(curve[4], rel=1e-6)


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_a_sum_is_as_close_to_a_discrete_gaussian_as_tau_says(parties):
    event = DiscreteGaussianSumEvent(1, parties, 1, 1)
    p, q = summed_pmf(1, parties), summed_pmf(parties, 1, 120 * parties)
    keep = q > 1e-25  # where a convolution in floats still has digits
    ratio = np.abs(np.log(p[keep] / q[keep])).max()
    assert ratio <= event.tau / 2
    if parties == 2:  # later terms are smoothed away, which the bound does not know
        assert ratio >= event.tau / 6


@pytest.mark.parametrize("parties", [2, 3, 5])
@pytest.mark.parametrize("coordinates", [1, 1000])
def test_a_sum_of_several_costs_at_most_its_curve(parties, coordinates):
    p = np.maximum(summed_pmf(1, parties), 1e-300)
    curve = DiscreteGaussianSumEvent(1, parties, coordinates, coordinates).rdp(ORDERS[:4])
    exact = [coordinates * renyi(np.where(p > 1e-25, p, 0), 1, a) for a in ORDERS[:4]]
    assert np.all(exact <= curve)
    assert np.all(curve <= np.array(exact) * 1.1)


def test_many_small_steps_are_worth_the_second_bound():
    # A shift of one unit in one coordinate of many: the first bound pays τ in each of them.
    event = DiscreteGaussianSumEvent(1, 4, 1, 400)
    curve = event.rdp([2.0, 50.0])
    first = np.array([2.0, 50.0]) / 2 / 4 + event.tau * 400
    second = np.array([2.0, 50.0]) / 2 * (0.5 + event.tau * 20) ** 2
    assert np.allclose(curve, np.minimum(first, second))
    assert (first < second)[1]
    assert (second < first)[0]


def test_it_converges_to_the_gaussian_from_above():
    z = 2
    gaussian = RdpAccountant(ORDERS).compose(GaussianDpEvent(float(z))).rdp
    last = math.inf
    for variance in (1, 2, 3, 4, 1000):
        parties = 12
        curve = DiscreteGaussianSumEvent(variance, parties, variance * parties // z**2, 100).rdp(ORDERS)
        gap = float((curve / gaussian).max()) - 1
        assert -1e-12 <= gap <= last + 1e-12
        last = gap
    assert last < 1e-12


def test_the_curve_grows_with_the_order_and_shrinks_with_noise():
    curve = DiscreteGaussianSumEvent(1, 3, 10, 10_000).rdp(ORDERS)
    assert np.all(np.diff(curve) > 0)
    assert np.all(DiscreteGaussianSumEvent(2, 3, 10, 10_000).rdp(ORDERS) < curve)
    assert np.all(DiscreteGaussianSumEvent(1, 3, 11, 10_000).rdp(ORDERS) > curve)
    assert np.all(DiscreteGaussianSumEvent(1, 3, 10, 10_001).rdp(ORDERS) > curve)


@pytest.mark.parametrize("kind", [DiscreteGaussianSumEvent, SkellamSumEvent])
@pytest.mark.parametrize("field", ["variance", "parties", "length"])
def test_an_event_without_noise_cannot_be_made(field, kind):
    fields = {"variance": 1, "parties": 1, "sensitivity_squared": 1, "length": 1, field: 0}
    with pytest.raises(RecipeError, match=f"{field} = 0"):
        kind(**fields)


@pytest.mark.parametrize("kind", [DiscreteGaussianSumEvent, SkellamSumEvent])
def test_the_event_survives_dp_accountings_own_serialisation(kind):
    event = kind(2**40, 9, 2**45, 100)
    assert event.from_named_tuple(event.to_named_tuple()) == event


def skellam_divergence(mu, shift, alpha):
    """D_α of Sk(μ) shifted against itself, summed over the pmf exp(-μ)·I_k(μ); refuses to cut a tail that counts."""
    reach = int(40 * math.sqrt(mu) + 80)
    x = np.arange(-reach, reach + shift + 1)
    p, q = ive(np.abs(x), mu), ive(np.abs(x - shift), mu)
    keep = (p > 1e-290) & (q > 1e-290)
    logs = alpha * np.log(q[keep]) + (1 - alpha) * np.log(p[keep])
    top = logs.max()
    assert max(logs[0], logs[-1]) < top - 25
    return (top + np.log(np.exp(logs - top).sum())) / (alpha - 1)


@pytest.mark.parametrize(("variance", "parties"), [(2, 1), (2, 2), (2, 5), (20, 2), (200, 10)])
@pytest.mark.parametrize("shift", [1, 2, 5])
def test_skellam_noise_costs_at_most_its_curve(variance, parties, shift):
    orders = [1.0625, 1.5, 2.0, 2.25, 2.5, 3.0, 3.7, 8.0]
    curve = SkellamSumEvent(variance, parties, shift**2, 1).rdp(orders)
    exact = np.array([skellam_divergence(variance * parties, shift, a) for a in orders])
    assert np.all(exact <= curve)
    tight = exact[2:] if variance * parties >= 40 else exact[:0]
    assert np.all(curve[2:][: len(tight)] <= tight * 1.3)


def test_skellam_noise_costs_what_it_costs_in_each_coordinate_added_up():
    mu, shifts = 10, (3, 2, 1, 1, 0)
    squared = sum(s * s for s in shifts)
    curve = SkellamSumEvent(mu, 1, squared, len(shifts)).rdp([2.0, 3.0, 4.0])
    exact = [sum(skellam_divergence(mu, s, a) for s in shifts if s) for a in (2.0, 3.0, 4.0)]
    assert np.all(np.array(exact) <= curve)


def test_skellam_sums_are_skellam_and_tend_to_the_gaussian():
    few, many = SkellamSumEvent(1000, 2, 100, 50), SkellamSumEvent(2, 1000, 100, 50)
    assert np.array_equal(few.rdp(ORDERS), many.rdp(ORDERS))
    gaussian = RdpAccountant(ORDERS).compose(GaussianDpEvent(2.0)).rdp
    last = math.inf
    for squared in (100, 10_000, 10**6):
        curve = SkellamSumEvent(squared, 4, squared, 10**4).rdp(ORDERS)
        gap = float((curve[2:] / gaussian[2:]).max()) - 1
        assert 0 < gap < last
        last = gap
    assert last < 1e-3
    assert np.all(np.diff(few.rdp(ORDERS)) >= 0)


def test_of_a_long_update_with_few_units_the_l1_norm_is_bounded_by_its_square():
    short, long = SkellamSumEvent(4, 1, 9, 2), SkellamSumEvent(4, 1, 9, 10**6)
    assert np.all(short.rdp(ORDERS) < long.rdp(ORDERS))
    assert np.array_equal(long.rdp(ORDERS), SkellamSumEvent(4, 1, 9, 10**9).rdp(ORDERS))


def test_the_theorem_is_written_down_as_it_is():
    # ‖Δ‖² = 4, ‖Δ‖₁ <= 2, μ = 10, then 1: 4α/20 + (4(2α-1) + 12)/400, then 4α/2 + 3, both by hand.
    assert SkellamSumEvent(10, 1, 4, 1).rdp([2.0, 3.0]) == pytest.approx([0.4 + 24 / 400, 0.6 + 32 / 400])
    assert SkellamSumEvent(1, 1, 4, 1).rdp([2.0, 3.0]) == pytest.approx([4 + 3, 6 + 3])
    assert SkellamSumEvent(10, 1, 4, 1).rdp([1.5, 2.5]) == pytest.approx([0.46, (0.46 + 2 * 0.68) / 2 / 1.5])
