# pyright: reportArgumentType=false, reportReturnType=false, reportCallIssue=false
"""Bayesian optimisation that learns from earlier searches: a ranking-weighted ensemble of Gaussian processes.

Feurer, Letham & Bakshy, "Scalable meta-learning for Bayesian optimization using ranking-weighted Gaussian process
ensembles" (AutoML workshop 2018): one process for each earlier search and one for this one, weighted by how often each
ranks this search's results best. Scores are to be maximised; each search's are replaced by their normal scores, so
that searches in different units, and trials that went wrong badly, can stand together.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from scipy import special, stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

_SAMPLES = 256
_FIRST = 3
"""Before so many results there is no model of this search, only earlier ones and chance."""

_WORST = 0.95
"""An earlier search whose median loss is beyond this quantile of this search's own is left out (section 4.3)."""


class Trials(NamedTuple):
    """Points [n, c] of the unit cube and their scores [n], larger is better; -inf where a trial failed."""

    points: np.ndarray
    scores: np.ndarray


class Model:
    """A Gaussian process on normal scores."""

    def __init__(self, trials: Trials, rng: np.random.Generator) -> None:
        self.points, self.targets = trials.points, normal_scores(trials.scores)
        kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(
            np.full(trials.points.shape[1], 0.5), (0.05, 10.0), nu=2.5
        ) + WhiteKernel(0.1, (1e-3, 1.0))
        self._process = GaussianProcessRegressor(kernel, n_restarts_optimizer=1, random_state=int(rng.integers(2**31)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is a setting without effect
            self._process.fit(self.points, self.targets)

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means [n] and standard deviations [n] of what a setting is worth, a trial's own noise left out."""
        mean, sd = cast("tuple[np.ndarray, np.ndarray]", self._process.predict(points, return_std=True))
        noise = float(cast("Any", self._process.kernel_).k2.noise_level)
        return mean, np.sqrt(np.maximum(sd**2 - noise, 1e-12))

    def samples(self, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return joint draws [_SAMPLES, n] of the scores at points."""
        mean, covariance = self._process.predict(points, return_cov=True)
        return rng.multivariate_normal(mean, covariance, _SAMPLES, method="eigh")

    def left_out(self, rng: np.random.Generator) -> np.ndarray:
        """Return draws [_SAMPLES, n] at its own points, each without its own result (Rasmussen & Williams, 5.4.2)."""
        inverse = np.linalg.inv(self._process.kernel_(self.points))
        variance = 1 / np.diag(inverse)
        mean = self.targets - (inverse @ self.targets) * variance
        return rng.normal(mean, np.sqrt(variance), (_SAMPLES, len(mean)))


class Ensemble:
    """Models of earlier searches and of this one, mixed by how well each ranks this one's results."""

    def __init__(self, earlier: Sequence[Model], trials: Trials, rng: np.random.Generator) -> None:
        self._models = list(earlier)
        if len(trials.scores) >= _FIRST:
            self._models.append(Model(trials, rng))
            self.weights = ranking_weights(earlier, self._models[-1], trials.scores, rng)
        else:
            self.weights = np.full(len(earlier), 1 / max(len(earlier), 1))

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means [n] and standard deviations [n] of the mixture, as the paper adds them up."""
        predictions = [model.predict(points) for model in self._models]
        mean = sum(w * m for w, (m, _) in zip(self.weights, predictions, strict=True))
        variance = sum((w * s) ** 2 for w, (_, s) in zip(self.weights, predictions, strict=True))
        return np.asarray(mean), np.sqrt(np.asarray(variance))


def normal_scores(scores: np.ndarray) -> np.ndarray:
    """Return the normal quantiles [n] of the scores' ranks; equal scores share one."""
    return special.ndtri((stats.rankdata(scores) - 0.5) / len(scores))


def ranking_weights(earlier: Sequence[Model], own: Model, scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return weights [len(earlier) + 1] that add up to 1, this search's own last (section 4.2)."""
    losses = np.stack([misranked(model.samples(own.points, rng), scores) for model in earlier]
                      + [misranked(own.left_out(rng), scores)])  # fmt: skip
    limit = np.quantile(losses[-1], _WORST)
    losses[:-1][np.median(losses[:-1], axis=1) > limit] = np.inf
    best = losses == losses.min(0)
    return (best / best.sum(0)).mean(1)


def misranked(draws: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return for each draw [s, n] how many pairs of results it puts in another order than their scores [n] do."""
    wrong = (draws[:, :, None] < draws[:, None, :]) ^ (scores[:, None] < scores[None, :])
    return wrong.sum((1, 2)).astype(float)


def propose(earlier: Sequence[Model], trials: Trials, candidates: np.ndarray, rng: np.random.Generator) -> int:
    """Return which of the candidates [n, c] to try next.

    Without earlier searches the first few are drawn at random; with them the first is what they think best. After
    that it is the one with the greatest expected improvement on the best that the ensemble sees among the tried ones.
    """
    if not earlier and len(trials.scores) < _FIRST:
        return int(rng.integers(len(candidates)))
    ensemble = Ensemble(earlier, trials, rng)
    mean, sd = ensemble.predict(candidates)
    if not len(trials.scores):
        return int(np.argmax(mean))
    lead = mean - ensemble.predict(trials.points)[0].max()
    z = lead / sd
    return int(np.argmax(lead * special.ndtr(z) + sd * stats.norm.pdf(z)))
