"""Why a prediction is what it is: which support samples and which features carried it, and how adapting led there.

Everything goes through the learner's interface, so it holds for every learner:

- A support sample's *influence* is the derivative of the prediction by the sample's weight (its mask, 1 for a sample
  that counts in full), through `adapt`: the question of Koh & Liang, "Understanding black-box predictions via influence
  functions" (2017), with the adaptation itself in the place of an approximation. Its witness is the effect of *leaving
  it out*. A learner may round a mask to nothing or all; so for each sample the derivative is integrated from weight 0
  to 1, and only where all the integrals are the effects of leaving out is the derivative given (`is_smooth`).
- A feature's *attribution* is its integrated gradient through the adapted predictor (Sundararajan, Taly & Yan,
  "Axiomatic attribution for deep networks", 2017), from a baseline: the support's average sample, unless another is
  given. The attributions sum to the difference of the two predictions, up to `unexplained`.
- The *trace*: prediction and error on the support as samples are added one by one, and, for a learner with
  `inner_steps`, after each inner step.

Labels keep the scale of the whole support throughout.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import DataError
from commonprior.learners import Learner
from commonprior.predictor import LearnedPrior, check_inputs, spans
from commonprior.prior import Prior
from commonprior.task import Array, Batch, Categorical, Gaussian, Prediction, Rows, Task, TaskSpec, standardise

NEARLY = 1 - 2.0**-20
"""The weight at which derivatives are taken: at 1 itself, a mean over at least one sample has a kink."""

NODES = 8
"""Gauss-Legendre points a sample, from weight 0 to 1."""

AGREEMENT = 0.1
"""How far, of the largest effect of leaving out, an integral may be off before the mask is held to be no weight."""

FINEST, COMPLETE = 4096, 1e-3
"""Attributions take more and more points, up to so many, until this share of the difference is unexplained."""

_AT_ONCE = 64


class Trace(NamedTuple):
    """What became of the prediction on the way: `at` [s] samples or steps, predictions [s], errors on the support [s].

    An error is the root mean square in the target's unit, or the mean surprise in nats.
    """

    at: np.ndarray
    predictions: np.ndarray
    errors: np.ndarray


class Explanation(NamedTuple):
    """One prediction, `about` a number in the target's unit (after its transform) or the likeliest class's probability.

    `left_out` [k]: the prediction less what it would be without the sample. `influence` [k]: its derivative by the
    sample's weight, all NaN unless `is_smooth`. `attribution` [c], a column of the table (or number of a raw input)
    each: what it adds to `baseline`, the prediction for the baseline inputs. `steps` is empty for a learner without
    inner steps.
    """

    about: str
    prediction: float
    samples: tuple[str, ...]
    left_out: np.ndarray
    influence: np.ndarray
    is_smooth: bool
    features: tuple[str, ...]
    attribution: np.ndarray
    baseline: float
    unexplained: float
    growth: Trace
    steps: Trace

    def to_table(self) -> dict[str, Any]:
        """Return plain values, as JSON holds them: None where there is no number."""
        return cast(dict[str, Any], _plain(self))


class _Question(NamedTuple):
    """Everything but weights and inputs: a standardised support, the sample x [1, ...], the class in question."""

    learner: Any
    prior: Prior
    support: Batch
    x: Array
    which: Array
    key: Array


def explain(
    learned: LearnedPrior, support: Batch, x: Array, key: Array, samples: Sequence[str] = (), baseline: Array = None
) -> Explanation:
    """Explain what `predict_task` says of one sample x [1, ...] after a support [k, ...], both as it takes them.

    `samples` [k] names the support's rows (numbers else), `baseline` are the inputs [1, ...] that attributions start
    from. Raises `DataError` for an empty support or more than one x, `ModelError` for inputs that do not fit.
    """
    _check(learned.spec, support, x, samples)
    if baseline is None:
        baseline = _average(support)
    one, keys = jax.tree.map(lambda leaf: np.asarray(leaf)[None], (support, x, baseline)), key[None]
    adapted = learned.adapt(one[0], keys)
    predicted, from_baseline = (learned.predict(adapted, inputs, keys) for inputs in one[1:])
    which = int(np.argmax(predicted.logits)) if isinstance(predicted, Categorical) else 0
    task, (centre, spread) = standardise(Task(support, support), learned.spec.target)
    question = _Question(learned.learner, learned.prior, *jax.tree.map(jnp.asarray, (task.support, x, which, key)))

    k = len(support.y)
    weights = np.concatenate([np.ones((1, k)), 1 - np.eye(k), np.tri(k + 1, k, -1)])
    values, errors = _in_turns(_follow, question, weights)
    left_out = values[0] - values[1 : k + 1]
    influence, is_smooth = _influence(question, left_out)
    end, start = (_number(prediction, which) for prediction in (predicted, from_baseline))
    pieces = _attribution(question, adapted.state, one[2], (end - start) / spread)
    features, attribution = _by_feature(learned.spec, pieces)
    growth = Trace(np.arange(k + 1), values[k + 1 :], errors[k + 1 :])
    steps = _steps(question, growth)
    return Explanation(
        _about(learned.spec, which), end, tuple(samples) or tuple(map(str, range(k))), left_out * spread,
        influence * spread, is_smooth, features, attribution * spread, start,
        float(end - start - attribution.sum() * spread),
        _scaled(growth, centre, spread), _scaled(steps, centre, spread),
    )  # fmt: skip


def _check(spec: TaskSpec, support: Batch, x: Array, samples: Sequence[str]) -> None:
    check_inputs(spec, jax.tree.map(lambda leaf: np.asarray(leaf)[None], support.x), "support")
    check_inputs(spec, jax.tree.map(lambda leaf: np.asarray(leaf)[None], x), "x")
    asked = len(jax.tree.leaves(x)[0])
    if asked != 1:
        raise DataError(f"x holds {asked} samples; a prediction is explained for one at a time")
    if not (np.asarray(support.mask) > 0).any():
        raise DataError("the support is empty; give at least one labelled sample")
    if samples and len(samples) != len(support.y):
        raise DataError(f"samples names {len(samples)} rows, but the support has {len(support.y)}")


# --- the learner, asked ----------------------------------------------------------------------------------------------


def _adapt(question: _Question, weights: Array, start: Array = None) -> Array:
    weighted = question.support._replace(mask=question.support.mask * weights)
    return question.learner.adapt(question.prior, weighted, jax.random.fold_in(question.key, 0), start)


def _predict(question: _Question, adapted: Array, x: Array) -> Prediction:
    return question.learner.predict(question.prior, adapted, x, jax.random.fold_in(question.key, 1))


def _answer(question: _Question, adapted: Array, x: Array) -> Array:
    """Return the number in question, in the standardised scale."""
    prediction = _predict(question, adapted, x)
    if isinstance(prediction, Categorical):
        return jax.nn.softmax(prediction.logits[0])[question.which]
    return prediction.mean[0]


def _follow(question: _Question, weights: Array) -> tuple[Array, Array]:
    """Return the answer, and the error on the whole support, for a row of weights [k]."""
    adapted = _adapt(question, weights)
    known = _predict(question, adapted, question.support.x)
    return _answer(question, adapted, question.x), _error(known, question.support)


def _slope(question: _Question, weights: Array) -> Array:
    return jax.grad(lambda row: _answer(question, _adapt(question, row), question.x))(weights)


def _in_turns(function: Callable[..., Array], question: _Question, rows: np.ndarray, *fixed: Array) -> Any:
    """Return a function of the question, a row and what is fixed for all rows [w, ...], some at a time, in float64."""
    rows, parts = rows.astype(np.float32), []
    for at, new in spans(len(rows), _AT_ONCE):
        part = _at_once(function, question.learner, question._replace(learner=None), rows[at], *fixed)
        parts.append(jax.tree.map(lambda leaf, new=new: np.asarray(leaf, np.float64)[new:], part))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


@partial(jax.jit, static_argnums=(0, 1))
def _at_once(function: Callable[..., Array], learner: Learner, rest: _Question, rows: Array, *fixed: Array) -> Array:
    return jax.vmap(lambda row: function(rest._replace(learner=learner), row, *fixed))(rows)


def _error(prediction: Prediction, support: Batch) -> Array:
    total = support.mask.sum()
    if isinstance(prediction, Gaussian):
        return jnp.sqrt((support.mask * (prediction.mean - support.y) ** 2).sum() / total)
    logp = jax.nn.log_softmax(prediction.logits)
    truth = jnp.take_along_axis(logp, support.y.astype(jnp.int32)[:, None], axis=1)[:, 0]
    return -(support.mask * truth).sum() / total


# --- samples ---------------------------------------------------------------------------------------------------------


def _influence(question: _Question, left_out: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return derivatives [k], and whether, integrated, they are the effects of leaving out."""
    k = len(left_out)
    nodes, shares = np.polynomial.legendre.leggauss(NODES)
    # Sample i's weight walks from 0 to 1 while the others count in full; the last row is the support as it is.
    weights = np.ones((k, NODES, k))
    weights[np.arange(k), :, np.arange(k)] = (nodes + 1) / 2
    slopes = _in_turns(_slope, question, np.concatenate([weights.reshape(-1, k), np.full((1, k), NEARLY)]))
    along = slopes[:-1].reshape(k, NODES, k)[np.arange(k), :, np.arange(k)]
    apart = np.abs(along @ (shares / 2) - left_out).max()
    is_smooth = bool(apart <= AGREEMENT * np.abs(left_out).max() + 1e-6)
    return (slopes[-1] if is_smooth else np.full(k, np.nan)), is_smooth


# --- features --------------------------------------------------------------------------------------------------------


def _average(support: Batch) -> Array:
    known = np.asarray(support.mask) > 0
    return jax.tree.map(lambda leaf: np.asarray(leaf)[known].mean(0, keepdims=True), support.x)


def _attribution(question: _Question, adapted: Array, baseline: Array, difference: float) -> Array:
    """Return each input's integrated gradient, from as many points as it takes to explain the difference."""
    adapted, baseline = jax.tree.map(lambda leaf: leaf[0], (adapted, baseline))
    way = jax.tree.map(lambda end, start: end - start, question.x, baseline)
    points = _AT_ONCE
    while True:
        at = (np.arange(points) + 0.5) / points
        slopes = _in_turns(_slope_at, question, at, adapted, baseline, way)
        pieces = jax.tree.map(lambda leaf, whole: leaf.mean(0) * whole, slopes, way)
        total = sum(float(leaf.sum()) for leaf in jax.tree.leaves(pieces))
        if points >= FINEST or abs(difference - total) <= COMPLETE * abs(difference) + 1e-6:
            return pieces
        points *= 4


def _slope_at(question: _Question, share: Array, adapted: Array, baseline: Array, way: Array) -> Array:
    x = jax.tree.map(lambda start, whole: start + share * whole, baseline, way)
    return jax.grad(lambda x: _answer(question, adapted, x))(x)


def _by_feature(spec: TaskSpec, pieces: Array) -> tuple[tuple[str, ...], np.ndarray]:
    """Return names and sums: of a table, a column's are those of its slots and of its being known at all."""
    if not isinstance(pieces, Rows):
        flat = np.asarray(pieces, np.float64).ravel()
        places = np.ndindex(*spec.shape)
        return tuple(f"x[{', '.join(map(str, place))}]" for place in places), flat
    values, present, counts = (np.asarray(leaf[0], np.float64) for leaf in pieces)
    sums, at = [], {"values": 0, "counts": 0}
    for column, known in zip(spec.columns, present, strict=True):
        block, name = (counts, "counts") if column.kind in ("smiles", "formula") else (values, "values")
        sums.append(known + block[at[name] : at[name] + column.slots].sum())
        at[name] += column.slots
    return tuple(column.name for column in spec.columns), np.array(sums)


# --- the way ---------------------------------------------------------------------------------------------------------


def _steps(question: _Question, growth: Trace) -> Trace:
    """Return the trace after 0, 1, … inner steps; empty where the learner has none."""
    total = getattr(question.learner, "inner_steps", 0)
    if not total:
        return Trace(np.zeros(0, int), np.zeros(0), np.zeros(0))
    first, last = ((growth.predictions[at], growth.errors[at]) for at in (0, -1))
    points = np.array([first, *_gone_on(question, total)])
    if len(points) <= total or not np.allclose(points[-1], last, rtol=1e-3, atol=1e-4 * np.abs(points).max()):
        # Going on is not as adapting for longer to this learner: every number of steps begins at the prior.
        fewer = [_with_steps(question, count) for count in range(1, total)]
        ones = np.ones((1, len(question.support.y)))
        points = np.array([first, *(np.ravel(_in_turns(_follow, shorter, ones)) for shorter in fewer), last])
    return Trace(np.arange(total + 1), *points.T)


def _gone_on(question: _Question, total: int) -> list[np.ndarray]:
    """Return predictions and errors after each of `total` single steps, each going on from the one before.

    It ends early where an adapted state grows, and so counts the support again.
    """
    single, points, adapted = _with_steps(question, 1), [], None
    for _ in range(total):
        start, shape = adapted, jax.tree.map(np.shape, adapted)
        answer, adapted = _single_step(single.learner, single._replace(learner=None), start)
        points.append(np.array(answer, np.float64))
        if start is not None and jax.tree.map(np.shape, adapted) != shape:
            break
    return points


@partial(jax.jit, static_argnums=0)
def _single_step(learner: Learner, rest: _Question, start: Array) -> tuple[Array, Array]:
    question = rest._replace(learner=learner)
    adapted = _adapt(question, jnp.ones(len(question.support.y)), start)
    known = _predict(question, adapted, question.support.x)
    return (_answer(question, adapted, question.x), _error(known, question.support)), adapted


def _with_steps(question: _Question, count: int) -> _Question:
    return question._replace(learner=dataclasses.replace(question.learner, inner_steps=count))


def _scaled(trace: Trace, centre: Array, spread: Array) -> Trace:
    return Trace(trace.at, trace.predictions * spread + centre, trace.errors * spread)


# --- words -----------------------------------------------------------------------------------------------------------


def _about(spec: TaskSpec, which: int) -> str:
    target = spec.target
    if target.kind == "classification":
        return f"probability of {target.name} = {target.classes[which]}"
    name = f"log10 {target.name}" if target.transform == "log10" else target.name
    return f"{name} ({target.unit})" if target.unit else name


def _number(prediction: Prediction, which: int) -> float:
    if isinstance(prediction, Categorical):
        return float(jax.nn.softmax(prediction.logits[0, 0])[which])
    return float(prediction.mean[0, 0])


def _plain(value: Any) -> Any:
    """Return tuples with names as tables, arrays as lists, and None for what is not finite."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, np.ndarray | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
