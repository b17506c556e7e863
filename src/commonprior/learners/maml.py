"""Model-agnostic meta-learning: weights from which a few steps of gradient descent learn a task.

Finn, Abbeel & Levine, "Model-agnostic meta-learning for fast adaptation of deep networks" (2017). Adapting the head
alone is ANIL: Raghu et al., "Rapid learning or feature reuse?" (2020).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Learner, Memory, _local, _objective
from commonprior.learners._inner import descend
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec


@final
@dataclass(frozen=True)
class Maml(Learner):
    """`adapts` are the names, or beginnings of names, of what the inner loop moves: all, or `("head",)` for ANIL.

    `first_order` takes the inner gradients for constants: cheaper, and less exact.
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
        names = sorted(_objective.weights(params))
        for prefix in self.adapts:
            if not any(_begins(name, prefix) for name in names):
                raise ModelError(f"adapts: no parameter's name begins with {prefix!r}; there are {', '.join(names)}")
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
            weights = _objective.weights(params)
            start = {name: weights[name] for name in weights if any(_begins(name, prefix) for prefix in self.adapts)}
        return descend(loss, start, self.inner_steps, self.inner_rate, self.first_order)


def _begins(name: str, prefix: str) -> bool:
    return prefix in ("", name) or name.startswith(prefix.rstrip("/") + "/")
