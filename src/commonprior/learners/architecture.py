"""Differentiable architecture search: which operation, and how many units, each layer has, is part of the prior.

Liu, Simonyan & Yang, "DARTS: differentiable architecture search" (2019): a layer is the softmax-weighted mixture of
candidates, and weights and mixture are learned from the same query losses. Widths are mixed by masks over one set of
units (Wan et al., "FBNetV2", 2020), so that a narrow layer shares the weights of a wide one. Adapting to a task moves
the weights alone, as in MAML (Finn et al., 2017): the architecture is what tasks have in common.

Good: a first guess at a network for a new kind of task, for the price of one that is a little wider. Bad: a mixture is
not the discrete network that is read off it (`chosen`): train that one anew before it is relied upon.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _local, _mixed_layers, _objective
from commonprior.learners._inner import descend
from commonprior.learners._local import LocalWork
from commonprior.learners._mixed_layers import OPERATIONS, MixedLayers
from commonprior.learners._server import ServerStep
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec


class Layer(NamedTuple):
    """What a layer is to be."""

    operation: str
    width: int


@final
@dataclass(frozen=True)
class Architecture(Learner):
    """`layers` layers of one of `widths`, each followed by one of the operations relu, tanh, gelu and none."""

    layers: int = 2
    widths: tuple[int, ...] = (16, 32, 64)
    inner_steps: int = 5
    inner_rate: float = 0.01
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise RecipeError(f"layers = {self.layers}: expected at least 1")
        if not self.widths or min(self.widths) < 1 or list(self.widths) != sorted(set(self.widths)):
            raise RecipeError(f"widths = {list(self.widths)}: expected one or more of at least 1, each larger")
        if self.inner_steps < 1:
            raise RecipeError(f"inner_steps = {self.inner_steps}: expected at least 1")
        if not self.inner_rate > 0:
            raise RecipeError(f"inner_rate = {self.inner_rate}: expected a number above 0")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights and a mixture in which all candidates weigh the same."""
        return self.server.begin(_objective.fresh(self._network, spec, key))

    def length(self, prior: Prior) -> int:
        """Return the number of parameters, those of the architecture included."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Tensors | None = None) -> Tensors:
        """Return the adapted weights; the architecture stays."""
        return self._adapt(prior.params, support, start)

    def predict(self, prior: Prior, adapted: Tensors, x: Array, key: Array) -> Prediction:
        """Return what the adapted mixture says; every sample of a regression has the prior's one variance."""
        return _objective.predict(self._network, {**prior.params, **adapted}, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the meta-gradient of each task, or the site's own steps (see `LocalWork`)."""
        return _local.contribute(self, prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return the query's loss after adapting to the support."""
        adapted = self._adapt(params, task.support, None)
        return _objective.judge(self._network, {**params, **adapted}, task.query)

    def chosen(self, prior: Prior) -> list[Layer]:
        """Return the candidates that weigh most, layer by layer."""
        found = []
        for name in self._network.names():
            operation, width = (
                np.argmax(prior.params[f"{_mixed_layers.PREFIX}{name}/{w}"]) for w in ("operation", "width")
            )
            found.append(Layer(OPERATIONS[int(operation)], self.widths[int(width)]))
        return found

    @property
    def _network(self) -> MixedLayers:
        return MixedLayers(self.layers, self.widths)

    def _adapt(self, params: Tensors, support: Batch, start: Tensors | None) -> Tensors:
        def loss(weights: Tensors) -> Array:
            return _objective.fit(self._network, {**params, **weights}, support)

        if start is None:
            weights = _objective.weights(params)
            start = {n: w for n, w in weights.items() if not n.startswith(_mixed_layers.PREFIX)}
        return descend(loss, start, self.inner_steps, self.inner_rate)
