"""Meta-SGD: MAML whose inner rates are learned with the weights.

Li, Zhou, Chen & Li, "Meta-SGD: learning to learn quickly for few-shot learning" (2017); one rate a layer as in
Antoniou, Edwards & Storkey, "How to train your MAML" (2019), section 4. Rates stay positive, as their logarithms are
learned: a server step that suits weights of size 1 would turn a plain rate of 0.01 round at once (the paper lets it).

Good at: what MAML is good at, in one or two inner steps, and where nobody knows the inner rate. Bad at: few rounds, as
rates settle late; a rate a parameter doubles what each site sends, and what noise hides it in; the rest as MAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final

import jax.numpy as jnp
import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _local, _objective
from commonprior.learners._inner import descend, to_adapt
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec

_RATES = "rates/"


@final
@dataclass(frozen=True)
class MetaSgd(Learner):
    """A rate is `inner_rate` at first, for each `parameter` or each `layer` that `adapts` names (see `Maml`).

    A rate is `inner_rate` times e^(`speed` · r), where r is learned as a weight is: a step that moves a weight by 0.001
    changes a rate by 1% at a speed of 10.
    """

    network: Network
    inner_steps: int = 1
    inner_rate: float = 0.01
    per: Literal["parameter", "layer"] = "parameter"
    speed: float = 10.0
    adapts: tuple[str, ...] = ("",)
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.inner_steps < 1:
            raise RecipeError(f"inner_steps = {self.inner_steps}: expected at least 1")
        for name in ("inner_rate", "speed"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected a number above 0")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights, and r = 0 for every rate. Raises `ModelError` where `adapts` names nothing."""
        params = _objective.fresh(self.network, spec, key)
        names = to_adapt(params, self.adapts)
        if self.per == "parameter":
            rates = {_RATES + name: np.zeros_like(params[name]) for name in names}
        else:
            rates = {_RATES + _layer(name): np.zeros(1, np.float32) for name in names}
        return self.server.begin(params | rates)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters, rates among them."""
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

    def rates(self, params: Tensors) -> Mapping[str, Array]:
        """Return the rate of each adapted tensor: one number a parameter, or [1]."""
        names = to_adapt(_without_rates(params), self.adapts)
        learned = {name: params[_RATES + (name if self.per == "parameter" else _layer(name))] for name in names}
        return {name: self.inner_rate * jnp.exp(self.speed * r) for name, r in learned.items()}

    def _adapt(self, params: Tensors, support: Batch, start: Tensors | None) -> Tensors:
        def loss(fast: Tensors) -> Array:
            return _objective.fit(self.network, {**params, **fast}, support)

        rates = self.rates(params)
        if start is None:
            start = to_adapt(_without_rates(params), self.adapts)
        return descend(loss, start, self.inner_steps, rates)


def _without_rates(params: Tensors) -> Tensors:
    return {name: value for name, value in params.items() if not name.startswith(_RATES)}


def _layer(name: str) -> str:
    """Return where a tensor stands: what lies beside it belongs to the same layer."""
    return name.rpartition("/")[0] or name
