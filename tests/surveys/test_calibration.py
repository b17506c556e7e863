"""Intervals that are too narrow or too wide, put right by what other tasks' labels say; and who refuses."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

from commonprior.errors import InputError, ModelError
from commonprior.evaluation import score
from commonprior.learners.dkt import Dkt
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior, predict_tasks
from commonprior.prior import Prior
from commonprior.sampling import generator, learning_key
from commonprior.surveys.calibration import Calibration
from commonprior.task import Batch, Target, Task, TaskSpec

GP = Dkt(Mlp((8,)), terms=("values",))
SPEC = TaskSpec(Target(scaling="public"), shape=(1,))
CLASSES = TaskSpec(Target(kind="classification", classes=("a", "b")), shape=(1,))
SURVEY = Calibration(GP)
KEY = learning_key(0)


def curves(rng, m, noise=0.3):
    x = rng.uniform(-3, 3, (m, 60, 1)).astype(np.float32)
    y = (np.sin(x[..., 0] + rng.uniform(0, 6, (m, 1))) + noise * rng.standard_t(4, size=(m, 60))).astype(np.float32)
    mask = np.ones_like(y)
    return Task(*(Batch(x[:, s], y[:, s], mask[:, s]) for s in (slice(10), slice(10, None))))


def prior_that_says(noise):
    prior = GP.init(SPEC, KEY)
    (name,) = [name for name in prior.params if name.endswith("noise")]
    return Prior({**prior.params, name: np.full(1, 2 * np.log(noise), np.float32)}, prior.state)


def covered(learned, tasks):
    keys = jax.random.split(KEY, len(tasks.query.y))
    said = predict_tasks(learned, tasks.support, tasks.query.x, keys)
    return np.mean([
        score(jax.tree.map(lambda leaf, i=i: leaf[i], said), jax.tree.map(lambda leaf, i=i: leaf[i], tasks.query))[
            "coverage_90"
        ]
        for i in range(len(keys))
    ])  # fmt: skip


@pytest.mark.parametrize("noise", [0.05, 0.3, 2.0])
def test_intervals_hold_on_tasks_that_nobody_asked_about(noise):
    learned, rng = LearnedPrior(GP, prior_that_says(noise), SPEC), generator(0)
    asked = SURVEY.about(learned)
    answers = [SURVEY.answer(asked, curves(rng, 20)) for _ in range(4)]
    assert all(0 < np.linalg.norm(answer) <= 1 for answer in answers)
    widening = SURVEY.widening(SURVEY.apply(asked, np.mean(answers, 0), None))
    fresh = curves(generator(1), 200)
    before, after = covered(learned, fresh), covered(dataclasses.replace(learned, widening=widening), fresh)
    assert abs(after - 0.9) < 0.03
    assert noise == 0.3 or abs(before - 0.9) > 0.07


@pytest.mark.parametrize(("sd", "level"), [(0.5, 0.9), (1.0, 0.9), (2.5, 0.9), (2.0, 0.5)])
def test_the_factor_is_the_sd_of_normal_residuals(sd, level):
    edges = np.append(0.0, np.geomspace(0.01, 1000, 401)[1:])
    shares = np.diff(2 * stats.norm.cdf(edges / sd) - 1)
    prior = SURVEY.apply(SURVEY.init(SPEC, KEY), shares, None)
    assert SURVEY.widening(prior, level) == pytest.approx(sd, rel=2e-3)
    noisy = SURVEY.apply(prior, shares + generator(2).normal(0, 2e-3, 400), None)
    assert SURVEY.widening(noisy, level) == pytest.approx(sd, rel=0.15)


def test_what_diverged_is_far_and_padding_is_nothing():
    task = curves(generator(3), 2)
    task.query.y[0, :25] = np.nan
    task.query.mask[1] = 0
    answer = SURVEY.answer(SURVEY.about(LearnedPrior(GP, prior_that_says(0.3), SPEC)), task)
    assert answer[-1] == pytest.approx(0.5)
    assert answer.sum() == pytest.approx(1)


def test_a_factor_is_bounded_whatever_the_answers():
    for at, factor in ((0, 0.1), (399, 100)):
        shares = np.zeros(400)
        shares[at] = 1.0
        assert SURVEY.widening(SURVEY.apply(SURVEY.init(SPEC, KEY), shares, None)) == pytest.approx(factor, rel=0.01)
    assert 0.1 <= SURVEY.widening(SURVEY.apply(SURVEY.init(SPEC, KEY), np.full(400, -1.0), None)) <= 100


def test_refuses_classes_and_levels_and_factors():
    with pytest.raises(InputError, match="classes have probabilities and no intervals"):
        SURVEY.init(CLASSES, KEY)
    with pytest.raises(InputError, match="level = 1.0: expected a share between 0 and 1"):
        SURVEY.widening(SURVEY.init(SPEC, KEY), 1.0)
    for factor in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ModelError, match="widening = .*: expected a number above 0"):
            LearnedPrior(GP, prior_that_says(1.0), SPEC, factor)
