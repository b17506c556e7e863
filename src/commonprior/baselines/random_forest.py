"""A random forest on the support's features (Breiman 2001; scikit-learn's implementation)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import jax
import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from commonprior.baselines import Baseline
from commonprior.baselines._checks import above, at_least
from commonprior.baselines._features import flat
from commonprior.predictor import Predictor
from commonprior.task import (
    Array,
    Batch,
    Categorical,
    Gaussian,
    Pool,
    Prediction,
    Scale,
    Target,
    Task,
    TaskSpec,
    standardise,
    unscale,
)


@final
@dataclass(frozen=True)
class RandomForest(Baseline):
    """`trees` trees grown to the end. The variance is that between trees, plus `floor` of the labels' own variance."""

    trees: int = 100
    floor: float = 0.05

    def __post_init__(self) -> None:
        at_least(1, trees=self.trees)
        above(0, floor=self.floor)

    def prepare(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Mapping[str, Predictor]:
        """Look at no training task at all."""
        return {"random_forest": _Forests(self, spec.target)}


class _Grown(NamedTuple):
    forests: list[RandomForestRegressor | RandomForestClassifier]
    scale: Scale


@final
@dataclass(frozen=True, eq=False)
class _Forests(Predictor):
    baseline: RandomForest
    target: Target

    def adapt(self, supports: Batch, keys: Array) -> _Grown:
        task, scale = standardise(Task(supports, supports), self.target)
        features = flat(supports.x)
        seeds = np.asarray(jax.random.key_data(keys))[:, -1]
        forests = []
        for x, y, mask, seed in zip(features, task.support.y, supports.mask, seeds, strict=True):
            rows = np.asarray(mask) > 0
            kind = RandomForestRegressor if self.target.kind == "regression" else RandomForestClassifier
            forest = kind(self.baseline.trees, random_state=int(seed))
            forests.append(forest.fit(x[rows], np.asarray(y)[rows]))
        return _Grown(forests, scale)

    def predict(self, adapted: _Grown, x: Array, keys: Array) -> Prediction:
        features = flat(x)
        if self.target.kind == "classification":
            classes = len(self.target.classes)
            logits = [_log_votes(f, rows, classes) for f, rows in zip(adapted.forests, features, strict=True)]
            return Categorical(np.stack(logits))
        # Each tree alone: the forest would only give their mean.
        votes = np.stack([
            [tree.predict(rows) for tree in forest.estimators_]
            for forest, rows in zip(adapted.forests, features, strict=True)
        ])  # fmt: skip
        return unscale(Gaussian(votes.mean(1), votes.var(1) + self.baseline.floor), adapted.scale)


def _log_votes(forest: RandomForestClassifier, x: np.ndarray, classes: int) -> np.ndarray:
    """Return log shares of votes [n, classes], with one more vote for every class: none is ever impossible."""
    votes = np.ones((len(x), classes))
    votes[:, forest.classes_.astype(int)] += forest.predict_proba(x) * len(forest.estimators_)
    return np.log(votes / votes.sum(1, keepdims=True))
