"""A random forest on the support's features (Breiman 2001; scikit-learn's implementation)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from commonprior.baselines import Baseline
from commonprior.baselines._checks import above, at_least
from commonprior.baselines._features import flat
from commonprior.predictor import Predictor, check_inputs
from commonprior.task import (
    Array,
    Batch,
    Categorical,
    Gaussian,
    Pool,
    Prediction,
    Scale,
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
    floor: float = 0.1

    def __post_init__(self) -> None:
        at_least(1, trees=self.trees)
        above(0, floor=self.floor)

    def prepare(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Mapping[str, Predictor]:
        """Look at no training task at all."""
        return {"random_forest": _Grower(self, spec)}


class _Forest(NamedTuple):
    """One task's forest, and the features that it has seen vary: no tree could split on another."""

    fitted: RandomForestRegressor | RandomForestClassifier
    varying: np.ndarray


class _Forests(NamedTuple):
    forests: list[_Forest]
    scale: Scale


@final
@dataclass(frozen=True, eq=False)
class _Grower(Predictor):
    baseline: RandomForest
    spec: TaskSpec

    def adapt(self, supports: Batch, keys: Array) -> _Forests:
        check_inputs(self.spec, supports.x, "support")
        task, scale = standardise(Task(supports, supports), self.spec.target)
        seeds = np.asarray(jax.random.key_data(keys))[:, -1]
        forests = []
        for x, y, mask, seed in zip(flat(supports.x), task.support.y, supports.mask, seeds, strict=True):
            rows = np.asarray(mask) > 0
            varying = np.ptp(x[rows], axis=0) > 0
            varying[0] |= not varying.any()
            kind = RandomForestRegressor if self.spec.target.kind == "regression" else RandomForestClassifier
            forest = kind(self.baseline.trees, random_state=int(seed))
            forests.append(_Forest(forest.fit(x[rows][:, varying], np.asarray(y)[rows]), varying))
        return _Forests(forests, scale)

    def predict(self, adapted: _Forests, x: Array, keys: Array) -> Prediction:
        check_inputs(self.spec, x, "x")
        each = [(forest.fitted, rows[:, forest.varying]) for forest, rows in zip(adapted.forests, flat(x), strict=True)]
        if self.spec.target.kind == "classification":
            return Categorical(np.stack([_log_votes(forest, rows, self.spec.outputs) for forest, rows in each]))
        # Each tree alone: the forest would only give their mean.
        votes = np.stack([[tree.predict(rows) for tree in forest.estimators_] for forest, rows in each])
        return unscale(Gaussian(votes.mean(1), votes.var(1) + self.baseline.floor), adapted.scale)


def _log_votes(forest: Any, x: np.ndarray, classes: int) -> np.ndarray:
    """Return log shares of votes [n, classes], with one more vote for every class: none is ever impossible."""
    votes = np.ones((len(x), classes))
    votes[:, np.asarray(forest.classes_, int)] += forest.predict_proba(x) * len(forest.estimators_)
    return np.log(votes / votes.sum(1, keepdims=True))
