"""By how much intervals must be widened, or narrowed, so that they hold as often as they say.

Every site adapts the prior to its tasks and says how far the other labels are from their predictions, in predicted
standard deviations: a secure histogram of |y - mean| / sd. Its quantile over that of a normal distribution is what
standard deviations are multiplied by (split conformal regression with normalised residuals: Lei et al.,
"Distribution-free predictive inference for regression", 2018, section 5.2, by a histogram and without their rank's +1,
as samples of one task are alike anyway). It is right for tasks like those that were asked about: take ones that nobody
trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from commonprior.errors import InputError
from commonprior.learners import Learner
from commonprior.predictor import LearnedPrior
from commonprior.prior import Prior, Tensors
from commonprior.sampling import learning_key
from commonprior.surveys import Survey, asked_about, asking_about
from commonprior.task import Array, Gaussian, Task, TaskSpec

_SHARES = "shares"
_BINS, _NEAREST, _FARTHEST = 400, 1e-2, 1e3
_NARROWEST, _WIDEST = 0.1, 100.0


@final
@dataclass(frozen=True)
class Calibration(Survey):
    """Asks once, for a learner of numbers."""

    learner: Learner

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return the question about a prior that is not trained; `about` asks about one that is."""
        return self.about(LearnedPrior(self.learner, self.learner.init(spec, key), spec))

    def about(self, learned: LearnedPrior) -> Prior:
        """Return the question about a trained prior. Raises `InputError` where it predicts classes."""
        if learned.spec.target.kind != "regression":
            raise InputError("classes have probabilities and no intervals; calibration is for numbers")
        return asking_about(learned.prior, {_SHARES: np.zeros(_BINS, np.float32)})

    def length(self, prior: Prior) -> int:
        """Return the number of bins."""
        return _BINS

    def question(self, prior: Prior) -> str:
        """Return the one question's name."""
        return _SHARES

    def answer(self, prior: Prior, tasks: Task) -> np.ndarray:
        """Return the share [400] of the queries' labels at each distance.

        Bins are as wide as they are far, from 0.01 to 1000 predicted standard deviations; the first and the last are
        open.
        """
        far = np.asarray(_distances(self, *asked_about(prior), tasks))
        far = far[np.asarray(tasks.query.mask) > 0]
        far = np.clip(np.nan_to_num(far, nan=_FARTHEST), _NEAREST, _FARTHEST)
        bins = np.minimum(np.log(far / _NEAREST) / math.log(_FARTHEST / _NEAREST) * _BINS, _BINS - 1).astype(int)
        return np.bincount(bins, minlength=_BINS) / max(len(bins), 1)

    def widening(self, prior: Prior, level: float = 0.9) -> float:
        """Return what standard deviations are to be multiplied by for central intervals of `level` to hold.

        From 0.1 to 100, whatever the answers say. Raises `InputError` for a level that is no share.
        """
        if not 0 < level < 1:
            raise InputError(f"level = {level}: expected a share between 0 and 1")
        shares = np.asarray(prior.params[_SHARES], np.float64)
        # Noise makes shares that are below 0: the largest sum so far is the distribution function that rises.
        below = np.maximum.accumulate(np.cumsum(shares)) / max(float(shares.sum()), 1e-9)
        at = int(np.searchsorted(below, level))
        before = below[at - 1] if at else 0.0
        within = (level - before) / max(below[min(at, _BINS - 1)] - before, 1e-12)
        quantile = _NEAREST * (_FARTHEST / _NEAREST) ** ((at + min(max(within, 0.0), 1.0)) / _BINS)
        return float(np.clip(quantile / (math.sqrt(2) * special.erfinv(level)), _NARROWEST, _WIDEST))


@partial(jax.jit, static_argnums=0)
def _distances(survey: Calibration, params: Tensors, state: Tensors, tasks: Task) -> Array:
    """Return [m, q]: how many predicted standard deviations each query's label is from what was predicted."""
    prior, key, learner = Prior(params, state), learning_key("calibration"), survey.learner

    def one(task: Task) -> Array:
        said = learner.predict(prior, learner.adapt(prior, task.support, key), task.query.x, key)
        assert isinstance(said, Gaussian)
        return jnp.abs(task.query.y - said.mean) / jnp.sqrt(jnp.maximum(said.variance, 1e-30))

    return jax.vmap(one)(tasks)
