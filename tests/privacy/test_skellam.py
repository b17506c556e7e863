"""What is Skellam's own; what every additive mechanism does is tested with the discrete Gaussian and beside it."""

import dataclasses
import math
from fractions import Fraction

import jax
import numpy as np
import pytest
from dp_accounting import NonPrivateDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive

from commonprior import plugin, privacy
from commonprior.accountant import calibrate, spend_of
from commonprior.errors import RecipeError
from commonprior.prior import Contributions
from commonprior.privacy import Mechanism, Release
from commonprior.privacy._rdp import SkellamSumEvent
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.privacy.skellam import Skellam

KEY = jax.random.key(3)


def protect(mechanism, rows, release, seed=0):
    csprng = np.random.default_rng(seed).bytes
    return mechanism.protect(
        Contributions(np.asarray(rows), "task"), mechanism.encoding(release), release, {}, KEY, csprng)[0]  # fmt: skip


def test_it_is_the_folders_plugin():
    assert plugin.load(privacy, Mechanism, "skellam") is Skellam
    assert isinstance(Skellam(1.0).spends(Release(3, 2, 10, 1)), NonPrivateDpEvent)
    with pytest.raises(RecipeError, match="clip = 0.0: expected an L2 norm"):
        Skellam(0.0)


def test_the_noise_of_the_worst_survivors_is_the_noise_that_is_claimed():
    d, parties, honest, z = 20_000, 9, 4, 1.5
    mechanism, release = Skellam(2.0, z), Release(parties, honest, d, 6)
    event = mechanism.spends(release)
    assert isinstance(event, SkellamSumEvent)
    assert event.variance == 2 * math.ceil(Fraction(z) ** 2 * event.sensitivity_squared / honest / 2)
    total = np.sum([protect(mechanism, np.zeros((6, d)), release, seed) for seed in range(honest)], 0)
    assert total.astype(float).var() == pytest.approx(z**2 * event.sensitivity_squared, rel=5 * math.sqrt(2 / d))
    mean = mechanism.mean(total, mechanism.encoding(release), release, honest)
    assert mean.std() == pytest.approx(z * 2.0 / (6 * honest), rel=0.03)


def test_without_noise_it_is_the_discrete_gaussian_to_the_bit():
    release, rows = Release(3, 2, 300, 2), np.random.default_rng(0).normal(size=(2, 300))
    for bytes_ in (2, 4):
        one, other = Skellam(1.0, bytes=bytes_), DiscreteGaussian(1.0, bytes=bytes_)
        assert one.encoding(release) == other.encoding(release)
        assert np.array_equal(protect(one, rows, release), protect(other, rows, release))


def test_it_costs_what_the_gaussian_does_where_the_scale_is_fine():
    release = Release(10, 7, 5_000, 8)
    fine = [calibrate(lambda z, m=m: dataclasses.replace(m, noise=z).spends(release), 8.0, 1e-5, 50)
            for m in (Skellam(1.0), DiscreteGaussian(1.0))]  # fmt: skip
    assert fine[0] == pytest.approx(fine[1], rel=2e-3)
    spends = [spend_of(m(1.0, 4.0, bytes=2).spends(release), "task").epsilon(1e-5) for m in (Skellam, DiscreteGaussian)]
    assert spends[0] == pytest.approx(spends[1], rel=1e-3)


@pytest.mark.parametrize("variance", [2, 10, 100, 300, 2000])
@pytest.mark.parametrize("length", [1, 10**6])
def test_the_reach_holds_all_but_what_it_says(variance, length):
    reach = Skellam(1.0)._reach(variance, length)
    x = np.arange(reach + 1, reach + 400)
    outside = 2 * length * float(ive(x, variance).sum())
    assert outside < 2.0**-63
    assert reach < 11.5 * math.sqrt(variance) + 70 + 2 * length.bit_length()


@settings(max_examples=60, deadline=None)
@given(
    parties=st.integers(1, 500),
    dropped=st.integers(0, 400),
    length=st.integers(1, 10**6),
    rows=st.integers(1, 64),
    noise=st.sampled_from([0.0, 0.3, 1.0, 7.7]),
    width=st.sampled_from([2, 4, 8]),
)
def test_no_encoding_can_wrap(parties, dropped, length, rows, noise, width):
    release = Release(parties, max(1, parties - dropped), length, rows)
    mechanism = Skellam(1.0, noise, bytes=width)
    try:
        encoding = mechanism.encoding(release)
    except RecipeError as error:
        assert f"bytes = {width}" in str(error)  # noqa: PT017
        return
    event = mechanism.spends(release)
    assert parties * encoding.limit < 2 ** (8 * width - 1)
    if isinstance(event, SkellamSumEvent):
        assert encoding.limit >= rows * math.ceil(math.ldexp(1.0, encoding.fraction)) + 9 * math.isqrt(event.variance)
        assert event.variance * event.parties >= Fraction(noise) ** 2 * event.sensitivity_squared
