"""An exact Gaussian process on the support alone (Rasmussen and Williams 2006, algorithm 2.1).

Its hyperparameters maximise the marginal likelihood times weak log-normal priors, without which a support of three
samples would have no answer. Classes are regressed one against the rest, and the probit of each becomes its
probability (FS-Mol's GP-ST does likewise; Stanley et al. 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import log_ndtr
from threadpoolctl import threadpool_limits

from commonprior.baselines import Baseline
from commonprior.baselines._checks import above, at_least
from commonprior.baselines._kernel import Inputs, Similarity, covariance, inputs_of, parts_of, similarity
from commonprior.predictor import Predictor, check_inputs
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

_NOISE = 1e-4
"""Least noise variance of standardised labels: float32 factors a covariance of a few hundred samples with it."""

_PRIOR = {"amplitude": (np.log(0.5), 1.0), "length": (0.0, 1.0), "noise": (np.log(0.1), 1.5)}
"""Mean and deviation of the logarithms: of variances of standardised labels, of median distances."""


@final
@dataclass(frozen=True)
class SingleTaskGp(Baseline):
    """Hyperparameters by Adam: `steps` steps at `rate`, on at most `subset` evenly spaced samples of the support."""

    steps: int = 100
    rate: float = 0.1
    subset: int = 64

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, subset=self.subset)
        above(0, rate=self.rate)

    def prepare(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Mapping[str, Predictor]:
        """Look at no training task at all."""
        return {"single_task_gp": _Gp(self, spec)}


class _Posterior(NamedTuple):
    """Of t tasks with k samples: what a prediction needs. `offset` [t, outputs] is the mean far from all samples."""

    theta: dict[str, np.ndarray]
    inputs: Inputs
    mask: np.ndarray
    factor: np.ndarray
    weights: np.ndarray
    unit: np.ndarray
    offset: np.ndarray
    scale: Scale


@final
@dataclass(frozen=True, eq=False)
class _Gp(Predictor):
    baseline: SingleTaskGp
    spec: TaskSpec

    # On matrices this small, threads only wait for one another: on a busy machine they take ten times as long.
    @threadpool_limits.wrap(limits=1, user_api="blas")
    def adapt(self, supports: Batch, keys: Array) -> _Posterior:
        check_inputs(self.spec, supports.x, "support")
        task, scale = standardise(Task(supports, supports), self.spec.target)
        mask = np.asarray(supports.mask, np.float64)
        y, offset = _labels(task.support.y, mask, self.spec.target)
        inputs = inputs_of(supports.x)
        alike = similarity(inputs, inputs)
        unit = _median(alike.distance, mask)
        alike = _in_units(alike, unit)
        fitted = _thinned(alike, y, mask, self.baseline.subset)
        theta = jax.tree.map(np.asarray, _maximise(self.baseline, parts_of(inputs), *fitted))
        theta = {name: value.astype(np.float64) for name, value in theta.items()}
        factor = np.linalg.cholesky(_noisy(np, theta, alike, mask))
        weights = np.linalg.solve(np.swapaxes(factor, 1, 2), np.linalg.solve(factor, y))
        return _Posterior(theta, inputs, mask, factor, weights, unit, offset, scale)

    @threadpool_limits.wrap(limits=1, user_api="blas")
    def predict(self, adapted: _Posterior, x: Array, keys: Array) -> Prediction:
        check_inputs(self.spec, x, "x")
        theta = adapted.theta
        alike = _in_units(similarity(inputs_of(x), adapted.inputs), adapted.unit)
        cross = covariance(np, theta, alike) * adapted.mask[:, None, :]
        mean = cross @ adapted.weights + adapted.offset[:, None, :]
        explained = (np.linalg.solve(adapted.factor, np.swapaxes(cross, 1, 2)) ** 2).sum(1)
        own = np.exp(theta["amplitude"]).sum(-1)[:, None]
        variance = np.maximum(own - explained, 0.0) + _NOISE + np.exp(theta["noise"])[:, None]
        if self.spec.target.kind == "classification":
            return Categorical(log_ndtr(mean / np.sqrt(variance)[..., None]))
        return unscale(Gaussian(mean[..., 0], variance), adapted.scale)


def _labels(y: Array, mask: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Return what is regressed [t, k, outputs], 0 where padded, and what was taken off [t, outputs]."""
    if target.kind == "regression":
        return np.asarray(y, np.float64)[..., None] * mask[..., None], np.zeros((len(mask), 1))
    classes = len(target.classes)
    # One half of a pseudo-sample for every class, so that an unseen class stays possible.
    signs = np.where(np.asarray(y)[..., None] == np.arange(classes), 1.0, -1.0) * mask[..., None]
    offset = (signs.sum(1) + (2 - classes) / 2) / (mask.sum(1)[:, None] + classes / 2)
    return (signs - offset[:, None, :]) * mask[..., None], offset


def _median(distance: Array | None, mask: np.ndarray) -> np.ndarray:
    """Return the median squared distance [t] between different samples; 1 where all are the same."""
    if distance is None:
        return np.ones(len(mask))
    between = np.where((mask[:, :, None] * mask[:, None, :] > 0) & (distance > 1e-12), distance, np.nan)
    return np.array([np.median(d[np.isfinite(d)]) if np.isfinite(d).any() else 1.0 for d in between])


def _in_units(alike: Similarity, unit: np.ndarray) -> Similarity:
    if alike.distance is None:
        return alike
    return alike._replace(distance=alike.distance / unit[:, None, None])


def _thinned(
    alike: Similarity, y: np.ndarray, mask: np.ndarray, most: int
) -> tuple[Similarity, np.ndarray, np.ndarray]:
    """Return at most `most` samples of each task: a search over many would take its cube in time, and gain little."""
    if mask.shape[1] <= most:
        return alike, y, mask
    rows = []
    for known in mask > 0:
        first = np.argsort(~known, kind="stable")
        n = max(int(known.sum()), most)
        rows.append(first[np.linspace(0, n - 1, most).astype(int)])
    task = np.arange(len(mask))[:, None]
    index = np.stack(rows)
    square = (task[..., None], index[:, :, None], index[:, None, :])
    alike = Similarity(*(None if part is None else part[square] for part in alike))
    return alike, y[task, index], mask[task, index]


def _noisy(xp: Any, theta: dict[str, Array], alike: Similarity, mask: Array) -> Array:
    """Return the covariance of noisy labels [..., k, k]; a padded sample is independent of everything."""
    both = mask[..., :, None] * mask[..., None, :]
    noise = _NOISE + xp.exp(theta["noise"])[..., None]
    return covariance(xp, theta, alike) * both + xp.eye(mask.shape[-1]) * (mask * noise + (1 - mask))[..., None]


@partial(jax.jit, static_argnums=(0, 1))
def _maximise(baseline: SingleTaskGp, parts: int, alike: Similarity, y: Array, mask: Array) -> dict[str, Array]:
    """Return the logarithms of the hyperparameters of t tasks."""
    optimiser = optax.adam(baseline.rate)

    def loss(theta: dict[str, Array], alike: Similarity, y: Array, mask: Array) -> Array:
        factor = jnp.linalg.cholesky(_noisy(jnp, theta, alike, mask))
        white = jax.scipy.linalg.solve_triangular(factor, y, lower=True)
        fit = 0.5 * (white**2).sum() + y.shape[-1] * jnp.log(jnp.diagonal(factor)).sum()
        return fit + sum(0.5 * (((theta[n] - centre) / spread) ** 2).sum() for n, (centre, spread) in _PRIOR.items())

    def one(alike: Similarity, y: Array, mask: Array) -> dict[str, Array]:
        start = {n: jnp.full((parts,) if n == "amplitude" else (), centre) for n, (centre, _) in _PRIOR.items()}

        def step(carry: Any, _: None) -> tuple[Any, None]:
            theta, state = carry
            # A factorisation that fails in float32 stops the search where it is, instead of turning it to NaN.
            gradient = jax.tree.map(jnp.nan_to_num, jax.grad(loss)(theta, alike, y, mask))
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(theta, updates), state), None

        return jax.lax.scan(step, (start, optimiser.init(start)), None, baseline.steps)[0][0]

    return jax.vmap(one)(alike, y, mask)
