"""Which sample to measure next: what each candidate promises for the task, by the adapted learner's own uncertainty.

*Improvement* is the expected improvement on the best label so far (Jones, Schonlau & Welch, "Efficient global
optimization of expensive black-box functions", 1998, eq. 15). *Information* is how much less uncertain the predictions
of all candidates are expected to be once this one is measured (MacKay, "Information-based objective functions for
active data selection", 1992, section 4): the label is imagined, the learner adapts to it, and the entropies of its
predictions before and after are compared. Only `adapt` and `predict` are used, so any learner can suggest. One whose
prior has one variance for all predictions (those that take gradient steps) knows no sample better than another: by
information nothing can be chosen then.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from commonprior.errors import InputError
from commonprior.learners import Learner
from commonprior.predictor import LearnedPrior, check_inputs
from commonprior.prior import Prior
from commonprior.task import Array, Batch, Categorical, Gaussian, Prediction, Task, standardise, unscale

REFERENCE = 256
"""Uncertainty is averaged over at most so many candidates, evenly spread through the list."""

_AT_ONCE, _SAME = 64, 1e-7
_FAR = 1e3
"""Standard deviations beyond which nothing changes: a prediction without any doubt would be infinitely many away."""
_NODES, _WEIGHTS = (values.astype(np.float32) for values in np.polynomial.hermite_e.hermegauss(3))

Aim = Literal["improvement", "information"]


class Suggestion(NamedTuple):
    """What n candidates promise. `improvement` [n] in the label's unit (after the target's transform), or None for
    classes; `information` [n] in nats a candidate, or None where it was not asked for.
    """

    prediction: Prediction
    improvement: np.ndarray | None
    information: np.ndarray | None


def suggest(
    learned: LearnedPrior, support: Batch, x: Array, key: Array, *, maximise: bool = True, information: bool = True
) -> Suggestion:
    """Judge candidates x [n, ...] for a task known by its support [k, ...], labels in the user's units.

    Raises `InputError` for an empty support or an empty list, `ModelError` for inputs of another make, or where the
    learner has no room for one more sample than the support's.
    """
    n, target = len(jax.tree.leaves(x)[0]), learned.spec.target
    if n == 0 or not (np.asarray(support.mask) > 0).any():
        raise InputError("nothing to suggest from: give at least one labelled sample and one candidate")
    check_inputs(learned.spec, jax.tree.map(lambda leaf: leaf[None], x), "candidates")
    task, scale = standardise(Task(support, support), target)
    # One more row, masked at first: imagined labels then need no second compilation.
    known = jax.tree.map(lambda leaf: np.concatenate([leaf, np.zeros_like(leaf[:1])]), task.support)
    prediction = jax.tree.map(np.asarray, _predict(learned.learner, learned.prior, known, x, key))
    gain = None
    if information:
        every = np.unique(np.linspace(0, n - 1, min(n, REFERENCE)).astype(int))
        reference = jax.tree.map(lambda leaf: np.asarray(leaf)[every], x)
        gain = np.asarray(_information(learned.learner, learned.prior, known, x, prediction, reference, key))
    raw = learned.widened(unscale(prediction, scale))
    improvement = None
    if isinstance(raw, Gaussian):
        labels = np.asarray(support.y, np.float64)[np.asarray(support.mask) > 0]
        improvement = expected_improvement(raw, labels.max() if maximise else labels.min(), maximise)
    return Suggestion(raw, improvement, gain)


def pick(
    learned: LearnedPrior, support: Batch, x: Array, key: Array, count: int, aim: Aim, *, maximise: bool = True
) -> list[int]:
    """Return `count` candidates to measure together, best first.

    After each choice its label is taken to be what was predicted (Ginsbourger, Le Riche & Carraro, "Kriging is
    well-suited to parallelize optimization", 2010, the kriging believer), so that a batch does not choose one thing
    twice. Raises `InputError` where the aim does not fit the task or the learner, or too few candidates are left.
    """
    n = len(jax.tree.leaves(x)[0])
    if not 1 <= count <= n:
        raise InputError(f"count = {count}: expected 1 to {n}, the number of candidates")
    chosen: list[int] = []
    k = len(support.y)
    # Room for all imagined samples from the start, for one compilation.
    room = jax.tree.map(lambda leaf: np.concatenate([leaf, np.zeros((count - 1, *leaf.shape[1:]), leaf.dtype)]),
                        jax.tree.map(np.asarray, support))  # fmt: skip
    for i in range(count):
        judged = suggest(learned, room, x, key, maximise=maximise, information=aim == "information")
        promise = judged.information if aim == "information" else judged.improvement
        if promise is None:
            raise InputError("improvement is for numbers; ask for information where classes are predicted")
        if i == 0 and aim == "information" and n > 1 and np.ptp(promise) <= _SAME * max(1, np.abs(promise).max()):
            raise InputError(
                "information is alike for all candidates: the learner says one variance for every sample; ask for "
                "improvement, or train a learner whose variance depends on the sample (dkt, alpaca, neural_process)"
            )
        best = int(np.argmax(np.where(np.isin(np.arange(n), chosen), -np.inf, promise)))
        chosen.append(best)
        if i < count - 1:
            room = _believe(room, k + i, jax.tree.map(lambda leaf, best=best: leaf[best], x), judged.prediction, best)
    return chosen


def expected_improvement(prediction: Gaussian, best: float, maximise: bool) -> np.ndarray:
    """Return E[max(y - best, 0)] [n] of predicted labels y (or of best - y), never below 0."""
    mean, sd = np.asarray(prediction.mean, np.float64), np.sqrt(np.asarray(prediction.variance, np.float64))
    lead = mean - best if maximise else best - mean
    z = np.clip(lead / np.maximum(sd, 1e-300), -_FAR, _FAR)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return np.maximum(lead * special.ndtr(z) + sd * density, 0.0)


def _believe(room: Batch, row: int, x: Array, prediction: Prediction, best: int) -> Batch:
    """Put the candidate into a row of the support with the label that was predicted for it."""

    def put(leaf: np.ndarray, value: Array) -> np.ndarray:
        leaf = leaf.copy()
        leaf[row] = value
        return leaf

    label = prediction.logits[best].argmax() if isinstance(prediction, Categorical) else prediction.mean[best]
    return Batch(jax.tree.map(put, room.x, x), put(room.y, label), put(room.mask, 1))


@partial(jax.jit, static_argnums=0)
def _predict(learner: Learner, prior: Prior, support: Batch, x: Array, key: Array) -> Prediction:
    """Adapt and predict as every contestant does (`predictor`): one key for learning, another for predicting."""
    adapted = learner.adapt(prior, support, jax.random.fold_in(key, 0))
    return learner.predict(prior, adapted, x, jax.random.fold_in(key, 1))


@partial(jax.jit, static_argnums=0)
def _information(
    learner: Learner, prior: Prior, support: Batch, x: Array, prediction: Prediction, reference: Array, key: Array
) -> Array:
    """Return [n]: the mean entropy of `reference` now, less what it is expected to be after each candidate."""

    def entropy_after(sample: Array, label: Array) -> Array:
        imagined = Batch(
            jax.tree.map(lambda leaf, new: jnp.asarray(leaf).at[-1].set(new), support.x, sample),
            jnp.asarray(support.y).at[-1].set(label.astype(support.y.dtype)),
            jnp.asarray(support.mask).at[-1].set(1),
        )
        return _entropy(_predict(learner, prior, imagined, reference, key))

    def expected(candidate: tuple[Array, Prediction]) -> Array:
        sample, one = candidate
        labels, weights = _imagined(one)
        return (jax.vmap(entropy_after, in_axes=(None, 0))(sample, labels) * weights).sum()

    now = _entropy(_predict(learner, prior, support, reference, key))
    return now - jax.lax.map(expected, (x, prediction), batch_size=_AT_ONCE)


def _imagined(prediction: Prediction) -> tuple[Array, Array]:
    """Return labels that one sample may have, and how likely: Gauss-Hermite nodes, or every class."""
    if isinstance(prediction, Categorical):
        return jnp.arange(len(prediction.logits)), jax.nn.softmax(prediction.logits)
    return prediction.mean + jnp.sqrt(prediction.variance) * _NODES, jnp.asarray(_WEIGHTS / _WEIGHTS.sum())


def _entropy(prediction: Prediction) -> Array:
    """Return the mean entropy of predictions, in nats."""
    if isinstance(prediction, Categorical):
        logp = jax.nn.log_softmax(prediction.logits)
        return -(jnp.exp(logp) * logp).sum(-1).mean()
    return 0.5 * jnp.log(2 * math.pi * math.e * prediction.variance).mean()
