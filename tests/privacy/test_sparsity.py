"""Few coordinates, public and the same for all: what travels, what is kept, and what another pattern would betray."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.accountant import spend_of
from commonprior.errors import ModelError, ProtocolError, RecipeError
from commonprior.prior import Contributions
from commonprior.privacy import Release
from commonprior.privacy._sparsity import Sparsity
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.privacy.skellam import Skellam
from commonprior.tables import build

KINDS = [DiscreteGaussian, Skellam]


def protect(mechanism, rows, release, memory=None, seed=0):
    return mechanism.protect(
        Contributions(np.asarray(rows), mechanism.per), mechanism.encoding(release), release, memory or {},
        jax.random.key(seed), np.random.default_rng(seed).bytes)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(length=st.integers(1, 3000), keep=st.floats(0.001, 1), seed=st.integers(0, 2**63 - 1), number=st.integers(0, 99))
def test_the_pattern_is_a_set_of_the_size_that_is_named(length, keep, seed, number):
    sparsity = Sparsity(keep, seed=seed, round=number)
    chosen = sparsity.coordinates(length)
    assert chosen.size == sparsity.count(length) == max(1, min(length, math.ceil(keep * length)))
    assert np.all(np.diff(chosen) > 0)
    assert 0 <= chosen[0] <= chosen[-1] < length


def test_the_pattern_is_pinned_and_every_coordinate_is_as_likely():
    assert Sparsity(0.2).coordinates(30).tolist() == [0, 2, 6, 19, 22, 27]
    hits = np.bincount(np.concatenate([Sparsity(0.25, round=r).coordinates(40) for r in range(800)]), minlength=40)
    assert np.all(np.abs(hits - 200) < 5 * math.sqrt(800 * 0.25 * 0.75))


def test_random_draws_anew_and_fixed_never():
    for sparsity, moves in ((Sparsity(0.1), True), (Sparsity(0.1, "fixed"), False)):
        release = Release(3, 3, 200, 1)
        mechanism = DiscreteGaussian(1.0, sparsity=sparsity)
        later = mechanism.observe(np.zeros(20), release, 3)
        ones = np.ones(20, np.int64)
        before, after = (m.mean(ones, m.encoding(release), release, 3) for m in (mechanism, later))
        assert np.array_equal(before, after) != moves
        assert bool(later.state()) == moves
        assert mechanism.resume(later.state()) == later
    moving = DiscreteGaussian(1.0, sparsity=Sparsity(0.1))
    with pytest.raises(ProtocolError, match="state of the mechanism"):
        moving.resume({"mechanism/round": np.full(1, -1, np.float32)})


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_travel_has_a_mean_of_zero_and_the_rest_arrives(kind):
    release = Release(3, 3, 100, 2)
    sparsity = Sparsity(0.2)
    mechanism = kind(1.0, sparsity=sparsity)
    assert mechanism.width(100) == 20
    rows = [np.random.default_rng(i).normal(size=(2, 100)) * 0.1 for i in range(3)]
    total = np.sum([protect(mechanism, r, release)[0] for r in rows], 0)
    assert total.shape == (20,)
    mean = mechanism.mean(total, mechanism.encoding(release), release, 3)
    chosen = sparsity.coordinates(100)
    assert np.allclose(mean[chosen], np.mean(rows, (0, 1))[chosen], atol=1e-6)
    assert not np.delete(mean, chosen).any()
    # The clip is of what travels: a number that stays at home takes nothing from the others.
    loud = np.zeros((1, 100))
    loud[0, chosen[0]], loud[0, np.setdiff1d(np.arange(100), chosen)[0]] = 0.5, 1e6
    assert protect(mechanism, loud, release)[0][0] == 2 ** (mechanism.encoding(release).fraction - 1)


def test_fewer_numbers_cost_less_noise_and_not_more_privacy():
    release = Release(10, 8, 100_000, 4)
    whole = DiscreteGaussian(1.0, 2.0, bytes=2, bound=0.02)
    part = dataclasses.replace(whole, sparsity=Sparsity(0.01))
    sigma = [math.ldexp(math.sqrt(m._grid(release).variance), -m.encoding(release).fraction) for m in (whole, part)]
    assert sigma[1] < sigma[0]
    epsilon = [spend_of(m.spends(release), "task").epsilon(1e-5) for m in (whole, part)]
    assert epsilon[1] == pytest.approx(epsilon[0], rel=1e-4)
    bytes_ = part.width(release.length) * part.encoding(release).width
    assert bytes_ == 4 * release.length / 200


@pytest.mark.parametrize("bytes_", [2, 4])
@pytest.mark.parametrize("sparsity", [None, Sparsity(0.1)])
def test_error_feedback_brings_everything_in_the_end(bytes_, sparsity):
    d, parties, count = 400, 100, 120
    release = Release(parties, parties, d, 1)
    mechanism = DiscreteGaussian(4.0, per="site", bytes=bytes_, bound=0.5, feedback=True, sparsity=sparsity)
    row = np.random.default_rng(0).normal(size=(1, d)) * 0.002
    sums = {}
    for feedback in (True, False):
        running, memory, arrived = dataclasses.replace(mechanism, feedback=feedback), {}, np.zeros(d)
        for number in range(count):
            total, memory = protect(running, row, release, memory, seed=number)
            arrived += running.mean(total, running.encoding(release), release, 1)
            running = running.observe(total, release, 1)
        sums[feedback] = np.abs(arrived - count * row[0])
    left = np.abs(memory_after(mechanism, row, release, count)["residual"])
    assert np.allclose(sums[True], left, atol=1e-5), "nothing is lost: what did not arrive is in the memory"
    assert sums[True].mean() < 0.6 * sums[False].mean()


def memory_after(mechanism, row, release, count):
    memory = {}
    for number in range(count):
        total, memory = protect(mechanism, row, release, memory, seed=number)
        mechanism = mechanism.observe(total, release, 1)
    return memory


def test_feedback_keeps_no_more_than_what_compression_took():
    release = Release(3, 3, 100, 1)
    mechanism = DiscreteGaussian(1.0, per="site", bytes=2, feedback=True)
    kept = protect(mechanism, np.full((1, 100), 7.0), release)[1]["residual"]
    assert kept.dtype == np.float32
    assert 0 < np.abs(kept).max() <= 2.0 ** -mechanism.encoding(release).fraction, "what the clip takes stays taken"
    pattern = Sparsity(0.1, "fixed")
    pruned = dataclasses.replace(mechanism, sparsity=pattern)
    kept = protect(pruned, np.full((1, 100), 0.01), release)[1]["residual"]
    assert not np.delete(kept, pattern.coordinates(100)).any(), "what never travels is forgotten"
    assert protect(mechanism, np.zeros((0, 100)), release, {"residual": kept})[1]["residual"] is kept


def test_noise_stays_out_of_the_memory():
    release = Release(3, 3, 100, 1)
    mechanism = Skellam(1.0, 1.0, per="site", feedback=True, sparsity=Sparsity(0.5))
    row = np.full((1, 100), 0.01)
    kept = [m.protect(Contributions(row, "site"), m.encoding(release), release, {}, jax.random.key(0), csprng)[1]
            for m, csprng in ((mechanism, np.random.default_rng(i).bytes) for i in range(2))]  # fmt: skip
    assert np.array_equal(kept[0]["residual"], kept[1]["residual"])


@pytest.mark.parametrize("kind", KINDS)
def test_feedback_of_tasks_is_refused(kind):
    with pytest.raises(RecipeError, match="what one task left over would travel in another one's row"):
        kind(1.0, 1.0, feedback=True)


@pytest.mark.parametrize(("table", "sentence"), [
    ({"keep": 0.0}, "keep = 0.0: expected a share above 0"),
    ({"keep": math.nan}, "keep = nan"),
    ({"keep": 0.5, "pattern": "top"}, "pattern = 'top'"),
    ({"keep": 0.5, "seed": -1}, "seed = -1"),
    ({"keep": 0.5, "round": 2**24}, "round = 16777216"),
])  # fmt: skip
def test_senseless_fields_are_refused(table, sentence):
    with pytest.raises(RecipeError, match=sentence):
        build(Sparsity, table, "recipe.toml")


def test_a_diverged_number_is_named_even_where_it_would_not_travel():
    mechanism, release = DiscreteGaussian(1.0, sparsity=Sparsity(0.01)), Release(3, 3, 100, 1)
    rows = np.ones((1, 100))
    rows[0, 55] = math.nan
    assert 55 not in Sparsity(0.01).coordinates(100)
    with pytest.raises(ModelError, match="row 0 of the contributions holds nan at number 55"):
        protect(mechanism, rows, release)


def test_attack_singleton_recovery_from_sparse_coordinates():
    """Where each site picks its own coordinates, one that it alone picked shows its number in any sum, masked or not.

    The attacker sees the sum and, as a server that adds sparse vectors must, which site sent which coordinates.
    """
    d, sites = 300, 5
    release = Release(sites, sites, d, 1)
    updates = [np.random.default_rng(i).normal(size=d) * 0.05 for i in range(sites)]

    def attack(patterns):
        """Return (site, coordinate, number) for whatever the sum gives away of one site alone."""
        total = np.zeros(d)
        for update, pattern in zip(updates, patterns, strict=True):
            mechanism = DiscreteGaussian(1.0, per="site", sparsity=pattern)
            integers = protect(mechanism, update[None], release)[0]
            total += mechanism.mean(integers, mechanism.encoding(release), release, 1)
        senders = np.array([np.isin(np.arange(d), pattern.coordinates(d)) for pattern in patterns])
        return [(int(np.argmax(senders[:, c])), c, total[c]) for c in np.flatnonzero(senders.sum(0) == 1)]

    def top(site):
        """The pattern that a site would like best, as a search over seeds finds it: its largest numbers."""
        score = lambda p: np.abs(updates[site][p.coordinates(d)]).sum()  # noqa: E731
        return max((Sparsity(0.1, seed=s) for s in range(1000 * site, 1000 * site + 60)), key=score)

    stolen = attack([top(site) for site in range(sites)])
    assert len(stolen) > 60
    assert all(abs(number - updates[site][c]) < 1e-6 for site, c, number in stolen)
    assert attack([Sparsity(0.1)] * sites) == []
    # What the site itself does has no say in the pattern: same recipe, same round, same coordinates.
    mechanism = DiscreteGaussian(1.0, per="site", sparsity=Sparsity(0.1), feedback=True)
    for site, update in enumerate(updates):
        integers, memory = protect(mechanism, 5 * update[None], release, {"residual": update}, seed=site)
        sent = np.flatnonzero(mechanism.mean(integers, mechanism.encoding(release), release, 1))
        assert np.isin(sent, Sparsity(0.1).coordinates(d)).all()
