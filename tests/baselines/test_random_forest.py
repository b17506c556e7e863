import jax
import numpy as np
from sklearn.ensemble import RandomForestRegressor

from commonprior.baselines._features import flat
from commonprior.baselines.random_forest import RandomForest
from commonprior.predictor import predict_tasks
from commonprior.task import standardise


def test_it_is_scikit_learn_s_forest_and_its_variance_the_trees(spec, pool, episodes):
    tasks, keys = episodes([pool("t"), pool("u")], 20)
    (predictor,) = RandomForest(trees=30, floor=0.01).prepare(spec, {}, 0).values()
    got = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
    x, y = flat(tasks.support.x)[1], tasks.support.y[1].astype(float)
    labels = standardise(tasks, spec.target)[0].support.y[1]
    seed = int(jax.random.key_data(keys)[1, -1])
    varying = np.ptp(x, axis=0) > 0
    forest = RandomForestRegressor(30, random_state=seed).fit(x[:, varying], labels)
    rows = flat(tasks.query.x)[1][:, varying]
    np.testing.assert_allclose(got.mean[1], forest.predict(rows) * y.std(ddof=1) + y.mean(), rtol=1e-4)
    spread = np.var([tree.predict(rows) for tree in forest.estimators_], axis=0)
    np.testing.assert_allclose(got.variance[1], (spread + 0.01) * y.var(ddof=1), rtol=1e-4)


def test_no_class_is_impossible(class_spec, pool, episodes):
    tasks, keys = episodes([pool("t", classes=2)], 6)
    tasks.support.y[:] = 1
    (predictor,) = RandomForest(trees=10).prepare(class_spec, {}, 0).values()
    logits = predict_tasks(predictor, tasks.support, tasks.query.x, keys).logits
    np.testing.assert_allclose(np.exp(logits), np.broadcast_to([1 / 12, 11 / 12], logits.shape), rtol=1e-6)
