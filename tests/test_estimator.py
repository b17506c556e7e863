import logging
import pickle

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from commonprior import estimator
from commonprior.errors import DataError, ModelError, RunError
from commonprior.estimator import FewShotClassifier, FewShotRegressor
from commonprior.learners.dkt import Dkt
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior, predict_task
from commonprior.sampling import learning_key
from commonprior.task import Batch, Column, Target, TaskSpec
from commonprior.tasks.table import encode_rows, fit_scaler

NUMERIC = (Column("width"), Column("height"), Column("depth", centre=0.0, spread=2.0))
MIXED = (Column("width"), Column("colour", "categorical", slots=2, categories=("red", "blue")))
CLASSES = Target(kind="classification", classes=("good", "bad", "ugly"))


def learned(columns=NUMERIC, target=None, learner=None, shape=()):
    learner = learner or Maml(Mlp(widths=(8,)), inner_steps=3, inner_rate=0.1)
    spec = TaskSpec(target or Target(), columns, shape)
    return LearnedPrior(learner, learner.init(spec, jax.random.key(0)), spec)


def samples(n=7, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, 30 * X[:, 0] + 100


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "commonprior.estimator")


def own_checks():
    for model in (FewShotRegressor(), FewShotClassifier()):
        for own, check in estimator_checks_generator(model, legacy=True):
            # Skips itself unless SciPy was imported for arrays of other libraries, which we do not claim to take.
            if check.func.__name__ != "check_array_api_input":
                yield pytest.param(own, check, id=f"{type(model).__name__}-{check.func.__name__}")


@pytest.mark.parametrize(("model", "check"), list(own_checks()))
def test_scikit_learn_s_own_checks(model, check):
    """Not one of them is expected to fail."""
    check(model)


def test_a_prior_predicts_as_its_learner_does():
    X, y = samples()
    new, _ = samples(5, seed=1)
    prior = learned()
    mean, std = FewShotRegressor(prior).fit(X, y).predict(new, return_std=True)
    tables = [pd.DataFrame(rows, columns=["width", "height", "depth"]) for rows in (X, new)]
    scaler = fit_scaler(tables[0], prior.spec, "X")
    x, queries = (encode_rows(table, prior.spec, "X", scaler) for table in tables)
    support = Batch(x, y, np.ones(len(y), np.float32))
    expected = predict_task(prior, support, queries, learning_key(0, "any"))
    np.testing.assert_allclose(mean, expected.mean, rtol=1e-4)
    np.testing.assert_allclose(std, np.sqrt(expected.variance), rtol=1e-4)


def test_one_sample_is_enough():
    X, y = samples(1)
    for prior in (None, learned()):
        mean, std = FewShotRegressor(prior).fit(X, y).predict(samples(3)[0], return_std=True)
        assert np.isfinite(mean).all()
        assert (std > 0).all()


def test_frames_are_matched_by_name_and_arrays_by_order():
    X, y = samples()
    frame = pd.DataFrame(X, columns=["width", "height", "depth"])
    prior = learned()
    expected = FewShotRegressor(prior).fit(X, y).predict(X)
    turned = frame[["depth", "width", "height"]].assign(operator="Ada")
    np.testing.assert_allclose(FewShotRegressor(prior).fit(turned, y).predict(turned), expected, rtol=1e-6)


def test_an_unknown_value_is_nan_or_a_column_that_is_not_there():
    X, y = samples()
    X[:, 1] = np.nan
    prior = learned()
    expected = FewShotRegressor(prior).fit(X, y).predict(X)
    frame = pd.DataFrame(X[:, [0, 2]], columns=["width", "depth"])
    np.testing.assert_allclose(FewShotRegressor(prior).fit(frame, y).predict(frame), expected, rtol=1e-6)
    X[0, 0] = np.nan
    assert np.isfinite(FewShotRegressor().fit(X, y).predict(X)).all()


def test_text_columns_come_in_a_frame():
    frame = pd.DataFrame({"width": [1.0, 2.0, 3.0, 4.0], "colour": ["red", "blue", "red", "blue"]})
    model = FewShotRegressor(learned(MIXED)).fit(frame, [1.0, 5.0, 2.0, 6.0])
    assert model.predict(frame).shape == (4,)
    with pytest.raises(DataError, match=r"X is an array, but the prior's column 'colour' is no number \(categorical\)"):
        FewShotRegressor(learned(MIXED)).fit([[1.0, 2.0]], [1.0])
    with pytest.raises(DataError, match="row 1, column 'colour': found 'green', expected one of 'red', 'blue'"):
        model.predict(frame.replace({"blue": "green"}))


def test_raw_inputs_keep_their_shape():
    X = np.random.default_rng(0).normal(size=(6, 2, 3))
    prior = learned((), shape=(2, 3))
    model = FewShotRegressor(prior).fit(X, X[:, 0, 0])
    np.testing.assert_allclose(model.predict(X.reshape(6, 6)), model.predict(X))
    with pytest.raises(DataError, match=r"X has 5 numbers a sample, but the prior expects samples of shape \(2, 3\)"):
        FewShotRegressor(prior).fit(np.zeros((4, 5)), np.zeros(4))
    X[2, 1, 1] = np.nan
    with pytest.raises(DataError, match="X, row 2: NaN in a raw input"):
        model.predict(X)


def test_what_does_not_fit_is_one_sentence(tmp_path):
    X, y = samples()
    with pytest.raises(DataError, match="X has 2 columns, but the prior expects 3: width, height, depth"):
        FewShotRegressor(learned()).fit(X[:, :2], y)
    with pytest.raises(ValueError, match="X has 2 features, but FewShotRegressor is expecting 3"):
        FewShotRegressor(learned()).fit(X, y).predict(X[:, :2])
    with pytest.raises(ModelError, match="the prior is for classification, not regression"):
        FewShotRegressor(learned(target=CLASSES)).fit(X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        FewShotRegressor(learned()).fit(X, y[:3])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        FewShotRegressor(learned()).fit(X, np.full(7, np.nan))
    with pytest.raises(NotFittedError):
        FewShotRegressor(learned()).predict(X)
    with pytest.raises(RunError, match="no run here"):
        FewShotRegressor(str(tmp_path)).fit(X, y)


def test_a_path_is_a_run(monkeypatch, tmp_path):
    prior, asked = learned(), []
    monkeypatch.setattr(estimator, "load_run", lambda path: asked.append(path) or prior)
    X, y = samples()
    model = FewShotRegressor(tmp_path / "run").fit(X, y)
    assert asked == [tmp_path / "run"]
    np.testing.assert_array_equal(model.predict(X), FewShotRegressor(prior).fit(X, y).predict(X))


def test_without_a_prior_it_says_so(caplog):
    caplog.set_level(logging.WARNING, "commonprior.estimator")
    X, y = samples()
    assert FewShotRegressor().fit(X, y).fallback_
    assert "no prior given: FewShotRegressor falls back on a Gaussian process of this one task" in caplog.text
    caplog.clear()
    assert not FewShotRegressor(learned()).fit(X, y).fallback_
    assert not caplog.text


def test_it_works_in_pipelines_and_searches():
    X, y = samples(40)
    scores = cross_val_score(make_pipeline(StandardScaler(), FewShotRegressor()), X, y, cv=4)
    assert (scores > 0.9).all()
    priors = [learned(), learned(learner=Dkt(Mlp(widths=(8,))))]
    search = GridSearchCV(FewShotRegressor(), {"prior": priors}, cv=3).fit(X, y)
    assert search.best_params_["prior"] in priors
    assert search.best_score_ > 0.5


def test_it_can_be_cloned_and_sent():
    X, y = samples()
    model = FewShotRegressor(learned()).fit(X, y)
    sent = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(sent.predict(X), model.predict(X))
    np.testing.assert_array_equal(clone(model).fit(X, y).predict(X), model.predict(X))
    assert clone(model).prior is model.prior


def test_partial_fit_goes_on_from_where_it_was():
    X, y = samples(12)
    prior = learned()
    model = FewShotRegressor(prior).partial_fit(X[:5], y[:5])
    first = model.adapted_
    np.testing.assert_array_equal(model.predict(X), FewShotRegressor(prior).fit(X[:5], y[:5]).predict(X))
    before = np.abs(model.predict(X) - y).mean()
    for _ in range(20):
        model.partial_fit(X[5:], y[5:])
    np.testing.assert_array_equal(model.adapted_.scale.centre, first.scale.centre)
    assert np.abs(model.predict(X) - y).mean() < 0.5 * before
    assert np.abs(model.fit(X[:5], y[:5]).predict(X) - y).mean() == pytest.approx(before)


def test_a_process_goes_on_with_all_samples_seen():
    X, y = samples(12)
    model = FewShotRegressor(learned(learner=Dkt(Mlp(widths=(8,))))).fit(X[:4], y[:4]).partial_fit(X[4:], y[4:])
    assert len(model.adapted_.state.support.y[0]) == 4 + 8
    fallback = FewShotRegressor().partial_fit(X[:4], y[:4]).partial_fit(X[4:], y[4:])
    np.testing.assert_allclose(fallback.predict(X), FewShotRegressor().fit(X, y).predict(X))


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("good", "bad"), np.array(["good", "bad"])), (("good", "bad"), np.array(["good", "bad"], object)),
        (("1", "0"), np.array([1, 0])), (("0", "1"), np.array([0.0, 1.0])), (("0", "1"), np.array([False, True])),
        (("10", "9"), np.array([10, 9])),
    ],
)  # fmt: skip
def test_classes_are_the_prior_s_in_the_type_of_the_labels(names, labels):
    X, values = samples(20)
    y = labels[(values > 100).astype(int)]
    prior = learned(target=Target(kind="classification", classes=names))
    model = FewShotClassifier(prior).fit(X, y)
    assert list(model.classes_) == sorted(labels.tolist())
    assert model.classes_.dtype == labels.dtype
    for _ in range(30):
        model.partial_fit(X, y)
    assert (model.predict(X) == y).mean() > 0.85
    chosen = model.predict_proba(X)[np.arange(20), [list(model.classes_).index(label) for label in y]]
    assert chosen.mean() > 0.6
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)


def test_a_class_that_the_samples_lack_is_still_the_prior_s():
    X, values = samples()
    y = np.where(values > 100, "good", "ugly")
    model = FewShotClassifier(learned(target=CLASSES)).fit(X, y)
    assert list(model.classes_) == ["bad", "good", "ugly"]
    assert model.predict_proba(X).shape == (7, 3)
    with pytest.raises(DataError, match="row 0, column 'y': found 'awful', expected one of the classes 'good', 'bad'"):
        model.fit(X, np.full(7, "awful"))
    with pytest.raises(DataError, match="y holds int64 labels, but the prior's classes are 'good', 'bad', 'ugly'"):
        model.fit(X, np.arange(7) % 2)


def test_classes_to_come_can_be_named():
    X, values = samples(20)
    y = (values > 100).astype(int)
    model = FewShotClassifier().partial_fit(X[:10], y[:10], classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (20, 3)
    model.partial_fit(X[10:], np.where(y[10:], 2, 0))
    assert list(model.classes_) == [0, 1, 2]


def test_random_state_is_the_only_chance():
    X, y = samples()
    one, same = (FewShotRegressor(learned(), random_state=5).fit(X, y) for _ in range(2))
    assert one.seed_ == same.seed_ != FewShotRegressor(learned(), random_state=6).fit(X, y).seed_
