import dataclasses
import math
from fractions import Fraction
from typing import Literal

import jax
import numpy as np
import pytest
from dp_accounting import NonPrivateDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior import plugin, privacy
from commonprior.errors import ModelError, ProtocolError, RecipeError
from commonprior.prior import Contributions
from commonprior.privacy import Mechanism, Release
from commonprior.privacy._rdp import DiscreteGaussianSumEvent
from commonprior.privacy.discrete_gaussian import DiscreteGaussian

KEY = jax.random.key(3)


def stream(seed):
    return np.random.default_rng(seed).bytes


def never(n):
    raise AssertionError(f"{n} secret bytes drawn without noise")


def protect(mechanism, rows, release, seed=0, unit: Literal["task", "site"] = "task", key=KEY, encoding=None):
    csprng = stream(seed) if mechanism.noise else never
    encoding = encoding or mechanism.encoding(release)
    return mechanism.protect(Contributions(np.asarray(rows), unit), encoding, release, {}, key, csprng)[0]


def clipped(row, clip):
    return row * min(1.0, clip / np.linalg.norm(row))


def test_it_is_the_folders_plugin():
    assert plugin.load(privacy, Mechanism, "discrete_gaussian") is DiscreteGaussian
    assert DiscreteGaussian(1.0).unit == "task"
    assert DiscreteGaussian(1.0, per="site").unit == "site"


@pytest.mark.parametrize(("width", "precision"), [(2, 0.05), (4, 1e-6), (8, 1e-8)])
def test_the_mean_of_the_sum_is_the_mean_of_the_clipped_rows(width, precision):
    mechanism, release = DiscreteGaussian(0.5, bytes=width), Release(4, 3, 60, 5)
    encoding = mechanism.encoding(release)
    assert encoding.width == width
    rng = np.random.default_rng(0)
    sites = [rng.normal(size=(5, 60)) * rng.lognormal(-2, 1.5, (5, 1)) for _ in range(4)]
    total = np.sum([protect(mechanism, rows, release, key=jax.random.key(i)) for i, rows in enumerate(sites)], 0)
    expected = np.mean([clipped(row, 0.5) for rows in sites for row in rows], 0)
    assert np.abs(mechanism.mean(total, encoding, release, 4) - expected).max() < precision


def test_a_site_short_of_tasks_counts_in_full():
    mechanism, release = DiscreteGaussian(10.0), Release(2, 2, 3, 4)
    encoding, row = mechanism.encoding(release), np.array([[1.0, -2.0, 3.0]])
    total = protect(mechanism, row, release) + protect(mechanism, np.repeat(row, 4, 0), release)
    assert np.allclose(mechanism.mean(total, encoding, release, 2), row[0] * 5 / 8, atol=1e-6)
    assert not protect(mechanism, np.zeros((0, 3)), release).any()


def test_per_site_averages_first_and_clips_once():
    mechanism, release = DiscreteGaussian(1.0, per="site"), Release(2, 2, 2, 9)
    encoding = mechanism.encoding(release)
    assert encoding == mechanism.encoding(release._replace(rows=1))
    rows = np.array([[30.0, 0.0], [0.0, 40.0]])
    total = protect(mechanism, rows, release)
    assert np.allclose(mechanism.mean(total, encoding, release, 1), [0.6, 0.8], atol=1e-6)
    assert np.array_equal(total, protect(mechanism, [[15.0, 20.0]], release, unit="site"))
    huge = np.full((9, 2), 1.7e308)
    assert np.allclose(mechanism.mean(protect(mechanism, huge, release), encoding, release, 1), 0.5**0.5, atol=1e-6)


def test_the_denominator_is_public():
    mechanism, release = DiscreteGaussian(1.0), Release(5, 4, 2, 8)
    encoding = mechanism.encoding(release)
    total = np.array([2**encoding.fraction, -3 * 2**encoding.fraction])
    for survivors in (4, 5):
        assert np.array_equal(mechanism.mean(total, encoding, release, survivors), np.array([1, -3]) / (8 * survivors))
    for survivors in (0, 6):
        with pytest.raises(ProtocolError, match=f"{survivors} survivors of 5"):
            mechanism.mean(total, encoding, release, survivors)


def test_without_noise_the_key_alone_decides():
    mechanism, release = DiscreteGaussian(1.0, bytes=2), Release(3, 2, 500, 3)
    rows = np.random.default_rng(0).normal(size=(3, 500))
    first = protect(mechanism, rows, release)
    assert np.array_equal(first, protect(mechanism, rows, release))
    assert not np.array_equal(first, protect(mechanism, rows, release, key=jax.random.key(4)))
    single = rows.astype(np.float32)
    assert np.array_equal(protect(mechanism, single, release), protect(mechanism, jax.numpy.asarray(single), release))


def test_taking_one_row_out_changes_no_other():
    # Zero-out for someone who knows the rounding key: the difference is one row's integers, bounded by Δ.
    mechanism, release = DiscreteGaussian(1.0, bytes=2), Release(3, 2, 400, 3)
    rows = np.random.default_rng(1).normal(size=(3, 400))
    without = rows.copy()
    without[1] = 0
    difference = protect(mechanism, rows, release) - protect(mechanism, without, release)
    event = dataclasses.replace(mechanism, noise=0.1).spends(release)
    assert isinstance(event, DiscreteGaussianSumEvent)
    assert mechanism.encoding(release).fraction == dataclasses.replace(mechanism, noise=0.1).encoding(release).fraction
    assert 0 < difference @ difference <= event.sensitivity_squared
    # A site with one task less is a site whose last row is zeros.
    short = np.concatenate([rows[:2], np.zeros((1, 400))])
    assert np.array_equal(protect(mechanism, rows[:2], release), protect(mechanism, short, release))


def test_equal_rows_are_not_rounded_alike():
    mechanism, release = DiscreteGaussian(1.0, bytes=2), Release(3, 2, 400, 3)
    rows = np.repeat(np.random.default_rng(1).normal(size=(1, 400)), 3, 0)
    one, two, three = (protect(mechanism, rows[:m], release) for m in (1, 2, 3))
    assert not np.array_equal(one, two - one)
    assert not np.array_equal(two - one, three - two)


def test_the_noise_of_the_worst_survivors_is_the_noise_that_is_claimed():
    d, parties, honest, z = 20_000, 9, 4, 1.5
    mechanism, release = DiscreteGaussian(2.0, z), Release(parties, honest, d, 6)
    event = mechanism.spends(release)
    assert isinstance(event, DiscreteGaussianSumEvent)
    shares = [protect(mechanism, np.zeros((6, d)), release, seed) for seed in range(honest)]
    total = np.sum(shares, 0)
    claimed = z**2 * event.sensitivity_squared
    assert total.astype(float).var() == pytest.approx(claimed, rel=5 * math.sqrt(2 / d))
    assert shares[0].astype(float).var() == pytest.approx(claimed / honest, rel=5 * math.sqrt(2 / d))
    assert event.variance == math.ceil(Fraction(z) ** 2 * event.sensitivity_squared / honest)
    assert (event.parties, event.length) == (honest, d)
    # In the user's units: the mean's noise is z · Δ / (rows · survivors), and Δ is hardly more than the clip.
    mean = mechanism.mean(total, mechanism.encoding(release), release, honest)
    assert mean.std() == pytest.approx(z * 2.0 / (6 * honest), rel=0.03)


def test_fewer_honest_survivors_mean_more_noise_each_and_the_same_cost():
    mechanism = DiscreteGaussian(1.0, 1.0)
    few, many = (mechanism.spends(Release(12, honest, 100, 2)) for honest in (3, 12))
    assert isinstance(few, DiscreteGaussianSumEvent)
    assert isinstance(many, DiscreteGaussianSumEvent)
    ratio = (few.variance / few.sensitivity_squared) / (many.variance / many.sensitivity_squared)
    assert ratio == pytest.approx(4, rel=1e-6)
    assert few.rdp([2.0]) == pytest.approx(many.rdp([2.0]), rel=1e-6)


def test_the_noise_is_fresh():
    mechanism, release = DiscreteGaussian(1.0, 1.0), Release(3, 2, 100, 1)
    rows = np.ones((1, 100))
    assert not np.array_equal(protect(mechanism, rows, release, 0), protect(mechanism, rows, release, 1))


def test_no_noise_claims_nothing():
    assert isinstance(DiscreteGaussian(1.0).spends(Release(3, 2, 10, 1)), NonPrivateDpEvent)


@settings(max_examples=150, deadline=None)
@given(
    parties=st.integers(1, 500),
    dropped=st.integers(0, 400),
    length=st.integers(1, 10**6),
    rows=st.integers(1, 64),
    clip=st.floats(1e-20, 1e20),
    noise=st.sampled_from([0.0, 0.3, 1.0, 7.7]),
    width=st.sampled_from([2, 4, 8]),
    bound=st.sampled_from([0.0, 0.01, 1.0]),
)
def test_no_encoding_can_wrap(parties, dropped, length, rows, clip, noise, width, bound):
    release = Release(parties, max(1, parties - dropped), length, rows)
    mechanism = DiscreteGaussian(clip, noise, bytes=width, bound=bound * clip)
    try:
        encoding = mechanism.encoding(release)
    except RecipeError as error:
        assert f"bytes = {width}" in str(error)  # noqa: PT017
        return
    edge = math.ceil(math.ldexp(bound * clip if bound else clip, encoding.fraction))
    assert parties * encoding.limit < 2 ** (8 * width - 1)
    assert encoding.limit >= rows * edge
    event = mechanism.spends(release)
    if isinstance(event, DiscreteGaussianSumEvent):
        tail = encoding.limit - rows * edge
        # 2·d·exp(-r²/2σ²) < 2^-63
        assert math.log(2 * length) - tail**2 / (2 * event.variance) < -63 * math.log(2) + math.log(2)
        assert event.variance * event.parties >= Fraction(noise) ** 2 * event.sensitivity_squared


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("width", [2, 4, 8])
def test_the_worst_rows_of_everyone_add_up(width, noise):
    parties, rows, d = 7, 3, 5
    mechanism, release = DiscreteGaussian(1.0, noise, bytes=width), Release(parties, parties, d, rows)
    encoding = mechanism.encoding(release)
    worst = np.zeros((rows, d))
    worst[:, 0], worst[:, 1] = -1e30, 1e-3
    shares = [protect(mechanism, worst, release, seed) for seed in range(parties)]
    words = np.zeros(d, encoding.word)
    for share in shares:
        words += encoding.to_words(share)
    total = encoding.from_words(words)
    assert np.array_equal(total, np.sum(shares, 0))
    event = mechanism.spends(release)
    spread = 8 * math.sqrt(parties * event.variance) if isinstance(event, DiscreteGaussianSumEvent) else 0.0
    assert abs(total[0] + parties * rows * 2**encoding.fraction) <= spread


def test_two_bytes_hold_large_updates_where_each_number_is_bounded():
    release = Release(100, 90, 100_000, 8)
    with pytest.raises(RecipeError, match=r"bytes = 2 is too few for 100 sites of 8 rows.*158; take more bytes"):
        DiscreteGaussian(1.0, bytes=2).encoding(release)
    encoding = DiscreteGaussian(1.0, bytes=2, bound=0.02).encoding(release)
    assert encoding.fraction >= 10


def test_the_scale_is_the_finest_that_fits():
    release = Release(10, 10, 100, 1)
    for width, room in ((2, 2**15), (4, 2**30)):
        fraction = DiscreteGaussian(1.0, bytes=width).encoding(release).fraction
        assert 10 * 2**fraction < room <= 10 * 2 ** (fraction + 1)
    assert DiscreteGaussian(1.0, bytes=8).encoding(release).fraction == 30


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"clip": 0.0}, "clip = 0.0: expected an L2 norm"),
        ({"clip": math.nan}, "clip = nan"),
        ({"clip": math.inf}, "clip = inf"),
        ({"clip": 1.0, "noise": -0.1}, "noise = -0.1: expected a multiplier"),
        ({"clip": 1.0, "noise": math.nan}, "noise = nan"),
        ({"clip": 1.0, "bound": -1.0}, "bound = -1.0"),
        ({"clip": 1.0, "bytes": 3}, "bytes = 3: expected 1, 2, 4 or 8"),
        ({"clip": 1.0, "per": "sample"}, "per = 'sample'"),
    ],
)
def test_senseless_fields_are_refused(fields, sentence):
    with pytest.raises(RecipeError, match=sentence):
        DiscreteGaussian(**fields)


@pytest.mark.parametrize(
    "release", [(3, 0, 10, 1), (3, -1, 10, 1), (3, 4, 10, 1), (0, 0, 10, 1), (3, 2, 0, 1), (3, 2, 10, 0)]
)
def test_a_release_that_cannot_be_is_refused(release):
    for noise in (0.0, 1.0):
        with pytest.raises(RecipeError, match="expected at"):
            DiscreteGaussian(1.0, noise).spends(Release(*release))


def test_rows_that_do_not_fit_are_refused():
    mechanism, release = DiscreteGaussian(1.0), Release(3, 2, 4, 2)
    with pytest.raises(RecipeError, match=r'local_steps = 1, or mechanism.per = "site"'):
        protect(mechanism, np.ones((1, 4)), release, unit="site")
    with pytest.raises(ModelError, match="3 rows, one a task, are more than the round's tasks_per_site = 2"):
        protect(mechanism, np.ones((3, 4)), release)
    for shape in ((2, 5), (4,)):
        with pytest.raises(ModelError, match=r"expected \[m, 4\]"):
            protect(mechanism, np.ones(shape), release)


@pytest.mark.parametrize("per", ["task", "site"])
def test_a_diverged_learner_does_not_poison_the_sum(per):
    rows = np.ones((2, 4))
    rows[1, 2] = math.nan
    with pytest.raises(ModelError, match="row 1 of the contributions holds nan at number 2"):
        protect(DiscreteGaussian(1.0, per=per), rows, Release(3, 2, 4, 2))


@pytest.mark.parametrize("per", ["task", "site"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_row_that_is_not_finite_counts_as_none_under_noise(per, bad):
    """To refuse would tell of private numbers, un-noised. The same noise: the same integers as with zeros there."""
    mechanism, release = DiscreteGaussian(1.0, 1.0, per), Release(4, 3, 5, 3)
    rows = np.random.default_rng(0).normal(size=(3, 5))
    broken, empty = rows.copy(), rows.copy()
    broken[1, 2], empty[1] = bad, 0
    assert (protect(mechanism, broken, release) == protect(mechanism, empty, release)).all()


def test_another_encoding_is_refused():
    mechanism, release = DiscreteGaussian(1.0, 1.0), Release(3, 2, 4, 2)
    coarser = dataclasses.replace(mechanism.encoding(release), fraction=3)
    with pytest.raises(ProtocolError, match="encoding"):
        protect(mechanism, np.ones((2, 4)), release, encoding=coarser)


def test_memory_and_mechanism_stay_as_they_are():
    mechanism, release, memory = DiscreteGaussian(1.0), Release(3, 2, 4, 2), {"x": np.ones(2)}
    contributions = Contributions(np.ones((2, 4)), "task")
    kept = mechanism.protect(contributions, mechanism.encoding(release), release, memory, KEY, never)[1]
    assert kept is memory
    assert mechanism.observe(np.zeros(4), release, 3) is mechanism
