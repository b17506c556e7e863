"""Architecture search: the mixture by hand, its ends as plain networks, and a search that finds what was hidden."""

import jax
import numpy as np
import pytest

from commonprior.errors import RecipeError
from commonprior.learners._local import LocalWork
from commonprior.learners._mixed_layers import MixedLayers
from commonprior.learners._server import ServerStep
from commonprior.learners.architecture import Architecture, Layer
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec

LINES = TaskSpec(Target(scaling="public"), shape=(2,))
KEY = learning_key(0)


def sure(params, operation, width, layers=2):
    """The parameters with all of the mixtures' weight on one candidate."""
    out = dict(params)
    for i in range(layers):
        out[f"architecture/body/{i}/operation"] = 60.0 * np.eye(4, dtype=np.float32)[operation]
        out[f"architecture/body/{i}/width"] = 60.0 * np.eye(2, dtype=np.float32)[width]
    return out


@pytest.mark.parametrize(("operation", "name"), [(0, "relu"), (1, "tanh"), (2, "gelu")])
def test_a_mixture_that_is_sure_is_a_perceptron_of_that_operation_and_width(operation, name):
    params = MixedLayers(2, (3, 6)).init(np.zeros((1, 2), np.float32), 1, KEY)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    cut = {n: v[: (2 if n.startswith("body/0") else 3), :3] if v.ndim == 2 else v[:3] for n, v in params.items()}
    cut["head/weight"], cut["head/bias"] = params["head/weight"][:3], params["head/bias"]
    got = MixedLayers(2, (3, 6)).apply(sure(params, operation, 0), x)
    np.testing.assert_allclose(got, Mlp((3, 3), name).apply(cut, x), rtol=1e-5, atol=1e-6)


def test_candidates_that_weigh_the_same_are_averaged():
    network = MixedLayers(1, (1, 2))
    params = network.init(np.zeros((1, 1), np.float32), 1, KEY)
    x = np.array([[0.7]], np.float32)
    h = x @ params["body/0/weight"] + params["body/0/bias"]
    mixed = (np.maximum(h, 0) + np.tanh(h) + np.asarray(jax.nn.gelu(h)) + h) / 4 * np.array([1.0, 0.5])
    np.testing.assert_allclose(network.apply(params, x), mixed @ params["head/weight"], rtol=1e-5)


def test_chosen_are_the_candidates_that_weigh_most():
    learner = Architecture(2, (3, 6))
    prior = learner.init(LINES, KEY)
    prior = prior._replace(params=sure(prior.params, 2, 1))
    assert learner.chosen(prior) == [Layer("gelu", 6), Layer("gelu", 6)]


def test_a_task_leaves_the_architecture_alone():
    learner = Architecture(1, (2, 4))
    prior = learner.init(LINES, KEY)
    support = Batch(np.ones((3, 2), np.float32), np.arange(3, dtype=np.float32), np.ones(3, np.float32))
    adapted = learner.adapt(prior, support, KEY)
    assert set(adapted) == {"body/0/weight", "body/0/bias", "head/weight", "head/bias"}


def test_the_search_finds_what_the_tasks_were_made_with():
    learner = Architecture(1, (4,), 1, 0.1, LocalWork(), ServerStep(rate=0.03))
    prior, rng = learner.init(LINES, KEY), np.random.default_rng(0)
    for _ in range(150):
        x = 2 * rng.normal(size=(8, 20, 2)).astype(np.float32)
        everything = Batch(x, np.tanh(3 * x[..., 0]).astype(np.float32), np.ones((8, 20), np.float32))
        tasks = Task(*(jax.tree.map(lambda leaf, s=s: leaf[:, s], everything) for s in (slice(10), slice(10, None))))
        prior = learner.apply(prior, learner.contribute(prior, tasks, {}, KEY)[0].rows.astype(np.float64).mean(0), None)
    assert learner.chosen(prior)[0].operation == "tanh"


@pytest.mark.parametrize(
    ("field", "value"),
    [("layers", 0), ("widths", ()), ("widths", (8, 4)), ("inner_steps", 0), ("inner_rate", float("nan"))],
)
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        Architecture(**{field: value})
