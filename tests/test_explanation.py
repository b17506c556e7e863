"""Explanations against closed forms, against leaving samples out in earnest, and for every learner there is."""

import dataclasses
import json
import typing
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from commonprior import learners
from commonprior.errors import DataError, ModelError
from commonprior.explanation import explain
from commonprior.learners import Learner
from commonprior.learners.dkt import Dkt
from commonprior.learners.maml import Maml
from commonprior.networks import Network
from commonprior.networks.mlp import Mlp
from commonprior.plugin import kinds, load
from commonprior.predictor import LearnedPrior, predict_task
from commonprior.prior import Prior
from commonprior.sampling import learning_key
from commonprior.task import Batch, Column, Gaussian, Rows, Target, TaskSpec

KEY, K = learning_key(0), 4
RAW = TaskSpec(Target(name="heat", unit="W", scaling="public", centre=10.0, spread=2.0), shape=(2,))
CLASSES = TaskSpec(Target(name="toxic", kind="classification", classes=("no", "yes")), shape=(2,))
TABLE = TaskSpec(
    Target(scaling="public"),
    (Column("size"), Column("molecule", "smiles", slots=3), Column("solvent", "categorical", slots=2), Column("dose")),
)


def samples(spec, n=K, seed=0):
    rng = np.random.default_rng(seed)
    if spec.columns:
        present = np.ones((n, 4), np.float32)
        present[0, 3] = 0
        values = rng.normal(size=(n, 4)) * [1, 1, 1, 1]
        values[:, 1:3], values[0, 3] = np.eye(2)[rng.integers(2, size=n)], 0
        x = Rows(values.astype(np.float32), present, rng.integers(0, 4, (n, 3)).astype(np.float32))
    else:
        x = rng.normal(size=(n, 2)).astype(np.float32)
    y = np.arange(n) % 2 if spec.target.kind == "classification" else rng.normal(10, 2, n).astype(np.float32)
    return Batch(x, y, np.ones(n, np.float32))


def query(spec):
    return jax.tree.map(lambda leaf: leaf[-1:], samples(spec, seed=1).x)


def learned(learner, spec):
    """A prior in which nothing is zero or equal by chance."""
    rng, prior = np.random.default_rng(2), learner.init(spec, KEY)
    params = {n: (v + 0.2 * rng.normal(size=v.shape)).astype(np.float32) for n, v in prior.params.items()}
    return LearnedPrior(learner, prior._replace(params=params), spec)


def number(prediction, which=0):
    if isinstance(prediction, Gaussian):
        return float(prediction.mean[0])
    return float(jax.nn.softmax(prediction.logits[0])[which])


def learner_of(kind):
    cls = load(learners, Learner, kind)
    hints = typing.get_type_hints(cls)
    stand_ins = {Network: Mlp((6,), "tanh"), Learner: Maml(Mlp((6,), "tanh"), 2)}
    parts = {f.name: stand_ins[hints[f.name]] for f in dataclasses.fields(cls) if hints[f.name] in stand_ins}
    steps = {f.name: 2 for f in dataclasses.fields(cls) if f.name == "inner_steps"}
    return cls(**parts, **steps)


def check(model, support, x):
    """What holds of any explanation, whatever the learner."""
    why, predicted = explain(model, support, x, KEY), predict_task(model, support, x, KEY)
    which = int(np.argmax(predicted.logits)) if not isinstance(predicted, Gaussian) else 0
    assert why.prediction == number(predicted, which)
    for i in range(len(support.y)):
        rest = jax.tree.map(lambda leaf, i=i: np.delete(leaf, i, 0), support)
        without = number(predict_task(model, rest, x, KEY), which)
        assert why.left_out[i] == pytest.approx(why.prediction - without, rel=1e-3, abs=2e-4)
    assert why.unexplained == pytest.approx(why.prediction - why.baseline - why.attribution.sum(), abs=1e-4)
    assert abs(why.unexplained) <= 0.02 * abs(why.prediction - why.baseline) + 1e-4
    average = jax.tree.map(lambda leaf: np.asarray(leaf).mean(0, keepdims=True), support.x)
    assert why.baseline == pytest.approx(number(predict_task(model, support, average, KEY), which), rel=1e-4, abs=1e-4)
    for trace in (why.growth, why.steps):
        assert len(trace.at) == len(trace.predictions) == len(trace.errors)
        if len(trace.at):
            assert trace.predictions[-1] == pytest.approx(why.prediction, rel=1e-4, abs=1e-4)
            assert trace.predictions[0] == pytest.approx(why.growth.predictions[0], rel=1e-4, abs=1e-4)
    assert np.isnan(why.influence).all() != why.is_smooth
    assert json.loads(json.dumps(why.to_table(), allow_nan=False))["about"] == why.about
    return why


@pytest.mark.parametrize("kind", kinds(learners))
def test_every_learner_can_be_explained(kind):
    learner = learner_of(kind)
    try:
        model = learned(learner, TABLE)
    except ModelError as error:
        pytest.skip(f"{kind} takes no tables: {error}")
    why = check(model, samples(TABLE), query(TABLE))
    assert why.features == ("size", "molecule", "solvent", "dose")
    assert len(why.steps.at) == (learner.inner_steps + 1 if hasattr(learner, "inner_steps") else 0)


@pytest.mark.parametrize("learner", [Maml(Mlp((6,), "tanh"), 3, 0.1), Dkt(Mlp((6,), "tanh"))], ids=["maml", "dkt"])
def test_a_class_is_explained_by_its_probability(learner):
    why = check(learned(learner, CLASSES), samples(CLASSES), query(CLASSES))
    assert why.about in ("probability of toxic = no", "probability of toxic = yes")
    assert 0 < why.prediction < 1


def test_one_step_of_a_linear_model_in_closed_form():
    rate = 0.1
    model = learned(Maml(Mlp(()), inner_steps=1, inner_rate=rate), RAW)
    support, x = samples(RAW), query(RAW)
    why = check(model, support, x)
    ones = np.ones((K, 1))
    design, at = np.hstack([support.x, ones]), np.append(x[0], 1)
    theta = np.append(model.prior.params["head/weight"][:, 0], model.prior.params["head/bias"])
    slopes = 2 * (design @ theta - (support.y - 10) / 2)[:, None] * design
    moved = -rate * (slopes - slopes.mean(0)) @ at / K
    assert why.is_smooth
    np.testing.assert_allclose(why.influence, 2 * moved, rtol=1e-3, atol=1e-5)
    fitted = theta - rate * slopes.mean(0)
    np.testing.assert_allclose(why.attribution, 2 * fitted[:2] * (x[0] - support.x.mean(0)), rtol=1e-3, atol=1e-5)
    assert why.about == "heat (W)"
    assert why.features == ("x[0]", "x[1]")


def test_the_only_sample_has_the_slope_that_it_has_while_it_is_less_than_one():
    model, support = learned(Maml(Mlp(()), inner_steps=1, inner_rate=0.1), RAW), samples(RAW, 1)
    why = explain(model, support, query(RAW), KEY)
    np.testing.assert_allclose(why.influence, why.left_out, rtol=1e-4)  # one step from the prior is linear in it


@dataclass(frozen=True)
class Average(Learner):
    """A double that says the mean label; its mask is a weight, or whatever `rounds` makes of it."""

    rounds: bool = False

    def init(self, spec, key):
        return Prior({"w": np.zeros(1, np.float32)})

    def length(self, prior):
        return 1

    def adapt(self, prior, support, key, start=None):
        mask = jnp.where(support.mask > 0, 1.0, 0.0) if self.rounds else support.mask
        return (mask * support.y).sum() / jnp.maximum(mask.sum(), 1e-6)

    def predict(self, prior, adapted, x, key):
        mean = adapted + jnp.abs(x[:, 0]) ** 3
        return Gaussian(mean, jnp.ones_like(mean))

    def contribute(self, prior, tasks, memory, key):
        raise NotImplementedError

    def apply(self, prior, mean, key):
        raise NotImplementedError


def test_a_mask_that_is_no_weight_is_found_out():
    support, x = samples(RAW), query(RAW)
    y = support.y.astype(np.float64)
    without = np.array([np.delete(y, i).mean() for i in range(K)])
    for rounds in (False, True):
        why = check(LearnedPrior(Average(rounds), Average().init(RAW, KEY), RAW), support, x)
        np.testing.assert_allclose(why.left_out, y.mean() - without, rtol=1e-4)
        assert why.is_smooth != rounds
        if not rounds:
            np.testing.assert_allclose(why.influence, (y - y.mean()) / K, rtol=1e-3, atol=1e-5)


def test_attributions_start_from_the_baseline_that_is_asked_for():
    model = LearnedPrior(Average(), Average().init(RAW, KEY), RAW)
    x, baseline = np.array([[2.0, 5.0]], np.float32), np.array([[-1.0, 0.0]], np.float32)
    why = explain(model, samples(RAW), x, KEY, baseline=baseline)
    np.testing.assert_allclose(why.attribution, [2 * (8 - 1), 0], rtol=1e-3, atol=1e-6)
    assert why.prediction - why.baseline == pytest.approx(14, rel=1e-4)


def test_a_column_of_a_table_has_all_its_slots():
    network = Mlp((), counts="raw")
    model = learned(Maml(network, inner_steps=1, inner_rate=1e-9), TABLE)
    support, x = samples(TABLE), query(TABLE)
    why = explain(model, support, x, KEY)
    weight = model.prior.params["head/weight"][:, 0]
    by = [leaf[0] - np.asarray(known).mean(0) for leaf, known in zip(x, support.x)]
    values, present, counts = (part * w for part, w in zip(by, np.split(weight, [4, 8])))
    expected = present + np.array([values[0], counts.sum(), values[1:3].sum(), values[3]])
    np.testing.assert_allclose(why.attribution, expected, rtol=1e-3, atol=1e-5)


def test_the_trace_is_that_of_fewer_steps_and_of_fewer_samples():
    learner = Maml(Mlp((6,), "tanh"), inner_steps=4, inner_rate=0.1)
    model, support, x = learned(learner, RAW), samples(RAW), query(RAW)
    why = explain(model, support, x, KEY, samples=("a", "b", "c", "d"))
    for count in (1, 2, 3, 4):
        shorter = LearnedPrior(dataclasses.replace(learner, inner_steps=count), model.prior, RAW)
        assert why.steps.predictions[count] == pytest.approx(number(predict_task(shorter, support, x, KEY)), rel=1e-5)
        fewer = jax.tree.map(lambda leaf, n=count: leaf[:n], support)
        assert why.growth.predictions[count] == pytest.approx(number(predict_task(model, fewer, x, KEY)), rel=1e-5)
    known = predict_task(model, support, support.x, KEY).mean
    assert why.steps.errors[-1] == pytest.approx(float(np.sqrt(((known - support.y) ** 2).mean())), rel=1e-4)
    assert (np.diff(why.steps.errors) < 0).all()
    assert why.samples == ("a", "b", "c", "d")


def test_what_cannot_be_explained_is_one_sentence():
    model, support, x = learned(Maml(Mlp(())), RAW), samples(RAW), query(RAW)
    with pytest.raises(DataError, match="x holds 4 samples"):
        explain(model, support, support.x, KEY)
    with pytest.raises(DataError, match="the support is empty"):
        explain(model, support._replace(mask=np.zeros_like(support.mask)), x, KEY)
    with pytest.raises(DataError, match="samples names 1 rows, but the support has 4"):
        explain(model, support, x, KEY, samples=("a",))
    with pytest.raises(ModelError, match="x: expected samples of shape"):
        explain(model, support, x[:, :1], KEY)
