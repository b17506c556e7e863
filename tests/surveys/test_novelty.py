"""False alarms at the rate stated, a mixture that is scikit-learn's, and a gas that nobody has smelled before."""

import os
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.mixture import GaussianMixture

from commonprior.errors import InputError, ModelError
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe, Schedule
from commonprior.sampling import generator, learning_key
from commonprior.site.policy import Policy
from commonprior.sums.masked import Masked
from commonprior.surveys.conduct import conduct
from commonprior.surveys.novelty import Novelty, _coordinates, _histogram, _maximise, _p_values, _place, score
from commonprior.task import Batch, Column, Target, Task, TaskSpec
from commonprior.tasks import Family
from commonprior.tasks.table import Table

SPEC = TaskSpec(Target(scaling="public"), shape=(3,))
CENTRES = np.array([[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]])


def draw(rng, n):
    return (CENTRES[rng.integers(3, size=n)] + 0.4 * rng.normal(size=(n, 3))).astype(np.float32)


def tasks(rng, m=4, shots=100, queries=100):
    x = draw(rng, m * (shots + queries)).reshape(m, shots + queries, 3)
    y = np.zeros(x.shape[:2], np.float32)
    mask = np.ones_like(y)
    return Task(*(Batch(x[:, s], y[:, s], mask[:, s]) for s in (slice(shots), slice(shots, None))))


def answered(survey, draw_tasks, spec=SPEC, sites=4):
    """Ask four sites in turn and average: what a secure sum would come to."""
    prior, rng = survey.init(spec, learning_key(0)), generator(0)
    for _ in range(survey.rounds):
        answers = [survey.answer(prior, draw_tasks(rng)) for _ in range(sites)]
        assert all(np.linalg.norm(a) <= 1 + 1e-9 for a in answers)
        assert all(len(a) == survey.length(prior) for a in answers)
        prior = survey.apply(prior, np.mean(answers, 0), None)
    return prior


@pytest.fixture(scope="module")
def known():
    survey = Novelty(components=3, mixtures=6)
    return survey, answered(survey, tasks)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_false_alarms_come_at_most_as_often_as_stated(known, alpha):
    survey, prior = known
    alarms = (survey.judge(prior, draw(generator(1), 20_000)).p_values <= alpha).mean()
    assert 0.3 * alpha < alarms < alpha + 4 * np.sqrt(alpha / 1600)


@pytest.mark.parametrize(("sites", "each"), [(1, 8), (4, 8), (10, 1), (3, 100)])
def test_false_alarms_are_as_stated_however_few_were_scored(sites, each):
    """A score of which so few are known is called new no more often than it may be; conformal p-values are exact."""
    rng, trials = generator(5), 4000
    for alpha in (0.01, 0.05, 0.2):
        alarms = 0
        for _ in range(trials):
            mean = np.mean([_histogram(rng.normal(10, 3, each)) for _ in range(sites)], 0)
            alarms += _p_values(mean[:-1], mean[-1], sites)[_place(rng.normal(10, 3, 1))[0]] <= alpha
        assert alarms / trials <= alpha + 4 * np.sqrt(alpha / trials)
    assert _p_values(mean[:-1], mean[-1], sites).min() == pytest.approx(1 / (sites * each + 1), rel=1e-6)


def test_under_noise_no_more_alarms_and_what_cannot_be_found_is_said():
    rng, sites = generator(6), 200
    true = np.mean([_histogram(rng.normal(10, 3, 50)) for _ in range(sites)], 0)
    noisy = true + rng.normal(0, 2.0 / sites, len(true))
    values = _p_values(noisy[:-1], noisy[-1], sites)
    assert (values >= _p_values(true[:-1], true[-1], sites) - 0.02).all()
    assert values[_place(np.array([100.0]))[0]] > 0.2
    assert values.min() > 0.01 > _p_values(true[:-1], true[-1], sites).min()


def test_between_clusters_is_as_new_as_far_away(known):
    """One Gaussian over everything would call the middle of three clusters the most ordinary place of all."""
    survey, prior = known
    middle = np.array([[1.33, 1.33, 1.33], [-8, -8, -8], [4, 4, 4]], np.float32)
    assert (survey.judge(prior, middle).p_values < 0.01).all()
    assert (survey.judge(prior, CENTRES.astype(np.float32)).p_values > 0.2).all()


def test_a_task_of_slightly_odd_samples_is_found_where_no_sample_is(known):
    survey, prior = known
    rng = generator(2)
    usual = [survey.judge_task(prior, draw(rng, 100), sites=4).p_values[0] for _ in range(20)]
    odd = draw(rng, 100) + np.float32(0.5)
    assert (survey.judge(prior, odd).p_values < 0.01).mean() < 0.5
    assert survey.judge_task(prior, odd, sites=4).p_values[0] < 0.1 < np.median(usual)


def test_a_step_is_the_step_of_scikit_learn(known):
    survey, prior = known
    rng = generator(3)
    rounds = dict(prior.state) | {"rounds": np.array([3.0], np.float32)}
    halfway = type(prior)(prior.params, rounds)
    density, own_tasks = survey.density(halfway), tasks(rng, 1, 400, 2)
    z = np.asarray(own_tasks.support.x[0], float)
    own = _coordinates(density, z)
    peer = GaussianMixture(len(density.weights), covariance_type="diag", reg_covar=0.05)
    peer.weights_, peer.means_, peer.covariances_ = density.weights, density.means, density.variances
    peer.precisions_cholesky_ = 1 / np.sqrt(density.variances)
    np.testing.assert_allclose(score(density, z), -peer.score_samples(own), rtol=1e-6)
    peer._m_step(own, peer._e_step(own)[1])
    mine = _maximise(density, survey.answer(halfway, own_tasks))
    held = peer.weights_ > 1e-3
    np.testing.assert_allclose(mine.weights[held], peer.weights_[held], rtol=1e-3)
    np.testing.assert_allclose(mine.means[held], peer.means_[held], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mine.variances[held], peer.covariances_[held], rtol=1e-4)


def test_padding_counts_for_nothing():
    survey = Novelty(components=2, mixtures=2, steps=1)
    rng = generator(4)

    def padded(rng):
        whole = tasks(rng)
        masked = [b._replace(x=np.where(np.arange(100)[:, None] < 60, b.x, 99), mask=b.mask * (np.arange(100) < 60))
                  for b in whole]  # fmt: skip
        return Task(*masked)

    prior = answered(survey, padded)
    assert survey.judge(prior, draw(rng, 500)).p_values.mean() > 0.3


class Clusters:
    """A pool of samples around the three centres."""

    name, size = "clusters", 10_000

    def episode(self, rng, shots, queries):
        return Task(*(Batch(draw(rng, n), np.zeros(n, np.float32), np.ones(n, np.float32)) for n in (shots, queries)))


def test_a_federation_comes_to_the_same_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(Recipe, "table", lambda self: {"of": "tests"})
    monkeypatch.setattr("commonprior.runfolder.to_toml", lambda recipe: 'of = "tests"')
    survey = Novelty(components=3, mixtures=6, steps=8)
    family = Family(SPEC, {f"site {i}": [Clusters()] for i in range(3)}, {}, {})
    recipe = Recipe(None, survey, DiscreteGaussian(clip=1.0, per="site"), Masked(),
                    Schedule(rounds=survey.rounds, tasks_per_site=1, shots=300, queries=300),
                    policy=Policy(minimum_cohort=2))  # fmt: skip
    prior, privacy, _ = conduct(recipe, tmp_path / "s", family)
    assert privacy == "no differential privacy (no noise)"
    alarms = (survey.judge(prior, draw(generator(5), 5000)).p_values <= 0.1).mean()
    assert 0.06 < alarms < 0.15
    assert (survey.judge(prior, np.array([[1.33, 1.33, 1.33]], np.float32)).p_values < 0.01).all()
    early = type(prior)(prior.params, {**prior.state, "rounds": np.array([4.0], np.float32)})
    with pytest.raises(ModelError, match="4 of its 10 rounds"):
        survey.judge(early, CENTRES)


def test_nothing_to_judge_is_refused(known):
    with pytest.raises(InputError, match="no samples"):
        known[0].judge(known[1], np.zeros((0, 3), np.float32))


# --- a gas that no site has had ---------------------------------------------------------------------------------------

DATA = os.environ.get("COMMONPRIOR_DATA")


def frame(data):
    table = pd.read_parquet(Path(data) / "gas-sensor-drift" / "gas_drift.parquet")
    sensors = [c for c in table.columns if c.startswith("s0") or c.startswith("s1")]
    return table, sensors


def gas():
    """A family whose sites are the batches."""
    if DATA is None:
        pytest.skip("no data: set COMMONPRIOR_DATA to a folder with gas-sensor-drift")
    table, sensors = frame(DATA)
    columns = tuple(Column(s, transform="signed_log") for s in sensors)
    source = Table(target="gas", task="task_id", site="site_id", file="gas.parquet", columns=columns,
                   target_kind="classification", classes=tuple(sorted(table.gas.unique())), valid_fraction=0.0,
                   test_fraction=0.0)  # fmt: skip
    return source.gather([("", "gas.parquet", table)])


@pytest.mark.parametrize("missing", ["Ammonia", "Ethylene"])
def test_a_gas_that_no_site_has_had_is_found(missing):
    """Asked of batches without it, then judging its own samples: one by one, and each batch's as a task."""
    family = gas()
    pools = [pool for site in sorted(family.train) for pool in family.train[site]]
    target = family.spec.target.classes.index(missing)
    survey = Novelty(components=16, mixtures=12)

    def of(rng, wanted):
        batches = [pool.episode(rng, 80, 80) for pool in pools]
        parts = [Task(*(b._replace(mask=b.mask * ((b.y == target) == wanted)) for b in task)) for task in batches]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)

    prior = answered(survey, lambda rng: of(rng, False), family.spec, sites=3)

    def p_values(wanted):
        fresh = of(generator(9), wanted).query
        rows = [np.asarray(mask) > 0 for mask in fresh.mask]
        batches = [jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i])[rows[i]], fresh.x)
                   for i in range(len(pools)) if rows[i].sum() > 5]  # fmt: skip
        singly = np.concatenate([survey.judge(prior, x, sites=3).p_values for x in batches])
        return singly, [survey.judge_task(prior, x, sites=3).p_values[0] for x in batches]

    known, new = p_values(False), p_values(True)
    assert (known[0] <= 0.05).mean() < 0.1
    assert (new[0] <= 0.05).mean() > 0.35
    assert max(new[1]) <= 1 / 19 + 1e-6, "the least that 18 batches can say"
    assert np.median(known[1]) > 0.1
