"""A prior as scikit-learn estimators: `FewShotRegressor(prior).fit(X, y).predict(X, return_std=True)`.

X is a DataFrame whose columns are matched by name to those the prior was learned on (a column it lacks is unknown), or,
where all of these are numeric, an array [n, columns] in their order; NaN is unknown. Raw inputs (no columns) are arrays
[n, ...] or, flattened, [n, numbers].
"""

from __future__ import annotations

import abc
import logging
import math
from pathlib import Path
from typing import Any, ClassVar, Self, cast, final

import jax
import numpy as np
import pandas as pd
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_is_fitted, validate_data

from commonprior.baselines.single_task_gp import SingleTaskGp
from commonprior.errors import DataError, ModelError
from commonprior.loading import load_run
from commonprior.predictor import LearnedPrior
from commonprior.sampling import learning_key
from commonprior.task import Array, Batch, Categorical, Column, Gaussian, Prediction, Target, TaskSpec
from commonprior.tasks.table import encode_rows, fit_scaler, read_labels

_LOG = logging.getLogger(__name__)


class _FewShot(BaseEstimator, abc.ABC):
    """What both estimators do alike."""

    _kind: ClassVar[str]

    prior: LearnedPrior | str | Path | None
    random_state: int | np.random.RandomState | None

    @abc.abstractmethod
    def _target(self, y: np.ndarray, known: Any) -> Target:
        """Learn from labels what they are, `known` classes included; return the target where no prior has one."""

    @abc.abstractmethod
    def _numbers(self, y: np.ndarray) -> np.ndarray:
        """Return labels [n] as a learner takes them."""

    def fit(self, X: Any, y: Any) -> Self:
        """Adapt to the samples X [n, ...] and their labels y [n], from one sample up; forgets any earlier fit.

        Numeric columns without public constants are scaled by these samples. Raises `DataError` or `ModelError` (or
        scikit-learn's own ValueError) in one sentence where X or y does not fit.
        """
        return self._fit(X, y, None)

    def _fit(self, X: Any, y: Any, known: Any) -> Self:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        self.prior_ = load_run(self.prior) if isinstance(self.prior, str | Path) else self.prior
        self.fallback_ = self.prior_ is None
        if self.prior_ is None:
            _LOG.warning("no prior given: %s falls back on a Gaussian process of this one task", type(self).__name__)
        elif self.prior_.spec.target.kind != self._kind:
            kind = self.prior_.spec.target.kind
            raise ModelError(f"{type(self).__name__}: the prior is for {kind}, not {self._kind}; take the other one")
        table = self._table(X, reset=True)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        return self._learn(table, self._labels(X, y), known)

    def _further(self, X: Any, y: Any, known: Any) -> Self:
        """Adapt from where the last call left off; without a prior, fit anew to all samples seen."""
        if not hasattr(self, "adapted_"):
            return self._fit(X, y, known)
        table, y = self._table(X, reset=False), self._labels(X, y)
        if isinstance(self.predictor_, LearnedPrior):
            support = jax.tree.map(lambda leaf: leaf[None], self._support(table, y))
            adapted = self.predictor_.adapt(support, self._key(), self.adapted_)
            self.adapted_ = jax.tree.map(np.asarray, adapted)
            return self
        tables, labels = self.seen_
        return self._learn(pd.concat([tables, table], ignore_index=True), np.concatenate([labels, y]), known)

    def _learn(self, table: Any, y: np.ndarray, known: Any) -> Self:
        target = self._target(y, known)
        if self.prior_ is None:
            self.spec_ = TaskSpec(target, tuple(Column(name) for name in table.columns))
            (self.predictor_,) = SingleTaskGp().prepare(self.spec_, {}, self.seed_).values()
            self.seen_ = (table, y)
        else:
            self.spec_, self.predictor_ = self.prior_.spec, self.prior_
        self.scaler_ = fit_scaler(table, self.spec_, "X") if self.spec_.columns else None
        support = jax.tree.map(lambda leaf: leaf[None], self._support(table, y))
        self.adapted_ = jax.tree.map(np.asarray, self.predictor_.adapt(support, self._key()))
        return self

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that NaN is allowed: it is an unknown value."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _support(self, table: Any, y: np.ndarray) -> Batch:
        length = _padded(len(y))
        labels = self._numbers(y)
        padding = (0, length - len(y))
        return Batch(
            self._encoded(table, length), np.pad(labels, padding), np.pad(np.ones(len(y), np.float32), padding)
        )

    def _predict(self, X: Any) -> Prediction:
        check_is_fitted(self)
        table = self._table(X, reset=False)
        x = jax.tree.map(lambda leaf: leaf[None], self._encoded(table, _padded(len(table))))
        prediction = self.predictor_.predict(self.adapted_, x, self._key())
        return jax.tree.map(lambda leaf: np.asarray(leaf[0, : len(table)], np.float64), prediction)

    def _key(self) -> Array:
        return learning_key(self.seed_, "estimator")[None]

    def _labels(self, X: Any, y: Any) -> np.ndarray:
        y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        if y.dtype.kind in "fc":
            assert_all_finite(y, input_name="y")
        return y

    def _table(self, X: Any, reset: bool) -> Any:
        """Return X as a frame with the prior's columns, or as an array of raw inputs."""
        spec = self.prior_.spec if self.prior_ else None
        if spec is not None and spec.columns and isinstance(X, pd.DataFrame):
            validate_data(self, cast(Any, X), reset=reset, skip_check_array=True)
            return X
        if spec is not None and not spec.columns and np.ndim(X) > 2:
            X = np.reshape(X, (len(X), -1))
        X = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")
        if spec is None:
            return pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
        return _named(X, spec) if spec.columns else _shaped(X, spec)

    def _encoded(self, table: Any, length: int) -> Array:
        """Return inputs [length, ...], padded: jit compiles once for each power of two, not for every n."""
        spec = self.spec_
        x = encode_rows(table, spec, "X", self.scaler_) if spec.columns else np.asarray(table, np.float32)
        return jax.tree.map(lambda leaf: np.pad(leaf, [(0, length - len(leaf))] + [(0, 0)] * (leaf.ndim - 1)), x)


@final
class FewShotRegressor(RegressorMixin, _FewShot):
    """A regressor that a prior lets learn from a few samples, with a standard deviation for every prediction.

    `prior` is what `commonprior.train` returns, or the path of a run folder; without one, `fallback_` is True and a
    Gaussian process is fitted to the samples alone. Labels are in the prior's own unit, and already logarithms where
    its target says `transform = "log10"`; predictions come back as they do.
    """

    _kind = "regression"

    def __init__(
        self,
        prior: LearnedPrior | str | Path | None = None,
        *,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.prior = prior
        self.random_state = random_state

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return means [n], or (means, standard deviations)."""
        prediction = self._predict(X)
        if not isinstance(prediction, Gaussian):
            raise ModelError("the prior's learner predicts classes, not numbers")
        return (prediction.mean, np.sqrt(prediction.variance)) if return_std else prediction.mean

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Adapt further to new samples.

        Scales stay those of the first samples; without a prior, all samples seen are fitted.
        """
        return self._further(X, y, None)

    def _target(self, y: np.ndarray, known: Any) -> Target:
        return Target()

    def _numbers(self, y: np.ndarray) -> np.ndarray:
        return np.asarray(y, np.float64)


@final
class FewShotClassifier(ClassifierMixin, _FewShot):
    """A classifier that a prior lets learn from a few samples.

    `prior` is what `commonprior.train` returns, or the path of a run folder; then `classes_` are the prior's, and
    labels are their names. Without one, `fallback_` is True and a Gaussian process is fitted to the samples alone.
    """

    _kind = "classification"

    def __init__(
        self,
        prior: LearnedPrior | str | Path | None = None,
        *,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.prior = prior
        self.random_state = random_state

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Adapt further to new samples; without a prior, `classes` of the first call may name all that are to come.

        Scales stay those of the first samples; without a prior, all samples seen are fitted.
        """
        return self._further(X, y, getattr(self, "classes_", classes))

    def predict(self, X: Any) -> np.ndarray:
        """Return the likeliest class [n] of each sample."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities [n, k], in the order of `classes_`."""
        prediction = self._predict(X)
        if not isinstance(prediction, Categorical):
            raise ModelError("the prior's learner predicts numbers, not classes")
        return special.softmax(prediction.logits, axis=1)[:, self.order_]

    def _target(self, y: np.ndarray, known: Any) -> Target:
        check_classification_targets(y)
        if self.prior_ is not None:
            target = self.prior_.spec.target
            names = _as_given(target.classes, y)
        else:
            names = np.unique(y) if known is None else np.union1d(y, known)
            target = Target(kind="classification", classes=tuple(map(str, range(len(names)))))
        self.order_ = np.argsort(names)
        self.classes_ = names[self.order_]
        return target

    def _numbers(self, y: np.ndarray) -> np.ndarray:
        if self.prior_ is None:
            return np.searchsorted(self.classes_, y).astype(np.int32)
        return read_labels(pd.DataFrame({self.spec_.target.name: y}), self.spec_, "y")


def _as_given(names: tuple[str, ...], y: np.ndarray) -> np.ndarray:
    """Return class names [k] in the type of the labels y: numbers or booleans where these are."""
    if y.dtype.kind not in "biuf":
        return np.array(names, dtype=y.dtype if y.dtype.kind == "O" else None)
    try:
        return np.array([float(name) for name in names]).astype(y.dtype)
    except ValueError:
        shown = ", ".join(map(repr, names[:12]))
        raise DataError(f"y holds {y.dtype} labels, but the prior's classes are {shown}; give their names") from None


def _padded(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def _named(X: np.ndarray, spec: TaskSpec) -> pd.DataFrame:
    """Return an array [n, columns] as a frame with the spec's columns."""
    names = [column.name for column in spec.columns]
    other = [column for column in spec.columns if column.kind != "numeric"]
    if other:
        raise DataError(
            f"X is an array, but the prior's column {other[0].name!r} is no number ({other[0].kind}); "
            f"give a DataFrame with the columns {', '.join(names)}"
        )
    if X.shape[1] != len(names):
        raise DataError(
            f"X has {X.shape[1]} columns, but the prior expects {len(names)}: {', '.join(names)}; "
            "give these in this order (NaN where unknown), or a DataFrame"
        )
    return pd.DataFrame(X, columns=names)


def _shaped(X: np.ndarray, spec: TaskSpec) -> np.ndarray:
    if X.shape[1] != math.prod(spec.shape):
        raise DataError(
            f"X has {X.shape[1]} numbers a sample, but the prior expects samples of shape {spec.shape}, "
            f"{math.prod(spec.shape)} numbers"
        )
    if np.isnan(X).any():
        raise DataError(f"X, row {int(np.isnan(X).any(1).argmax())}: NaN in a raw input; only tables may have unknowns")
    return X.reshape(len(X), *spec.shape)
