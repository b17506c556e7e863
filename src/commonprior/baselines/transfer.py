"""Transfer learning: one network pre-trained on every training task at once, then fine-tuned on the support.

Ordinary supervised learning: no episodes, no inner loop. Labels are standardised task by task, because assays of
different units and levels could not share one output otherwise (Yosinski et al., "How transferable are features in
deep neural networks?", 2014, for freezing all but the head).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from commonprior.baselines import Baseline
from commonprior.baselines._checks import above, at_least
from commonprior.baselines._supervised import Part, Supervised, Training, loss
from commonprior.errors import RecipeError
from commonprior.networks import Network
from commonprior.predictor import Predictor
from commonprior.prior import Tensors
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.task import Batch, Pool, TaskSpec


@final
@dataclass(frozen=True)
class Transfer(Baseline):
    """Pre-train for `pretrain_steps` steps on `rows` samples of each of `tasks` tasks, then fine-tune for `steps`."""

    network: Network
    part: Part = "all"
    steps: int = 50
    rate: float = 1e-3
    folds: int = 4
    pretrain_steps: int = 1000
    pretrain_rate: float = 1e-3
    tasks: int = 8
    rows: int = 64

    def __post_init__(self) -> None:
        if self.part not in get_args(Part):
            raise RecipeError(f"part = {self.part!r}: expected one of {', '.join(get_args(Part))}")
        at_least(1, steps=self.steps, pretrain_steps=self.pretrain_steps, tasks=self.tasks, rows=self.rows)
        at_least(2, folds=self.folds)
        above(0, rate=self.rate, pretrain_rate=self.pretrain_rate)

    def prepare(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Mapping[str, Predictor]:
        """Pre-train on the training tasks of all sites together."""
        params = self.pretrain(spec, train, seed)
        training = Training(self.network, spec.target.kind, self.part, self.steps, self.rate, self.folds)
        return {"transfer": Supervised(training, spec, lambda _key: params)}

    def pretrain(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Tensors:
        """Return the network's parameters after pre-training."""
        pools = [pool for site in sorted(train) for pool in train[site]]
        rng = generator(seed, "transfer", "tasks")
        params = dict(self.network.init(spec.example(), spec.outputs, learning_key(seed, "transfer", "init")))
        state = optax.adam(self.pretrain_rate).init(params)
        for _ in range(self.pretrain_steps):
            # A pool is asked for episodes: the support is the minibatch, and the scale of its labels comes with it.
            batch = sample_tasks(pools, rng, self.tasks, self.rows, 1, spec.target).support
            params, state = _step(self, spec.target.kind, params, state, batch)
        return jax.tree.map(np.asarray, params)


@partial(jax.jit, static_argnums=(0, 1))
def _step(baseline: Transfer, kind: str, params: Tensors, state: Any, batch: Batch) -> tuple[Any, Any]:
    rows = jax.tree.map(lambda leaf: jnp.reshape(leaf, (leaf.shape[0] * leaf.shape[1], *leaf.shape[2:])), batch)
    gradient = jax.grad(lambda p: loss(baseline.network, kind, p, rows))(params)
    updates, state = optax.adam(baseline.pretrain_rate).update(gradient, state)
    return optax.apply_updates(params, updates), state
