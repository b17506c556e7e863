"""From scratch and transfer: the same training of a network, from another start."""

import jax
import numpy as np
import pytest

from commonprior.baselines.from_scratch import FromScratch
from commonprior.baselines.transfer import Transfer
from commonprior.evaluation import score
from commonprior.predictor import predict_tasks
from commonprior.task import Batch, Gaussian


def error(predictor, tasks, keys):
    prediction = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
    return np.abs(prediction.mean - tasks.query.y).mean()


def test_training_meets_the_support(spec, pool, network, episodes):
    tasks, keys = episodes([pool("t")], 12)
    tasks = tasks._replace(query=tasks.support)
    errors = [
        error(FromScratch(network, steps=steps, rate=0.02).prepare(spec, {}, 0)["from_scratch"], tasks, keys)
        for steps in (1, 300)
    ]
    assert errors[1] < 0.1 * errors[0]


def test_every_task_starts_from_its_own_key(spec, pool, network, episodes):
    tasks, keys = episodes([pool("t")], 4)
    (predictor,) = FromScratch(network, steps=1).prepare(spec, {}, 0).values()
    twice = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), (tasks.support, tasks.query.x))
    means = predict_tasks(predictor, *twice, keys[np.array([0, 0])]).mean
    np.testing.assert_array_equal(means[0], means[1])
    other = predict_tasks(predictor, *twice, jax.random.split(keys[0])).mean
    assert not np.allclose(other[0], other[1])


def test_uncertainty_is_that_of_samples_held_out(spec, pool, network, episodes):
    tasks, keys = episodes([pool(f"t{i}", slope) for i, slope in enumerate([1.0, 2.0, 3.0, 4.0])], 24, 60)
    (predictor,) = FromScratch(network, steps=200, rate=0.01).prepare(spec, {}, 0).values()
    prediction = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
    covered = [
        score(Gaussian(*(leaf[i] for leaf in prediction)), Batch(None, tasks.query.y[i], tasks.query.mask[i]))
        for i in range(4)
    ]
    assert 0.75 < np.mean([c["coverage_90"] for c in covered]) < 0.99


def test_the_variance_is_the_held_out_error_and_one_sample_of_unit_variance(spec, pool, network, episodes):
    """With folds of one sample each, by hand: train without it, predict it."""
    tasks, keys = episodes([pool("t")], 3)
    fields = {"steps": 5, "rate": 0.01}
    (predictor,) = FromScratch(network, folds=3, **fields).prepare(spec, {}, 0).values()
    adapted = predictor.adapt(tasks.support, keys)
    squares = 0.0
    y = tasks.support.y[0].astype(float)
    for held in range(3):
        mask = np.ones((1, 3), np.float32)
        mask[0, held] = 0
        standard = tasks.support._replace(y=(tasks.support.y - y.mean()) / y.std(ddof=1), mask=mask)
        # Public scaling keeps the labels as they are given.
        public = spec.__class__(spec.target.__class__(scaling="public"), spec.columns)
        (rest,) = FromScratch(network, folds=3, **fields).prepare(public, {}, 0).values()
        mean = rest.predict(rest.adapt(standard, keys), tasks.support.x, keys).mean
        squares += (mean[0, held] - standard.y[0, held]) ** 2
    np.testing.assert_allclose(adapted.variance, [(squares + 1) / 4], rtol=1e-4)


def test_fine_tuning_the_head_leaves_the_body(spec, pool, network, episodes):
    train = {"x": [pool("p"), pool("q")]}
    tasks, keys = episodes([pool("t")], 8)
    moved = {}
    for part in ("head", "all"):
        baseline = Transfer(network, part=part, pretrain_steps=3)
        params = baseline.pretrain(spec, train, 0)
        adapted = baseline.prepare(spec, train, 0)["transfer"].adapt(tasks.support, keys)
        moved[part] = {name for name, value in params.items() if not np.allclose(adapted.params[name][0], value)}
    assert moved["head"] == {"head/weight", "head/bias"}
    assert "body/0/weight" in moved["all"]


def test_transfer_learns_what_tasks_share(spec, pool, network, episodes):
    train = {"x": [pool(f"p{i}", 1.0 + i) for i in range(4)], "y": [pool("p", 3.0)]}
    tasks, keys = episodes([pool("t", 2.0), pool("u", 5.0)], 5)
    scratch = FromScratch(network, steps=100).prepare(spec, train, 0)["from_scratch"]
    transfer = Transfer(network, pretrain_steps=200, pretrain_rate=0.01, tasks=4, rows=32).prepare(spec, train, 0)
    assert error(transfer["transfer"], tasks, keys) < 0.6 * error(scratch, tasks, keys)


def test_seeds_decide(spec, pool, network):
    train = {"x": [pool("p"), pool("q")]}
    baseline = Transfer(network, pretrain_steps=2)
    a, b, c = (baseline.pretrain(spec, train, seed)["head/weight"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


def test_classes_are_learned(class_spec, pool, network, episodes):
    train = {"x": [pool("p", classes=2), pool("q", 2.0, classes=2)]}
    tasks, keys = episodes([pool("t", classes=2)], 20, 60)
    for baseline in (
        FromScratch(network, steps=200, rate=0.01),
        Transfer(network, pretrain_steps=50, pretrain_rate=0.01),
    ):
        (predictor,) = baseline.prepare(class_spec, train, 0).values()
        logits = predict_tasks(predictor, tasks.support, tasks.query.x, keys).logits
        assert (logits[0].argmax(1) == tasks.query.y[0]).mean() > 0.7


def test_an_unknown_part_is_refused(network):
    from commonprior.errors import RecipeError

    with pytest.raises(RecipeError, match="part = 'tail'"):
        Transfer(network, part="tail")
