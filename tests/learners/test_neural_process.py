"""Neural processes: more samples help, and the latent is the mixture that it says."""

import jax
import numpy as np
import pytest

from commonprior.errors import RecipeError
from commonprior.learners._server import ServerStep
from commonprior.learners.neural_process import Drawn, NeuralProcess
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior
from commonprior.sampling import generator, learning_key
from commonprior.task import Batch, Target, Task, TaskSpec, log_likelihood

SPEC = TaskSpec(Target(scaling="public"), shape=(1,))
KEY = learning_key(0)


def bumps(rng, m, shots, queries):
    """y = a sin(x + p): what a support tells of a query depends on where it lies."""
    x = rng.uniform(-2, 2, (m, shots + queries, 1)).astype(np.float32)
    a, p = rng.uniform(0.5, 1.5, (m, 1)), rng.uniform(0, np.pi, (m, 1))
    y, mask = (a * np.sin(2 * x[..., 0] + p)).astype(np.float32), np.ones((m, shots + queries), np.float32)
    return Task(*(Batch(x[:, s], y[:, s], mask[:, s]) for s in (slice(shots), slice(shots, None))))


@pytest.mark.parametrize("latent", [0, 4])
def test_more_samples_help(latent):
    learner = NeuralProcess(Mlp((32,), "gelu"), 32, 2, latent, 4, server=ServerStep(rate=0.005))
    prior = learner.init(SPEC, KEY)
    for step in range(400):
        tasks = bumps(generator("train", step), 16, 16, 16)
        kept = generator("kept", step).integers(0, 17, 16)  # supports of 0 to 16 samples, the rest padding
        tasks.support.mask[:] = np.arange(16) < kept[:, None]
        rows = learner.contribute(prior, tasks, {}, learning_key(step))[0].rows
        prior = learner.apply(prior, np.asarray(rows, np.float64).mean(0), None)
    tasks, keys, learned = (
        bumps(generator("test"), 64, 16, 32),
        jax.random.split(KEY, 64),
        LearnedPrior(learner, prior, SPEC),
    )
    errors = []
    for kept in (0, 1, 4, 16):
        support = tasks.support._replace(mask=np.broadcast_to(np.arange(16) < kept, (64, 16)).astype(np.float32))
        prediction = learned.predict(learned.adapt(support, keys), tasks.query.x, keys)
        errors.append(float(((prediction.mean - tasks.query.y) ** 2).mean()))
    assert errors[1] < 0.9 * errors[0]
    assert errors[2] < 0.7 * errors[1]
    assert errors[3] < 0.7 * errors[2]


def one_task():
    return jax.tree.map(lambda leaf: leaf[0], bumps(generator(0), 1, 5, 3))


def test_the_loss_is_the_likelihood_of_all_labels_under_the_mixture_of_draws():
    learner, task = NeuralProcess(Mlp((6,), "tanh"), 4, 2, latent=3, draws=5), one_task()
    prior = learner.init(SPEC, KEY)
    noise = np.asarray(jax.random.normal(KEY, (5, 3)))
    loss = learner.meta_loss(prior.params, Drawn(*task, noise))
    each = [NeuralProcess(Mlp((6,), "tanh"), 4, 2, 3, 1).meta_loss(prior.params, Drawn(*task, n[None])) for n in noise]
    assert float(loss) == pytest.approx(-np.log(np.mean(np.exp(-3 * np.array(each)))) / 3, rel=1e-4)
    assert np.ptp(each) > 1e-3


def test_a_prediction_has_the_moments_of_its_draws():
    learner, task = NeuralProcess(Mlp((6,), "tanh"), 4, 2, latent=3, draws=5), one_task()
    prior = learner.init(SPEC, KEY)
    louder = {name: 5 * prior.params[name] for name in ("latent/out", "saying/out")}  # or draws would hardly differ
    prior = prior._replace(params={**prior.params, **louder})
    adapted = learner.adapt(prior, task.support, KEY)
    each = learner._predict(prior.params, adapted, task.query.x, jax.random.normal(KEY, (5, 3)))
    assert np.var(each.mean, 0).min() > 0.3 * np.mean(each.variance)
    got = learner.predict(prior, adapted, task.query.x, KEY)
    rng = np.random.default_rng(0)
    which = rng.integers(5, size=200_000)
    drawn = np.asarray(each.mean)[which] + np.sqrt(np.asarray(each.variance)[which]) * rng.normal(size=(200_000, 3))
    np.testing.assert_allclose(got.mean, drawn.mean(0), atol=0.05)
    np.testing.assert_allclose(got.variance, drawn.var(0), rtol=0.03)


def test_classes_get_the_mean_of_their_probabilities():
    spec = TaskSpec(Target(kind="classification", classes=("a", "b")), shape=(1,))
    learner, task = NeuralProcess(Mlp((6,), "tanh"), 4, 2, latent=3, draws=5), one_task()
    prior = learner.init(spec, KEY)
    support = task.support._replace(y=(task.support.y > 0).astype(np.int32))
    adapted = learner.adapt(prior, support, KEY)
    each = learner._predict(prior.params, adapted, task.query.x, jax.random.normal(KEY, (5, 3)))
    got = learner.predict(prior, adapted, task.query.x, KEY)
    np.testing.assert_allclose(jax.nn.softmax(got.logits), jax.nn.softmax(each.logits).mean(0), rtol=1e-4)
    assert np.isfinite(log_likelihood(got, task.query._replace(y=np.zeros(3, np.int32)))).all()


@pytest.mark.parametrize("fields", [{"features": 6, "heads": 4}, {"latent": -1}, {"draws": 0}])
def test_refuses_what_makes_no_sense(fields):
    with pytest.raises(RecipeError, match="expected"):
        NeuralProcess(Mlp(), **fields)
