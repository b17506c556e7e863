"""Alone and pooled: meta-training in one place."""

from dataclasses import dataclass, field

import numpy as np

from commonprior.baselines.alone import Alone
from commonprior.baselines.pooled import Pooled
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior, predict_tasks
from commonprior.sampling import generator, learning_key, sample_tasks


@dataclass(frozen=True)
class Watched:
    """A pool that notes when it is asked."""

    pool: object
    log: list = field(default_factory=list)

    @property
    def name(self):
        return self.pool.name

    @property
    def size(self):
        return self.pool.size

    def episode(self, rng, shots, queries):
        self.log.append((shots, queries))
        return self.pool.episode(rng, shots, queries)


def test_pooled_is_the_loop_that_one_would_write(spec, pool, learner):
    train = {"b": [pool("p", 4.0)], "a": [pool("p", 2.0), pool("q", 3.0), pool("r", 3.5)]}
    (predictor,) = Pooled(learner, rounds=5, tasks_per_site=2, shots=6, queries=3).prepare(spec, train, 11).values()
    prior, memory = learner.init(spec, learning_key(11, "pooled", "init")), {}
    every = [*train["a"], *train["b"]]
    for i in range(5):
        tasks = sample_tasks(every, generator(11, "pooled", i, "tasks"), 3, 6, 3, spec.target)
        rows, memory = learner.contribute(prior, tasks, memory, learning_key(11, "pooled", i, "learning"))
        prior = learner.apply(prior, rows.rows.astype(np.float64).mean(0), learning_key(11, "pooled", i, "apply"))
    assert isinstance(predictor, LearnedPrior)
    assert predictor.prior.hash() == prior.hash()
    assert prior.params["slope"] != learner.init(spec, learning_key(11, "pooled", "init")).params["slope"]


def test_pooled_takes_as_many_tasks_a_round_as_the_sites_would(spec, pool, learner):
    train = {"a": [Watched(pool(f"p{i}")) for i in range(5)], "b": [Watched(pool("q"))]}
    Pooled(learner, rounds=3, tasks_per_site=2, shots=4, queries=3).prepare(spec, train, 0)
    logs = [log for pools in train.values() for p in pools for log in p.log]
    assert len(logs) == 3 * (2 + 1)
    assert set(logs) == {(4, 3)}


def test_alone_each_site_sees_its_own_tasks(spec, pool, learner):
    own, other = [Watched(pool("p", 2.0))], [Watched(pool("p", -4.0)), Watched(pool("q", -4.0))]
    alone = Alone(learner, rounds=3, tasks_per_site=2, shots=6, queries=2)
    both = alone.prepare(spec, {"a": own, "b": other, "c": []}, 0)
    assert set(both) == {"a", "b"}
    assert [len(p.log) for p in (*own, *other)] == [3, 3, 3]
    by_itself = alone.prepare(spec, {"a": own}, 0)
    assert by_itself["a"].prior.hash() == both["a"].prior.hash()
    twins = alone.prepare(spec, {"a": own, "b": own}, 0)
    assert twins["b"].prior.hash() != twins["a"].prior.hash()


def test_meta_training_helps_a_real_learner(spec, pool, episodes):
    learner = Maml(Mlp(widths=(16,)), inner_steps=1, inner_rate=0.05)
    train = {"a": [pool(f"p{i}", 1.0 + i) for i in range(3)], "b": [pool("q", 5.0)]}
    tasks, keys = episodes([pool("t", 2.0), pool("u", 3.0)], 5)
    errors = []
    for rounds in (1, 300):
        (predictor,) = Pooled(learner, rounds=rounds, tasks_per_site=3).prepare(spec, train, 0).values()
        prediction = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
        errors.append(np.abs(prediction.mean - tasks.query.y).mean())
    assert errors[1] < 0.7 * errors[0]
