"""The genetic algorithm: who survives, where children come from, and that everyone breeds the same ones."""

import jax
import numpy as np
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.learners.genetic import Genetic
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, Task, TaskSpec, log_likelihood

LINES = TaskSpec(Target(scaling="public"), shape=(1,))
KEY = learning_key(0)
NETWORK = Mlp((3,), "tanh")


def tasks(m=2):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (m, 12, 1)).astype(np.float32)
    everything = Batch(x, np.sin(x[..., 0]), np.ones((m, 12), np.float32))
    return Task(*(jax.tree.map(lambda leaf, s=s: leaf[:, s], everything) for s in (slice(5), slice(5, None))))


def test_the_fittest_survive_unchanged_and_in_order():
    learner = Genetic(NETWORK, population=8, elites=3)
    prior = learner.init(LINES, KEY)
    fitness = np.array([0.1, 0.9, 0.2, 0.9, -1.0, 0.5, 0.0, 0.3])
    new = learner.apply(prior, fitness, None)
    for name, value in new.params.items():
        assert (value[:3] == prior.params[name][[1, 3, 5]]).all()  # the first of two that are equal comes first


def test_without_mutation_each_number_of_a_child_is_one_of_a_good_parent():
    learner = Genetic(NETWORK, population=8, elites=1, mutation=1e-30)
    prior = learner.init(LINES, KEY)
    new = learner.apply(prior, np.arange(8.0), None)
    weights, children = prior.params["body/0/weight"], new.params["body/0/weight"][1:]
    good = weights[4:]  # the better half
    assert (children[:, None] == good[None]).any(1).all()
    mixed = [(child != parent).any() for child in children for parent in good]
    assert sum(mixed) > 7 * 3, "no child has two parents"


def test_mutation_moves_a_share_of_the_numbers_by_about_its_size():
    learner = Genetic(Mlp((400,), "tanh"), population=4, elites=1, mutation=0.2, share=0.25)
    prior = learner.init(LINES, KEY)
    same = prior._replace(params={name: np.repeat(value[:1], 4, 0) for name, value in prior.params.items()})
    new = learner.apply(same, np.zeros(4), None)
    moved = np.concatenate([(new.params[n] - same.params[n])[1:].ravel() for n in ("body/0/weight", "head/weight")])
    assert (moved != 0).mean() == pytest.approx(0.25 * (1 - 0.0993), abs=0.03)  # 32 of 64 coins: a step of 0
    assert moved[moved != 0].std() == pytest.approx(0.2 / np.sqrt(1 - 0.0993), rel=0.1)
    assert new.state["genetic/size"] == np.float32(np.float64(np.float32(0.2)) * 0.97)


def test_fitness_is_the_likelihood_of_the_query_after_adapting():
    learner = Genetic(NETWORK, population=4, elites=1, bound=100.0)
    prior, some = learner.init(LINES, KEY), tasks()
    rows = learner.contribute(prior, some, {}, KEY)[0].rows
    for member in range(4):
        alone = prior._replace(params={name: np.roll(v, -member, 0) for name, v in prior.params.items()})
        for i in range(2):
            one = jax.tree.map(lambda leaf, i=i: leaf[i], some)
            prediction = learner.predict(alone, learner.adapt(alone, one.support, KEY), one.query.x, KEY)
            assert rows[i, member] == pytest.approx(float(log_likelihood(prediction, one.query).mean()), rel=1e-4)


def test_a_member_that_says_no_numbers_has_the_least_fitness():
    learner = Genetic(NETWORK, population=4, elites=1, bound=2.0)
    prior = learner.init(LINES, KEY)
    prior.params["head/bias"][2] = np.nan
    rows = learner.contribute(prior, tasks(), {}, KEY)[0].rows
    assert (rows[:, 2] == -2).all()
    assert np.isfinite(rows).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("population", 3), ("elites", 0), ("elites", 13), ("mutation", 0.0), ("share", 1.5), ("bound", 0.0),
     ("inner_steps", 0), ("inner_rate", float("nan")), ("seed", -1)],
)  # fmt: skip
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = "):
        Genetic(NETWORK, **{field: value})


def test_fitness_of_another_population_is_refused():
    learner = Genetic(NETWORK, population=4, elites=1)
    with pytest.raises(ModelError, match="fitness of 4 members"):
        learner.apply(learner.init(LINES, KEY), np.zeros(5), None)
