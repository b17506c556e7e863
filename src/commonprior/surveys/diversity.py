"""How many directions the sites' tasks pull a prior in: where it is one, there is nothing to learn to learn.

Every task is learned twice, from two supports that share no sample. What it learned is a function; its inner products
with public random features (Rahimi & Recht, "Random features for large-scale kernel machines", 2007) over the task's
own inputs are a vector that sites can compare without showing inputs. The products of a task's two vectors, averaged
over tasks and sites by a secure sum, are an estimate of the tasks' second moment in which the noise of small supports
cancels. Its effective rank (Roy & Vetterli, "The effective rank", 2007) is the number of directions. Tasks may share
one and go either way along it: only where the mean of the vectors, which is asked for too, has most of the second
moment does every task come to the same function, so that a plain supervised model on pooled data would do as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import DataError
from commonprior.learners import Learner
from commonprior.predictor import LearnedPrior
from commonprior.prior import Prior, Tensors
from commonprior.sampling import generator, learning_key
from commonprior.surveys import Survey, asked_about, asking_about
from commonprior.surveys._inputs import vectors
from commonprior.task import Array, Batch, Categorical, Task, TaskSpec

ALIKE = 1.5
"""Below so many directions the tasks are called alike."""

UNCLEAR = 0.2
"""Noise of more than this share of the leading eigenvalue could hide a second direction: then nothing is claimed."""

COMMON = 0.7
"""The share of the second moment that the mean must have for tasks to be called alike."""

_MOMENT, _LARGEST = "moment", 3.0


class Directions(NamedTuple):
    """`effective_rank` of the tasks' second moment; `common`, the share of it that their mean has; `alike` where the
    one is below `ALIKE` and the other above `COMMON`; the sentence for people.
    """

    effective_rank: float
    common: float
    alike: bool
    sentence: str


@final
@dataclass(frozen=True)
class Diversity(Survey):
    """Asks once. `features` is the number of coordinates: features · (features + 3) / 2 numbers travel."""

    learner: Learner
    features: int = 48

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return the question about a prior that is not trained; `about` asks about one that is."""
        return self.about(LearnedPrior(self.learner, self.learner.init(spec, key), spec))

    def about(self, learned: LearnedPrior) -> Prior:
        """Return the question about a trained prior: everybody adapts that one."""
        return asking_about(learned.prior, {_MOMENT: np.zeros(self.length(Prior({})), np.float32)})

    def length(self, prior: Prior) -> int:
        """Return the size of a triangle and a vector."""
        return self.features * (self.features + 3) // 2

    def question(self, prior: Prior) -> str:
        """Return the one question's name."""
        return _MOMENT

    def answer(self, prior: Prior, tasks: Task) -> np.ndarray:
        """Return the triangle of the site's mean outer product, then its mean vector, over the root of 2.

        Raises `DataError` for queries of fewer than 3 rows.
        """
        if tasks.query.mask.shape[1] < 3:
            raise DataError("each task is learned and looked at twice: schedule.queries must be at least 3")
        first, second = _learned_twice(self, *asked_about(prior), tasks)
        # Of unit length, or one task of large values would be all directions there are.
        first, second = (np.asarray(v, np.float64) for v in (first, second))
        first, second = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (first, second))
        moment = np.einsum("ti,tj->ij", first, second) / len(first)
        triangle = ((moment + moment.T) / 2)[np.triu_indices(self.features)]
        return np.concatenate([triangle, (first + second).mean(0) / 2]) / math.sqrt(2)

    def directions(self, prior: Prior) -> Directions:
        """Return what the answers say."""
        answers, moment = math.sqrt(2) * np.asarray(prior.params[_MOMENT], np.float64), np.zeros((self.features,) * 2)
        moment[np.triu_indices(self.features)], mean = np.split(answers, [-self.features])
        moment = moment + moment.T - np.diag(np.diag(moment))
        values = np.linalg.eigvalsh(moment)
        # A second moment has no eigenvalue below 0: the least one shows how large noise makes them, either way.
        noise, leading = abs(min(values[0], 0)), max(values[-1], 1e-30)
        values = values[values > noise]
        share = values / max(values.sum(), 1e-30)
        rank = float(np.exp(-(share * np.log(share)).sum())) if len(share) else 1.0
        common = min(float(mean @ mean) / max(values.sum(), 1e-30), 1.0)
        if noise > UNCLEAR * leading:
            return Directions(rank, common, False, (
                f"too few tasks or samples to count directions: noise is {noise / leading:.0%} of the leading one"
            ))  # fmt: skip
        alike = rank < ALIKE and common > COMMON
        return Directions(rank, common, alike, (
            f"the tasks pull in {rank:.1f} directions (effective rank), {common:.0%} of it in common: "
            + ("they are so alike that one supervised model on pooled data would do as well" if alike else
               "they share one and go either way along it, which one model for all cannot" if rank < ALIKE else
               "enough for learning to learn to have something to learn")
        ))  # fmt: skip


@partial(jax.jit, static_argnums=0)
def _learned_twice(survey: Diversity, params: Tensors, state: Tensors, tasks: Task) -> tuple[Array, Array]:
    """Return two vectors [m, features] a task, of norm at most 1, that share no sample, seen or learned from."""
    # Every third row, as a small task's padding is all at the end.
    again, seen, seen_again = (jax.tree.map(lambda leaf, i=i: leaf[:, i::3], tasks.query) for i in range(3))

    def one(support: Batch, look: Batch) -> Array:
        return _vector(survey, Prior(params, state), support, look)

    return jax.vmap(one)(tasks.support, seen), jax.vmap(one)(again, seen_again)


def _vector(survey: Diversity, prior: Prior, support: Batch, look: Batch) -> Array:
    """Return [features]: the adapted function's mean products with the random features over inputs `look`."""
    key = learning_key("diversity")
    prediction = survey.learner.predict(prior, survey.learner.adapt(prior, support, key), look.x, key)
    if isinstance(prediction, Categorical):
        values = jax.nn.softmax(prediction.logits) - 1 / prediction.logits.shape[1]
    else:
        values = (jnp.clip(prediction.mean, -_LARGEST, _LARGEST) / _LARGEST)[:, None]
    outputs, samples = values.shape[1], vectors(look.x)
    each = max(survey.features // outputs, 1)
    rng = generator("diversity", samples.shape[1], each)
    weights = rng.normal(size=(samples.shape[1], each)) / math.sqrt(samples.shape[1])
    shift = rng.uniform(0, 2 * math.pi, each)
    features = jnp.cos(samples @ weights.astype(np.float32) + shift.astype(np.float32)) / math.sqrt(each)
    known = (look.mask > 0)[:, None]
    products = jnp.where(known, features, 0).T @ jnp.where(known, values, 0) / jnp.maximum(known.sum(), 1)
    vector = products.reshape(-1)[: survey.features]
    return jnp.pad(vector, (0, survey.features - len(vector)))
