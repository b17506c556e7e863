"""What every baseline keeps, found by listing the folder."""

import jax
import numpy as np
import pytest

from commonprior import baselines, plugin
from commonprior.baselines import Baseline
from commonprior.errors import ModelError, RecipeError
from commonprior.networks.mlp import Mlp
from commonprior.predictor import predict_tasks
from commonprior.task import Batch, Column, Rows, Target, Task, TaskSpec

KINDS = plugin.kinds(baselines)
NEEDS = {"from_scratch": "network", "transfer": "network", "alone": "learner", "pooled": "learner"}
OWN = [kind for kind in KINDS if NEEDS.get(kind) != "learner"]
"""Those that bring their own way to learn; the others do what their learner does."""
LESS = {"transfer": {"pretrain_steps": 5}, "alone": {"rounds": 2}, "pooled": {"rounds": 2}}


def test_the_folder_holds_what_it_says():
    assert KINDS == ["alone", "from_scratch", "pooled", "random_forest", "single_task_gp", "transfer"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def prepared(kind, network, learner, spec, pool):
    """The predictors of one kind, for regression."""
    return make(kind, network, learner).prepare(spec, {"x": [pool("p"), pool("q")], "y": [pool("p", 2.0)]}, 0)


def make(kind, network, learner):
    given = {"network": network, "learner": learner}
    needs = {NEEDS[kind]: given[NEEDS[kind]]} if kind in NEEDS else {}
    return plugin.load(baselines, Baseline, kind)(**needs, **LESS.get(kind, {}))


def test_predictors_bear_the_baseline_s_name_or_the_sites(kind, prepared):
    assert set(prepared) == ({"x", "y"} if kind == "alone" else {kind})


@pytest.mark.parametrize("shots", [1, 6])
def test_predictions_are_finite_and_unsure(prepared, pool, episodes, shots):
    tasks, keys = episodes([pool("t"), pool("u", 0.0), pool("v", 5.0)], shots)
    for predictor in prepared.values():
        prediction = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
        assert prediction.mean.shape == prediction.variance.shape == (3, 30)
        assert np.isfinite(prediction.mean).all()
        assert (prediction.variance > 0).all()


def test_the_same_keys_predict_the_same(prepared, pool, episodes):
    tasks, keys = episodes([pool("t"), pool("u")], 6)
    for predictor in prepared.values():
        a, b = (predict_tasks(predictor, tasks.support, tasks.query.x, keys) for _ in range(2))
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_padded_rows_change_nothing(prepared, pool, episodes):
    tasks, keys = episodes([pool("t"), pool("u")], 6)
    pad = lambda leaf: np.concatenate([leaf, leaf[:, :3] * 7 + 1], 1)  # noqa: E731
    support = jax.tree.map(pad, tasks.support)
    support.mask[:, 6:] = 0
    for predictor in prepared.values():
        plain = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
        padded = predict_tasks(predictor, support, tasks.query.x, keys)
        np.testing.assert_allclose(padded.mean, plain.mean, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(padded.variance, plain.variance, rtol=1e-2)


def test_other_units_give_the_same_prediction_in_them(prepared, pool, episodes):
    tasks, keys = episodes([pool("t"), pool("u")], 6)
    scaled = tasks.support._replace(y=tasks.support.y * 1000)
    for predictor in prepared.values():
        plain = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
        large = predict_tasks(predictor, scaled, tasks.query.x, keys)
        np.testing.assert_allclose(large.mean, plain.mean * 1000, rtol=1e-3)
        np.testing.assert_allclose(large.variance, plain.variance * 1e6, rtol=1e-2)


def test_inputs_of_another_table_are_one_sentence(prepared, pool, episodes):
    tasks, keys = episodes([pool("t")], 6)
    x = tasks.query.x._replace(counts=tasks.query.x.counts[..., :5])
    for predictor in prepared.values():
        with pytest.raises(ModelError, match=r"x\.counts: expected samples of shape \(12,\)"):
            predict_tasks(predictor, tasks.support, x, keys)


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("shots", [2, 8])
def test_classes_are_predicted_even_where_the_support_lacks_one(kind, network, class_spec, pool, episodes, shots):
    one = pool("p", classes=2)
    (predictor,) = make(kind, network, None).prepare(class_spec, {"x": [one]}, 0).values()
    tasks, keys = episodes([one, one], shots)
    tasks.support.y[1] = 0
    prediction = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
    assert prediction.logits.shape == (2, 30, 2)
    assert np.isfinite(prediction.logits).all()


class Wave:
    """Raw inputs of shape [2, 3], of which one number is the label."""

    name, size = "wave", 60

    def episode(self, rng, shots, queries):
        def batch(n):
            x = rng.normal(size=(n, 2, 3)).astype(np.float32)
            return Batch(x, x[:, 0, 0].astype(np.float32), np.ones(n, np.float32))

        return Task(batch(shots), batch(queries))


@pytest.mark.parametrize("kind", OWN)
def test_raw_inputs_are_inputs_too(kind, network, learner, episodes):
    spec = TaskSpec(Target(), shape=(2, 3))
    (predictor,) = make(kind, Mlp(widths=(8,)), learner).prepare(spec, {"x": [Wave()]}, 0).values()
    tasks, keys = episodes([Wave()], 16)
    prediction = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
    assert np.isfinite(prediction.mean).all()
    assert np.corrcoef(prediction.mean[0], tasks.query.y[0])[0, 1] > 0


@pytest.mark.parametrize("kind", ["random_forest", "single_task_gp"])
def test_columns_of_one_kind_alone_will_do(kind, network, learner, pool, episodes):
    tasks, keys = episodes([pool("t")], 8)
    cut = lambda x: Rows(x.values[..., :0], x.present[..., 2:], x.counts)  # noqa: E731
    spec = TaskSpec(Target(), (Column("s", "smiles", slots=12),))
    (predictor,) = make(kind, network, learner).prepare(spec, {}, 0).values()
    support = tasks.support._replace(x=cut(tasks.support.x))
    assert np.isfinite(predict_tasks(predictor, support, cut(tasks.query.x), keys).mean).all()


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("from_scratch", "steps", 0), ("from_scratch", "rate", 0.0), ("from_scratch", "folds", 1),
        ("transfer", "pretrain_steps", 0), ("transfer", "rate", -1.0), ("random_forest", "trees", 0),
        ("random_forest", "floor", 0.0), ("single_task_gp", "steps", 0), ("single_task_gp", "rate", float("nan")),
        ("alone", "shots", 0), ("pooled", "rounds", 0),
    ],
)  # fmt: skip
def test_a_field_that_makes_no_sense_is_one_sentence(kind, field, value, network, learner):
    given = {NEEDS[kind]: {"network": network, "learner": learner}[NEEDS[kind]]} if kind in NEEDS else {}
    with pytest.raises(RecipeError, match=f"{field} = {value}: expected"):
        plugin.load(baselines, Baseline, kind)(**given, **{field: value})
