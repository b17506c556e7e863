"""From a support to a prediction: what every contestant is, and the one that a learner and its prior make.

A `Predictor` works on t stacked, padded tasks at once (leaves [t, ...]): a learner under one jit(vmap), a random
forest in a loop; whoever asks need not know which. Labels and predictions are in the user's units, and everyone
standardises by the support alone (`task.standardise`).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import jax
import numpy as np

from commonprior.errors import ModelError
from commonprior.learners import Learner
from commonprior.prior import Prior
from commonprior.task import Array, Batch, Gaussian, Prediction, Scale, Target, Task, TaskSpec, standardise, unscale

MEMORY = 64 << 20
"""Bytes of inputs that are adapted to at once. What a learner makes of them is a small multiple."""


class Predictor(abc.ABC):
    """Something that learns t tasks from their supports, and then predicts."""

    @abc.abstractmethod
    def adapt(self, supports: Batch, keys: Array) -> Any:
        """Learn from supports [t, k, ...] with labels in the user's units and keys [t]; padded rows change nothing."""

    @abc.abstractmethod
    def predict(self, adapted: Any, x: Array, keys: Array) -> Prediction:
        """Return predictions [t, n] in the user's units for what `adapt` returned and inputs x [t, n, ...]."""


class Adaptation(NamedTuple):
    """What a learner knows of t tasks: its own state (leaves [t, ...]) and the scale of their labels [t]."""

    state: Array
    scale: Scale


@final
@dataclass(frozen=True, eq=False)
class LearnedPrior(Predictor):
    """A learner, the prior that it learned, and the tasks that it is for: what a run leaves behind.

    Predicted standard deviations are multiplied by `widening`, which a survey may have found (`surveys.calibration`).
    """

    learner: Learner
    prior: Prior
    spec: TaskSpec
    widening: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.widening < math.inf:
            raise ModelError(f"widening = {self.widening}: expected a number above 0")
        # Plain dicts of plain arrays: jax flattens them, and scikit-learn's workers can send them to each other.
        params, state = ({k: np.asarray(v) for k, v in group.items()} for group in self.prior)
        object.__setattr__(self, "prior", Prior(params, state))

    def __deepcopy__(self, memo: dict[int, Any]) -> LearnedPrior:
        return self  # nothing here changes, and `sklearn.clone` copies an estimator's parameters for every fold

    def adapt(self, supports: Batch, keys: Array, start: Adaptation | None = None) -> Adaptation:
        """Adapt to supports [t, k, ...]; `start` is an earlier result to go on from, whose scale is kept."""
        check_inputs(self.spec, supports.x, "support")
        if start is None:
            task, scale = standardise(Task(supports, supports), self.spec.target)
            return Adaptation(_adapt(self.learner, self.prior, task.support, keys), scale)
        supports = _rescale(supports, start.scale, self.spec.target)
        return Adaptation(_go_on(self.learner, self.prior, supports, keys, start.state), start.scale)

    def predict(self, adapted: Adaptation, x: Array, keys: Array) -> Prediction:
        """Return numpy predictions [t, n] in the user's units."""
        check_inputs(self.spec, x, "x")
        prediction = _predict(self.learner, self.prior, adapted.state, x, keys)
        return self.widened(unscale(jax.tree.map(np.asarray, prediction), adapted.scale))

    def widened(self, prediction: Prediction) -> Prediction:
        """Return a prediction with its standard deviations multiplied by `widening`; classes have none."""
        if self.widening == 1 or not isinstance(prediction, Gaussian):
            return prediction
        return prediction._replace(variance=prediction.variance * np.float32(self.widening**2))


def predict_tasks(predictor: Predictor, supports: Batch, x: Array, keys: Array, memory: int = MEMORY) -> Prediction:
    """Adapt to supports [t, k, ...] and predict x [t, n, ...], some tasks at a time.

    A chunk's inputs take at most `memory` bytes (or one task), whatever t is.
    """
    total = len(supports.y)
    each = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves((supports, x))) / max(total, 1)
    parts = []
    for rows, new in spans(total, max(1, int(memory // max(each, 1)))):
        chunk, inputs = jax.tree.map(lambda leaf, rows=rows: leaf[rows], (supports, x))
        adapted = predictor.adapt(chunk, keys[rows])
        prediction = predictor.predict(adapted, inputs, keys[rows])
        parts.append(jax.tree.map(lambda leaf, new=new: np.asarray(leaf)[new:], prediction))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def predict_task(predictor: Predictor, support: Batch, x: Array, key: Array) -> Prediction:
    """Adapt to one support [k, ...] and predict x [n, ...]; in the user's units."""
    support, x = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (support, x))
    return jax.tree.map(lambda leaf: leaf[0], predict_tasks(predictor, support, x, key[None]))


def check_inputs(spec: TaskSpec, x: Array, where: str) -> None:
    """Raise `ModelError` where inputs [t, n, ...] are not made as `spec` says."""
    example = spec.example()
    if jax.tree.structure(x) != jax.tree.structure(example):
        raise ModelError(
            f"{where}: expected {type(example).__name__} inputs, got {type(x).__name__}; "
            "encode the samples as the tasks' spec says"
        )
    for (path, leaf), expected in zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(example), strict=True):
        got, wanted = np.shape(leaf)[2:], np.shape(expected)[1:]
        if got != wanted or np.ndim(leaf) < 2:
            raise ModelError(
                f"{where}{jax.tree_util.keystr(path)}: expected samples of shape {wanted}, "
                f"got an array of shape {np.shape(leaf)}; encode the samples as the tasks' spec says"
            )


def spans(total: int, at_most: int) -> Iterator[tuple[slice, int]]:
    """Cut `total` rows into equally long slices of at most `at_most`.

    Yields each slice and how many of its first rows an earlier one held already: the last slice reaches back instead
    of being shorter, because jit compiles every length anew.
    """
    if total < 1:
        return
    length = math.ceil(total / math.ceil(total / at_most))
    for start in range(0, total, length):
        first = min(start, total - length)
        yield slice(first, first + length), start - first


@partial(jax.jit, static_argnums=0)
def _adapt(learner: Learner, prior: Prior, supports: Batch, keys: Array) -> Array:
    return jax.vmap(lambda support, key: learner.adapt(prior, support, jax.random.fold_in(key, 0)))(supports, keys)


@partial(jax.jit, static_argnums=0)
def _go_on(learner: Learner, prior: Prior, supports: Batch, keys: Array, starts: Array) -> Array:
    def one(support: Batch, key: Array, start: Array) -> Array:
        return learner.adapt(prior, support, jax.random.fold_in(key, 0), start)

    return jax.vmap(one)(supports, keys, starts)


@partial(jax.jit, static_argnums=0)
def _predict(learner: Learner, prior: Prior, adapted: Array, x: Array, keys: Array) -> Prediction:
    def one(state: Array, inputs: Array, key: Array) -> Prediction:
        return learner.predict(prior, state, inputs, jax.random.fold_in(key, 1))

    return jax.vmap(one)(adapted, x, keys)


def _rescale(supports: Batch, scale: Scale, target: Target) -> Batch:
    if target.kind == "classification":
        return supports
    y = (np.asarray(supports.y) - np.asarray(scale.centre)[..., None]) / np.asarray(scale.spread)[..., None]
    return supports._replace(y=np.where(np.asarray(supports.mask) > 0, y, 0.0).astype(np.float32))
