"""Several priors learned side by side from the same tasks, whose predictions are mixed.

Lakshminarayanan, Pritzel & Blundell, "Simple and scalable predictive uncertainty estimation using deep ensembles"
(2017): networks that begin elsewhere end elsewhere, and where they disagree nobody should be sure.

Good at: accuracy and calibration that more rounds do not bring any more, with any learner that starts from random
weights. Bad at: cost (as many times the bytes, time and memory as members), and small devices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Adapted, Learner, Memory
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Categorical, Gaussian, Prediction, Task, TaskSpec


@final
@dataclass(frozen=True)
class Ensemble(Learner):
    """`members` priors of the learner `of`, each from random weights of its own."""

    of: Learner
    members: int = 4

    def __post_init__(self) -> None:
        if self.members < 2:
            raise RecipeError(f"members = {self.members}: expected at least 2")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh members side by side: the name of each tensor begins with its member's number."""
        return _joined([self.of.init(spec, one) for one in jax.random.split(key, self.members)])

    def length(self, prior: Prior) -> int:
        """Return the sum of the members' d."""
        return sum(self.of.length(member) for member in self._members(prior))

    def adapt(
        self, prior: Prior, support: Batch, key: Array, start: tuple[Adapted, ...] | None = None
    ) -> tuple[Adapted, ...]:
        """Adapt every member."""
        keys, starts = jax.random.split(key, self.members), start or (None,) * self.members
        return tuple(
            self.of.adapt(member, support, one, before)
            for member, one, before in zip(self._members(prior), keys, starts, strict=True)
        )

    def predict(self, prior: Prior, adapted: tuple[Adapted, ...], x: Array, key: Array) -> Prediction:
        """Return the members' mixture: of classes itself, of numbers its mean and variance."""
        keys = jax.random.split(key, self.members)
        return mixture([
            self.of.predict(member, known, x, one)
            for member, known, one in zip(self._members(prior), adapted, keys, strict=True)
        ])  # fmt: skip

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return every member's rows, one beside the other."""
        keys, rows = jax.random.split(key, self.members), []
        kept: dict[str, Array] = {}
        for number, member in enumerate(self._members(prior)):
            given, learned = self.of.contribute(member, tasks, _part(memory, number), keys[number])
            rows.append(given._replace(rows=np.asarray(given.rows)))
            kept |= {f"{number}/{name}": value for name, value in learned.items()}
        return Contributions(np.concatenate([one.rows for one in rows], axis=1), rows[0].unit), kept

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Apply to each member what is its own of the mean.

        Raises `ModelError` for a mean of another length.
        """
        mean, members, at = np.asarray(mean, np.float64), self._members(prior), 0
        if mean.shape != (self.length(prior),):
            raise ModelError(f"expected a mean update of {self.length(prior)} numbers, got shape {mean.shape}")
        out = []
        for member in members:
            length = self.of.length(member)
            out.append(self.of.apply(member, mean[at : at + length], key))
            at += length
        return _joined(out)

    def _members(self, prior: Prior) -> list[Prior]:
        return [Prior(_part(prior.params, number), _part(prior.state, number)) for number in range(self.members)]


def mixture(predictions: list[Prediction]) -> Prediction:
    """Return what predictions [n] say together, each with the same weight."""
    classes = [p.logits for p in predictions if isinstance(p, Categorical)]
    if classes:
        spoken = jax.nn.log_softmax(jnp.stack(classes), axis=-1)
        return Categorical(jax.nn.logsumexp(spoken, axis=0) - math.log(len(predictions)))
    means = jnp.stack([p.mean for p in predictions if isinstance(p, Gaussian)])
    variances = jnp.stack([p.variance for p in predictions if isinstance(p, Gaussian)])
    return Gaussian(means.mean(0), variances.mean(0) + means.var(0))


def _part(tensors: Tensors, number: int) -> dict[str, Array]:
    return {name.partition("/")[2]: value for name, value in tensors.items() if name.partition("/")[0] == str(number)}


def _joined(members: list[Prior]) -> Prior:
    params = {f"{n}/{name}": value for n, member in enumerate(members) for name, value in member.params.items()}
    state = {f"{n}/{name}": value for n, member in enumerate(members) for name, value in member.state.items()}
    return Prior(params, state)
