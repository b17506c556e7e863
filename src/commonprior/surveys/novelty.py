"""Whether a sample, or a whole task, is unlike everything that the sites learned on, at a stated rate of false alarms.

The sites estimate the density of their inputs together, and none shows any: first the mean and covariance, then a
mixture of Gaussians on the leading principal components by expectation-maximisation (Dempster, Laird & Rubin, 1977;
each step's sufficient statistics are a secure sum), with what the components leave over as one more coordinate. Samples
that took no part in that are then scored, and a secure histogram of their scores turns a new score into a conformal
p-value (Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", 2005): for samples like those that were
scored, a p-value of at most a comes up in at most a share a. How many were scored is part of it: of n none can be less
than 1 / (n + 1). So is the noise of private answers: two standard deviations of the tail are added to it, and where
that leaves nothing to find, `Judgement.least` says so. Sites count alike here whatever they hold, and rows of one task
are alike: the promise is for a site drawn first and then a row, and none is made about samples of new sites.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import jax
import numpy as np
from scipy import special

from commonprior.errors import InputError, ModelError
from commonprior.prior import Prior
from commonprior.sampling import generator
from commonprior.surveys import Survey, begun
from commonprior.surveys._inputs import vectors
from commonprior.task import Array, Task, TaskSpec

_MOMENTS, _SCORES = "moments", "scores"
_BINS, _LOWEST, _HIGHEST = 2000, -60.0, 140.0
_SURE = 2.0
_LARGEST = 10.0
_RIDGE = 0.05


class Density(NamedTuple):
    """A mixture on `f` whitened components and what they leave over: weights [k], means [k, f + 1], variances."""

    centre: np.ndarray
    axes: np.ndarray
    rest: float
    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray


class Judgement(NamedTuple):
    """Scores [n] (minus the log density), p-values [n], and the `least` p-value that a score could have had."""

    scores: np.ndarray
    p_values: np.ndarray
    least: float


@final
@dataclass(frozen=True)
class Novelty(Survey):
    """Asks 2 + `steps` times. Inputs of more than `width` numbers are projected to so many at random, publicly."""

    width: int = 64
    components: int = 12
    mixtures: int = 8
    steps: int = 12

    @property
    def rounds(self) -> int:
        """How many rounds it takes."""
        return self.steps + 2

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return the survey before its first question."""
        c = self._size(spec)
        answers = {_MOMENTS: self._moments(c), _SCORES: 2 * (_BINS + 1)}
        answers |= {f"step {i}": self.mixtures * (1 + 2 * self._f(c)) for i in range(self.steps)}
        inputs = vectors(spec.example()).shape[1]
        return begun({"inputs": np.array([inputs], np.float32),
                      **{name: np.zeros(size, np.float32) for name, size in answers.items()}})  # fmt: skip

    def length(self, prior: Prior) -> int:
        """Return the length of this round's answer."""
        return len(prior.params[self.question(prior)])

    def question(self, prior: Prior) -> str:
        """Return moments, then the steps of the mixture, then scores."""
        done = int(prior.state["rounds"][0])
        if done == 0:
            return _MOMENTS
        return f"step {done - 1}" if done <= self.steps else _SCORES

    def answer(self, prior: Prior, tasks: Task) -> np.ndarray:
        """Return the site's mean statistics: of support rows while it estimates, of query rows for the scores."""
        question = self.question(prior)
        batch = tasks.query if question == _SCORES else tasks.support
        mask = np.asarray(batch.mask) > 0
        rows = self._project(batch.x, prior)
        z = rows[mask]
        if not len(z):
            return np.zeros(self.length(prior))
        if question == _MOMENTS:
            lifted = np.concatenate([np.ones((len(z), 1)), z], axis=1) / _LARGEST / math.sqrt(z.shape[1] + 1)
            return (lifted.T @ lifted / len(z))[np.triu_indices(z.shape[1] + 1)]
        density = self.density(prior)
        if question == _SCORES:
            each = score(density, rows.reshape(-1, rows.shape[-1])).reshape(mask.shape)
            tasks_mean = np.where(mask, each, 0).sum(1) / np.maximum(mask.sum(1), 1)
            return np.concatenate([_histogram(each[mask]), _histogram(tasks_mean[mask.any(1)])]) / 2
        own = _coordinates(density, z)
        share = np.exp(_log_shares(density, own))
        statistics = np.stack([share, *(share * v[:, None] / _LARGEST for v in own.T),
                               *(share * (v**2)[:, None] / _LARGEST**2 for v in own.T)])  # fmt: skip
        return statistics.mean(1).T.ravel() / math.sqrt(1 + 2 * own.shape[1])

    def density(self, prior: Prior) -> Density:
        """Return the density that the answers so far make. Raises `ModelError` before the first."""
        done = int(prior.state["rounds"][0])
        if done < 1:
            raise ModelError("the survey has no answer yet; finish its rounds first")
        density = self._begin(np.asarray(prior.params[_MOMENTS], np.float64))
        for step in range(min(done - 1, self.steps)):
            density = _maximise(density, np.asarray(prior.params[f"step {step}"], np.float64))
        return density

    def judge(self, prior: Prior, x: Array, sites: int = 1) -> Judgement:
        """Judge samples x [n, ...], encoded as the run's tasks are; `sites` are how many answered, at least.

        Raises `ModelError` before the last answer is in, `InputError` for no samples.
        """
        return self._judge(prior, x, sites)

    def judge_task(self, prior: Prior, x: Array, sites: int = 1) -> Judgement:
        """Judge one task by the mean score of its samples x [n, ...]: arrays of one. Raises as `judge` does."""
        return self._judge(prior, x, sites, task=True)

    def _judge(self, prior: Prior, x: Array, sites: int, task: bool = False) -> Judgement:
        if int(prior.state["rounds"][0]) < self.rounds:
            raise ModelError(f"the survey has {int(prior.state['rounds'][0])} of its {self.rounds} rounds; finish it")
        if not len(jax.tree.leaves(x)[0]):
            raise InputError("nothing to judge: no samples")
        rows = self._project(jax.tree.map(lambda leaf: np.asarray(leaf)[None], x), prior)[0]
        scores = score(self.density(prior), rows)
        scores = scores.mean(keepdims=True) if task else scores
        half = np.asarray(prior.params[_SCORES], np.float64).reshape(2, -1)[int(task)]
        p_values = _p_values(2 * half[:_BINS], 2 * half[_BINS], sites)
        return Judgement(scores, p_values[_place(scores)], float(p_values.min()))

    def _size(self, spec: TaskSpec) -> int:
        return min(vectors(spec.example()).shape[1], self.width)

    def _f(self, c: int) -> int:
        return min(self.components, c) + 1

    def _moments(self, c: int) -> int:
        return (c + 1) * (c + 2) // 2

    def _project(self, x: Array, prior: Prior) -> np.ndarray:
        """Return inputs x [m, n, ...] as [m, n, c], clipped to `_LARGEST`."""
        rows, inputs = np.asarray(jax.vmap(vectors)(x), np.float64), int(prior.params["inputs"][0])
        if inputs > self.width:
            rows = rows @ generator("novelty", inputs, self.width).normal(size=(inputs, self.width))
            rows /= math.sqrt(self.width)
        return np.clip(rows, -_LARGEST, _LARGEST)

    def _begin(self, moments: np.ndarray) -> Density:
        """Return whitened principal components and a mixture that is spread over them, the same everywhere."""
        c = round((math.sqrt(8 * len(moments) + 1) - 1) / 2) - 1
        second = np.zeros((c + 1, c + 1))
        second[np.triu_indices(c + 1)] = moments * _LARGEST**2 * (c + 1)
        second = second + second.T - np.diag(np.diag(second))
        total = max(second[0, 0], 1e-12)
        centre = second[0, 1:] / total
        values, axes = np.linalg.eigh(second[1:, 1:] / total - np.outer(centre, centre))
        values = np.maximum(values, 0)
        kept = np.argsort(values)[::-1][: self._f(c) - 1]
        rest = max(float(values.sum() - values[kept].sum()), 1e-6)
        scale = np.sqrt(np.maximum(values[kept], 1e-6 * max(values.max(), 1e-12)))
        f, k = len(kept), self.mixtures
        means = np.concatenate([generator("mixture", k, f).normal(size=(k, f)), np.zeros((k, 1))], axis=1)
        return Density(centre, axes[:, kept] / scale, rest, np.full(k, 1 / k), means, np.ones((k, f + 1)))


def score(density: Density, z: np.ndarray) -> np.ndarray:
    """Return minus the log density [n] of inputs z [n, c], up to a constant."""
    return -np.asarray(special.logsumexp(_log_joint(density, _coordinates(density, z)), axis=1))


def _coordinates(density: Density, z: np.ndarray) -> np.ndarray:
    """Return whitened components and the logarithm of what they leave over [n, f + 1]."""
    centred = z - density.centre
    kept = centred @ density.axes
    directions = density.axes / np.linalg.norm(density.axes, axis=0)
    left = centred - (centred @ directions) @ directions.T
    over = np.log1p((left**2).sum(1, keepdims=True) / density.rest)
    return np.clip(np.concatenate([kept, over], axis=1), -_LARGEST, _LARGEST)


def _log_joint(density: Density, own: np.ndarray) -> np.ndarray:
    deviation = (own[:, None, :] - density.means) ** 2 / density.variances
    return np.log(density.weights) - 0.5 * (deviation + np.log(2 * math.pi * density.variances)).sum(2)


def _log_shares(density: Density, own: np.ndarray) -> np.ndarray:
    joint = _log_joint(density, own)
    return joint - special.logsumexp(joint, axis=1, keepdims=True)


def _maximise(density: Density, statistics: np.ndarray) -> Density:
    """Return the mixture whose expected statistics these are; a part that nothing belongs to stays where it was."""
    k, f = density.means.shape
    table = statistics.reshape(k, 1 + 2 * f) * math.sqrt(1 + 2 * f)
    mass = np.maximum(table[:, 0], 1e-9)
    held = table[:, 0] > 1e-4
    means = np.where(held[:, None], table[:, 1 : 1 + f] * _LARGEST / mass[:, None], density.means)
    squares = table[:, 1 + f :] * _LARGEST**2 / mass[:, None]
    variances = np.where(held[:, None], np.maximum(squares - means**2, 0) + _RIDGE, density.variances)
    weights = np.maximum(table[:, 0], 1e-4)
    return density._replace(weights=weights / weights.sum(), means=means, variances=variances)


def _histogram(scores: np.ndarray) -> np.ndarray:
    """Return the share of n scores in each bin [_BINS], and 1 / n; those beyond an end are in the last bin there."""
    return np.append(np.bincount(_place(scores), minlength=_BINS), 1) / max(len(scores), 1)


def _place(scores: np.ndarray) -> np.ndarray:
    """Return each score's bin."""
    return np.clip(((scores - _LOWEST) / (_HIGHEST - _LOWEST) * _BINS).astype(int), 0, _BINS - 1)


def _p_values(histogram: np.ndarray, inverse: float, sites: int) -> np.ndarray:
    """Return each bin's p-value [_BINS] from the mean histogram of so many sites and their mean 1 / n.

    The share of scores in the bin or above it is never below the true one, and what noise may hide is added: shares
    below 0 show how large it is. Sites of n scores each weigh like a sample of `sites` / mean(1 / n).
    """
    below = histogram[histogram < 0]
    noise = float(np.sqrt((below**2).mean())) if len(below) else 0.0
    above = np.cumsum(histogram[::-1])[::-1] / max(histogram.sum(), 0.5)
    above = np.clip(above + _SURE * noise * np.sqrt(np.arange(_BINS, 0, -1)), 0, 1)
    n = sites / max(inverse, noise, 1e-9)
    return (n * np.maximum.accumulate(above[::-1])[::-1] + 1) / (n + 1)
