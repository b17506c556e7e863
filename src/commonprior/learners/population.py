"""Population-based training: several priors learn side by side, each with rates of its own, and the worst give way.

Jaderberg et al., "Population based training of neural networks" (2017), over MAML (Finn et al., 2017). What travels is
each member's meta-gradient and, beside it, its fitness; who copies whom, and how rates are perturbed, follows in
`apply` from the sums and a public seed, so that nobody needs to search rates in runs of their own, each of which would
spend privacy anew.

Good: unknown inner and server rates; rates that should change as training goes on. Bad: as many times the size, bytes
and time of `maml` as there are members, of which only the best is used in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Learner, Memory, _objective, _public
from commonprior.learners._inner import descend
from commonprior.learners._local import as_rows
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors, unflatten
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec

_INNER, _SERVER = "rate/inner", "rate/server"
_FITNESS, _ROUND, _LAST = "population/fitness", "population/round", 1 << 24
_REMEMBERED = 0.75
_UP, _DOWN = 1.25, 0.8


@final
@dataclass(frozen=True)
class Population(Learner):
    """`members` priors start at rates from a half to twice `inner_rate` and `server_rate`.

    Every `interval` rounds the worst quarter become copies of the best, each rate a quarter more or a fifth less. A
    member's fitness is minus its query losses, each at most `bound`, averaged over about four rounds.
    """

    network: Network
    members: int = 8
    interval: int = 10
    inner_steps: int = 3
    inner_rate: float = 0.05
    server_rate: float = 0.1
    bound: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.members < 4:
            raise RecipeError(f"members = {self.members}: expected at least 4")
        for name in ("interval", "inner_steps"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected at least 1")
        for name in ("inner_rate", "server_rate", "bound"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected a number above 0")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"seed = {self.seed}: expected 0 to 2^63 - 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh members, stacked: each tensor [members, ...]."""
        each = [_objective.fresh(self.network, spec, one) for one in jax.random.split(key, self.members)]
        params = {name: np.stack([member[name] for member in each]) for name in each[0]}
        # Both rates run through their ranges, in orders that have nothing to do with each other.
        ladder = np.linspace(0.5, 2.0, self.members)
        shuffled = np.argsort(_public.integers(self.members, 1 << 32, "population", self.seed, "start"), kind="stable")
        params[_INNER] = (self.inner_rate * ladder)[:, None].astype(np.float32)
        params[_SERVER] = (self.server_rate * ladder[shuffled])[:, None].astype(np.float32)
        return Prior(params, {_FITNESS: np.zeros(self.members, np.float32), _ROUND: np.zeros(1, np.float32)})

    def length(self, prior: Prior) -> int:
        """Return the number of all members' weights, and one more for each member's fitness."""
        return sum(value.size for value in _learned(prior.params).values()) + self.members

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Tensors | None = None) -> Tensors:
        """Return the fittest member's adapted weights."""
        return self._adapt(self._fittest(prior), support, start)

    def predict(self, prior: Prior, adapted: Tensors, x: Array, key: Array) -> Prediction:
        """Return what the fittest member says; every sample of a regression has its one variance."""
        return _objective.predict(self.network, {**_learned(self._fittest(prior)), **adapted}, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return one row a task: minus each member's meta-gradient, then each member's fitness."""
        return Contributions(np.asarray(_rows(self, dict(prior.params), tasks)), "task"), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior: each member a step on at its own rate and, when it is time, the worst replaced.

        Raises `ModelError` for a mean of another length.
        """
        mean = np.asarray(mean, np.float64)
        if mean.shape != (self.length(prior),):
            raise ModelError(f"expected a mean update of {self.length(prior)} numbers, got shape {mean.shape}")
        old = {name: np.asarray(value, np.float64) for name, value in prior.params.items()}
        new, learned = dict(old), _learned(old)
        for name, step in unflatten(mean[: -self.members], learned).items():
            new[name] = old[name] + step * old[_SERVER].reshape(-1, *[1] * (step.ndim - 1))
        count = int(prior.state[_ROUND][0])
        before = np.asarray(prior.state[_FITNESS], np.float64) if count else mean[-self.members :]
        fitness = _REMEMBERED * before + (1 - _REMEMBERED) * mean[-self.members :]
        if (count + 1) % self.interval == 0:
            new, fitness = self._replace(new, fitness, count)
        state = {_FITNESS: fitness, _ROUND: np.full(1, min(count + 1, _LAST))}
        return Prior(_float32(new), _float32(state))

    def _replace(
        self, params: dict[str, np.ndarray], fitness: np.ndarray, count: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        quarter = self.members // 4
        order = np.argsort(-fitness, kind="stable")
        source = np.arange(self.members)
        source[order[-quarter:]] = order[:quarter]
        copied = {name: value[source] for name, value in params.items()}
        for name in (_INNER, _SERVER):
            up = _public.bits(quarter, "population", self.seed, count, name) == 1
            copied[name][order[-quarter:]] *= np.where(up, _UP, _DOWN)[:, None]
        return copied, fitness[source]

    def _fittest(self, prior: Prior) -> dict[str, Array]:
        best = jnp.argmax(jnp.asarray(prior.state[_FITNESS]))
        return {name: jnp.asarray(value)[best] for name, value in prior.params.items()}

    def _adapt(self, member: Tensors, support: Batch, start: Tensors | None) -> Tensors:
        def loss(weights: Tensors) -> Array:
            return _objective.fit(self.network, {**_learned(member), **weights}, support)

        start = _objective.weights(_learned(member)) if start is None else start
        return descend(loss, start, self.inner_steps, dict.fromkeys(start, member[_INNER][0]))


@partial(jax.jit, static_argnums=0)
def _rows(learner: Population, population: Tensors, tasks: Task) -> Array:
    def loss(learned: Tensors, member: Tensors, task: Task) -> Array:
        adapted = learner._adapt({**member, **learned}, task.support, None)
        return _objective.judge(learner.network, {**learned, **adapted}, task.query)

    def one(member: Tensors, task: Task) -> tuple[Array, dict[str, Array]]:
        value, slope = jax.value_and_grad(loss)(_learned(member), member, task)
        # A member gone astray stands still until it is replaced, and is the least fit until then.
        fine = jnp.isfinite(value)
        slope = {name: jnp.where(fine & jnp.isfinite(v).all(), -v, 0) for name, v in slope.items()}
        return -jnp.where(fine, jnp.minimum(value, learner.bound), learner.bound), slope

    fitness, steps = jax.vmap(lambda task: jax.lax.map(lambda member: one(member, task), population))(tasks)
    return jnp.concatenate([as_rows(steps), fitness], axis=1)


def _learned(params: Tensors) -> dict[str, Array]:
    return {name: value for name, value in params.items() if name not in (_INNER, _SERVER)}


def _float32(tensors: Tensors) -> dict[str, np.ndarray]:
    return {name: value.astype(np.float32) for name, value in tensors.items()}
