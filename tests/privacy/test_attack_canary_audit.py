"""An audit of differential privacy in one run (Steinke, Nasr and Jagielski, arXiv 2305.08846).

Thousands of canaries are tasks whose rows each point along a coordinate of their own; a coin decides which take part.
Whoever sees the noised mean guesses the coins of those that stand out. A mechanism that is (epsilon, delta)-private
bounds how many guesses can be right, so that many right guesses are a lower bound on epsilon: over the claim, the
mechanism is broken.
"""

import dataclasses
import math

import jax
import numpy as np
import pytest
from scipy.stats import binom

from commonprior.accountant import calibrate, spend_of
from commonprior.prior import Contributions
from commonprior.privacy import Release
from commonprior.privacy._adaptive import AdaptiveClip
from commonprior.privacy._sparsity import Sparsity
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.privacy.skellam import Skellam

CANARIES, GUESSES, SITES = 4000, 300, 4
RELEASE = Release(SITES, SITES, CANARIES, CANARIES // SITES)
CLAIM, DELTA, CONFIDENCE = 1.0, 1e-5, 0.95
KINDS = [DiscreteGaussian, Skellam]


def p_value(right, guesses, epsilon, delta, canaries):
    """How likely `right` of `guesses` right ones are, at most, under (epsilon, delta): theorem 5.2 of the paper."""
    chance = 1 / (1 + math.exp(-epsilon))
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    slip = float((below / np.arange(1, right + 1)).max(initial=0.0))
    return binom.sf(right - 1, guesses, chance) + 2 * canaries * delta * slip


def lower_bound(right, guesses, confidence):
    """The largest epsilon that the guesses refute at this confidence; 0 where none."""
    low, high = 0.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        refuted = p_value(right, guesses, middle, DELTA, CANARIES) < 1 - confidence
        low, high = (middle, high) if refuted else (low, middle)
    return low


def audit(mechanism, size=1.0, seed=0):
    """Run one release through the real `protect` of every site; return the lower bound on epsilon."""
    rng = np.random.default_rng(seed)
    signs, coins = rng.choice([-size, size], CANARIES), rng.integers(0, 2, CANARIES).astype(bool)
    encoding, total = mechanism.encoding(RELEASE), 0
    for site, mine in enumerate(np.split(np.arange(CANARIES), SITES)):
        rows = np.zeros((RELEASE.rows, CANARIES), np.float32)
        rows[np.arange(RELEASE.rows), mine] = signs[mine] * coins[mine]
        integers, _ = mechanism.protect(
            Contributions(rows, "task"), encoding, RELEASE, {}, jax.random.key(site), rng.bytes)  # fmt: skip
        total = total + encoding.to_words(integers)
    order = np.argsort(mechanism.mean(encoding.from_words(total), encoding, RELEASE, SITES) * signs)
    half = GUESSES // 2
    right = int(coins[order[-half:]].sum() + (~coins[order[:half]]).sum())
    return lower_bound(right, GUESSES, CONFIDENCE)


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def honest(request):
    """A mechanism whose claim is epsilon 1 at delta 1e-5 for each task, for one release."""
    mechanism = request.param(1.0)
    noise = calibrate(lambda z: dataclasses.replace(mechanism, noise=z).spends(RELEASE), CLAIM, DELTA, 1)
    claimed = dataclasses.replace(mechanism, noise=noise)
    epsilon = spend_of(claimed.spends(RELEASE), "task").epsilon(DELTA)
    assert 0.99 * CLAIM < epsilon <= CLAIM
    return claimed


def test_a_correct_mechanism_passes(honest):
    assert audit(honest) < CLAIM
    assert audit(dataclasses.replace(honest, bytes=8), seed=1) < CLAIM


def test_canaries_of_any_size_pass(honest):
    assert audit(honest, size=100.0) < CLAIM


def test_a_count_of_its_own_and_few_coordinates_stay_within_the_claim(honest):
    moving = dataclasses.replace(honest, adaptive=AdaptiveClip(share=0.1), sparsity=Sparsity(0.5))
    assert spend_of(moving.spends(RELEASE), "task").epsilon(DELTA) == pytest.approx(CLAIM, rel=0.02)
    assert audit(moving) < CLAIM


def test_a_quarter_of_the_noise_is_caught(honest):
    assert audit(dataclasses.replace(honest, noise=honest.noise / 4)) > 1.5 * CLAIM


def test_a_tenth_of_the_noise_is_caught(honest):
    assert audit(dataclasses.replace(honest, noise=honest.noise / 10)) > 3.5 * CLAIM


def test_a_missing_clip_is_caught(honest):
    # The noise of clip 1 on rows that a clip of 4 lets through.
    assert audit(dataclasses.replace(honest, clip=4.0, noise=honest.noise / 4), size=4.0) > 1.5 * CLAIM


def test_the_audit_knows_what_chance_can_do():
    assert lower_bound(50, 100, 0.95) == 0.0
    assert lower_bound(100, 100, 0.95) == pytest.approx(3.4, abs=0.2)
    assert p_value(60, 100, 0.0, 0.0, 1000) == pytest.approx(float(binom.sf(59, 100, 0.5)))
    assert p_value(60, 100, 0.5, 1e-3, 1000) > p_value(60, 100, 0.5, 1e-5, 1000) > p_value(60, 100, 0.5, 0.0, 1000)
