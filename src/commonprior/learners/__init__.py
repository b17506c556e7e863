"""Meta-learning methods, one file each, behind one abstract class."""

from __future__ import annotations

import abc

from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec

Adapted = Array
"""A pytree: what a learner knows of one task after adapting to it."""

Memory = Tensors
"""What a site keeps between rounds (momentum, replay, site-local leaves). It never leaves the site."""


class Learner(abc.ABC):
    """A meta-learning method: pure functions, under jit, and vmap over tasks.

    Labels arrive standardised (`task.standardise`) and predictions leave in that scale. Learners are frozen
    dataclasses of hyperparameters: hashable, so they are static under jit.
    """

    @abc.abstractmethod
    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return a prior that knows nothing yet. Raises `ModelError` where the network does not fit `spec`."""

    @abc.abstractmethod
    def length(self, prior: Prior) -> int:
        """Return d, the length of one row of this learner's contributions."""

    @abc.abstractmethod
    def adapt(self, prior: Prior, support: Batch, key: Array, start: Adapted | None = None) -> Adapted:
        """Adapt to a support [n, ...], from one sample up; padded rows change nothing.

        Labels are in the target's scaled units. `start` is an earlier result to go on from. Deterministic in `key`, and
        under jit and vmap.
        """

    @abc.abstractmethod
    def predict(self, prior: Prior, adapted: Adapted, x: Array, key: Array) -> Prediction:
        """Return a distribution for each of x's n samples [n, ...].

        `Gaussian` of means and variances [n] in the target's scaled units, or `Categorical` of logits [n, classes].
        """

    @abc.abstractmethod
    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """At a site: what m stacked tasks (leaves [m, ...]) would add to the prior."""

    @abc.abstractmethod
    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Everywhere, from the aggregate [d] float64 alone: elementwise numpy in a fixed order, float32 out.

        d is `length(prior)`; raises `ModelError` for another.
        """
