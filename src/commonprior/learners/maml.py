"""Model-agnostic meta-learning: weights from which a few steps of gradient descent learn a task.

Finn, Abbeel & Levine, "Model-agnostic meta-learning for fast adaptation of deep networks" (2017). Adapting the head
alone is ANIL: Raghu et al., "Rapid learning or feature reuse?" (2020).

Good at: any differentiable network, raw inputs, tasks that differ in more than an offset; a support of any size; going
on with later samples; a device that can take a gradient step. Bad at: wide sparse inputs with a few noisy labels (a
kernel method, or a random forest, is better there), uncertainty (one variance for all samples), and cost, as a
meta-step differentiates twice. An inner rate that is too large diverges on real data: begin with 20 steps of 0.01 to
0.02 on standardised inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _local, _objective
from commonprior.learners._inner import descend, to_adapt
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec


@final
@dataclass(frozen=True)
class Maml(Learner):
    """`adapts` are the names, or beginnings of names, of what the inner loop moves: all, or `("head",)` for ANIL.

    `first_order` takes the inner gradients for constants: cheaper, in memory the same for any number of steps, and less
    exact.
    """

    network: Network
    inner_steps: int = 5
    inner_rate: float = 0.01
    first_order: bool = False
    adapts: tuple[str, ...] = ("",)
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.inner_steps < 1:
            raise RecipeError(f"inner_steps = {self.inner_steps}: expected at least 1")
        if not self.inner_rate > 0:
            raise RecipeError(f"inner_rate = {self.inner_rate}: expected a number above 0")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights. Raises `ModelError` where `adapts` names nothing."""
        params = _objective.fresh(self.network, spec, key)
        to_adapt(params, self.adapts)
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Tensors | None = None) -> Tensors:
        """Return the adapted weights, those alone that `adapts` names."""
        return self._adapt(prior.params, support, start)

    def predict(self, prior: Prior, adapted: Tensors, x: Array, key: Array) -> Prediction:
        """Return what the adapted network says; every sample of a regression has the prior's one variance."""
        return _objective.predict(self.network, {**prior.params, **adapted}, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the meta-gradient of each task, or the site's own steps (see `LocalWork`)."""
        return _local.contribute(self, prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return the query's loss after adapting to the support."""
        adapted = self._adapt(params, task.support, None)
        return _objective.judge(self.network, {**params, **adapted}, task.query)

    def _adapt(self, params: Tensors, support: Batch, start: Tensors | None) -> Tensors:
        def loss(fast: Tensors) -> Array:
            return _objective.fit(self.network, {**params, **fast}, support)

        if start is None:
            start = to_adapt(params, self.adapts)
        return descend(loss, start, self.inner_steps, self.inner_rate, self.first_order)
