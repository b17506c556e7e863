"""A clip that follows a quantile of the norms: where it settles, what it costs, that every machine agrees."""

import dataclasses
import math
from fractions import Fraction

import jax
import numpy as np
import pytest
from dp_accounting import ComposedDpEvent

from commonprior.accountant import spend_of
from commonprior.errors import ProtocolError, RecipeError
from commonprior.prior import Contributions
from commonprior.privacy import Release
from commonprior.privacy._adaptive import AdaptiveClip
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.privacy.skellam import Skellam

RELEASE = Release(6, 6, 12, 8)
KINDS = [DiscreteGaussian, Skellam]


def protect(mechanism, rows, seed=0, release=RELEASE):
    return mechanism.protect(
        Contributions(np.asarray(rows), "task"), mechanism.encoding(release), release, {}, jax.random.key(seed),
        np.random.default_rng(seed).bytes)[0]  # fmt: skip


def rounds(mechanism, norms, count, release=RELEASE, tasks=8):
    """Run `count` rounds of rows whose norms are drawn from `norms`; return the mechanism that came of it."""
    rng = np.random.default_rng(0)
    for number in range(count):
        shares = []
        for site in range(release.parties):
            rows = rng.normal(size=(tasks, release.length))
            rows *= (rng.choice(norms, tasks) / np.linalg.norm(rows, axis=1))[:, None]
            shares.append(protect(mechanism, rows, 100 * number + site, release))
        mechanism = mechanism.observe(np.sum(shares, 0), release, release.parties)
    return mechanism


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("noise", "start"), [(0.0, 0.05), (0.0, 9.0), (1.0, 9.0)])
def test_the_clip_settles_at_the_quantile(kind, noise, start):
    norms = np.linspace(0.5, 1.5, 1001)
    mechanism = kind(start, noise, adaptive=AdaptiveClip(quantile=0.8, rate=0.4))
    settled = rounds(rounds(mechanism, norms, 40), norms, 1)
    assert settled.clip == pytest.approx(1.3, abs=0.15)


def test_a_site_short_of_tasks_pulls_nowhere():
    mechanism = DiscreteGaussian(0.01, adaptive=AdaptiveClip(quantile=0.9, rate=0.8))
    settled = rounds(mechanism, np.linspace(0.5, 1.5, 1001), 60, tasks=2)
    assert settled.clip == pytest.approx(1.4, abs=0.12)
    assert rounds(mechanism, [1.0], 2, tasks=0).clip == np.float32(0.01)
    assert protect(mechanism, np.zeros((3, 12)))[-1] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_count_is_one_more_number_and_the_mean_does_not_see_it(kind):
    fixed, moving = kind(1.0), kind(1.0, adaptive=AdaptiveClip(quantile=0.25))
    assert (fixed.width(12), moving.width(12)) == (12, 13)
    rows = np.zeros((8, 12))
    rows[:, 3] = [0.2, 0.9, 1.0, 1.1, 5, 9, 0.1, 0]
    total = protect(moving, rows)
    unit = 2**10
    assert total[-1] == 4 * (unit - unit // 4) - 3 * (unit // 4)
    encoding = moving.encoding(RELEASE)
    assert np.array_equal(total[:-1], protect(fixed, rows))
    assert np.array_equal(moving.mean(total, encoding, RELEASE, 2), fixed.mean(total[:-1], encoding, RELEASE, 2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.01, 0.3])
def test_count_and_update_together_cost_what_the_noise_says(kind, share):
    plain = kind(1.0, 2.0)
    moving = dataclasses.replace(plain, adaptive=AdaptiveClip(share=share))
    costs = [spend_of(m.spends(RELEASE), "task") for m in (plain, moving)]
    assert np.allclose(costs[0].rdp, costs[1].rdp, rtol=1e-4)
    event = moving.spends(RELEASE)
    assert isinstance(event, ComposedDpEvent)
    count = spend_of(event.events[1], "task")
    assert np.allclose(np.array(count.rdp) / costs[0].rdp, share, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_counts_noise_is_the_noise_that_is_claimed(kind):
    share, z, honest = 0.2, 1.5, 3
    release = Release(6, honest, 1, 8)
    mechanism = kind(1.0, z, adaptive=AdaptiveClip(share=share, quantile=0.5))
    counts = np.array([[protect(mechanism, np.zeros((8, 1)), 9 * i + j, release)[-1] for j in range(honest)]
                       for i in range(400)])  # fmt: skip
    claimed = (z * 2**9) ** 2 / share
    assert counts.sum(1).astype(float).var() == pytest.approx(claimed, rel=5 * math.sqrt(2 / 400))


def test_taking_a_row_out_moves_the_count_by_no_more_than_its_sensitivity():
    mechanism = DiscreteGaussian(1.0, adaptive=AdaptiveClip(quantile=0.9))
    count = mechanism._count(RELEASE)
    assert count is not None
    rows = np.ones((8, 12)) * np.array([0.01, 0.1, 1, 10, 0.01, 0.1, 1, 10])[:, None]
    whole = protect(mechanism, rows)
    for i in range(8):
        without = rows.copy()
        without[i] = 0
        assert 0 < abs(int(whole[-1] - protect(mechanism, without)[-1])) <= count.sensitivity


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("parties", "rows", "bytes_"), [(100, 8, 2), (6, 8, 2), (1000, 4, 4), (2, 1, 8)])
@pytest.mark.parametrize("noise", [0.0, 1.0, 4.0])
def test_the_count_cannot_wrap(kind, parties, rows, bytes_, noise):
    release = Release(parties, parties, 50, rows)
    mechanism = kind(1.0, noise, bytes=bytes_, bound=0.05, adaptive=AdaptiveClip())
    encoding, count = mechanism.encoding(release), mechanism._count(release)
    assert count is not None
    assert count.limit <= encoding.limit
    assert parties * encoding.limit < 2 ** (8 * bytes_ - 1)
    assert count.limit >= rows * count.sensitivity + 9 * math.isqrt(count.variance)


def test_the_step_is_pinned_and_does_not_ask_the_c_library(monkeypatch):
    adaptive = AdaptiveClip(rate=0.2)
    expected = [adaptive.after(1.0, Fraction(n, 97)) for n in range(-97, 98, 13)]
    assert expected[0] == float(np.float32(math.exp(0.2)))
    for module in (math, np):
        monkeypatch.setattr(module, "exp", None)
    assert [adaptive.after(1.0, Fraction(n, 97)) for n in range(-97, 98, 13)] == expected
    assert expected == sorted(expected, reverse=True)
    assert [c.hex() for c in expected[3:6]] == ["0x1.20852c0000000p+0", "0x1.18e3ae0000000p+0", "0x1.1175dc0000000p+0"]


def test_the_clip_stays_in_its_bounds_and_is_always_a_float32():
    adaptive = AdaptiveClip(rate=2.0, smallest=0.3, largest=2.5)
    for drift in (Fraction(-5), Fraction(5), Fraction(1, 7), Fraction(0)):
        clip = adaptive.after(1.1, drift)
        assert 0.29 < clip < 2.51
        assert clip == float(np.float32(clip))
    assert adaptive.after(1.1, Fraction(-5)) == 2.5
    assert adaptive.after(1.1, Fraction(5)) == float(np.float32(0.3))


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_brings_back_the_mechanism(kind):
    first = kind(1.0, 1.0, adaptive=AdaptiveClip())
    later = rounds(first, [0.3, 2.0], 3)
    assert later != first
    assert first.resume(later.state()) == later
    assert first.resume({}) == first
    assert kind(1.0).state() == {}
    assert kind(1.0).resume(later.state()) == kind(1.0)
    for bad in (math.nan, math.inf, -1.0, 0.0, 1e9):
        with pytest.raises(ProtocolError, match="state of the mechanism"):
            first.resume({"mechanism/clip": np.full(1, bad, np.float32)})
    with pytest.raises(ProtocolError, match="state of the mechanism"):
        first.resume({"mechanism/clip": np.ones(2, np.float32)})


def test_the_next_round_is_encoded_by_the_next_clip():
    first = DiscreteGaussian(1.0, 1.0, adaptive=AdaptiveClip(rate=2.0))
    later = rounds(first, [100.0], 1)
    assert later.clip > 2.0
    encodings = [m.encoding(RELEASE) for m in (first, later)]
    assert encodings[1].fraction < encodings[0].fraction
    with pytest.raises(ProtocolError, match="is not the one that"):
        later.protect(Contributions(np.ones((1, 12)), "task"), encodings[0], RELEASE, {}, jax.random.key(0), bytes)


@pytest.mark.parametrize(("fields", "sentence"), [
    ({"quantile": 0.0}, "adaptive.quantile = 0.0: expected 0.001 to 0.999"),
    ({"share": math.nan}, "adaptive.share = nan"),
    ({"rate": 0.0}, "adaptive.rate = 0.0"),
    ({"rate": math.inf}, "adaptive.rate = inf"),
    ({"smallest": 0.0}, "adaptive.smallest = 0.0"),
    ({"smallest": 2.0, "largest": 1.0}, "smallest = 2.0 and largest = 1.0"),
])  # fmt: skip
def test_senseless_fields_are_refused(fields, sentence):
    with pytest.raises(RecipeError, match=sentence):
        AdaptiveClip(**fields)


def test_a_first_clip_out_of_bounds_is_refused():
    with pytest.raises(RecipeError, match="clip = 5.0 is outside adaptive.smallest"):
        DiscreteGaussian(5.0, adaptive=AdaptiveClip(largest=2.0))
    with pytest.raises(RecipeError, match="too few to count the rows"):
        Skellam(1.0, 1.0, bytes=2, adaptive=AdaptiveClip(share=0.001)).encoding(Release(500, 20, 1, 1))
