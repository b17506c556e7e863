"""A genetic algorithm over priors: a public population, of which only the fitness travels.

Such et al., "Deep neuroevolution: genetic algorithms are a competitive alternative" (2017), with uniform crossover
(Syswerda, 1989); members are judged after adapting to a task, so that what can be learned need not be inherited
(Hinton & Nowlan, "How learning can guide evolution", 1987). Who survives, who mates and what mutates is drawn from a
public seed, so that everyone breeds the same generation.

Good: no gradient of anything but the inner loop, if even that; plateaus; a few bytes a round; a population of priors is
an ensemble. Bad: the slowest way to train a network of any size, and the prior is as many times larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Learner, Memory, _mixture, _objective, _public
from commonprior.learners._inner import descend
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec, log_likelihood

_GENERATION, _SIZE, _LAST = "genetic/generation", "genetic/size", 1 << 24
_SMALLER, _LEAST = 0.97, 0.1


@final
@dataclass(frozen=True)
class Genetic(Learner):
    """Of `population` members the best `elites` survive and say, together, what is predicted; the others are bred.

    A child takes each number from one of two parents among the best half, and moves it, with probability `share`, by
    about `mutation`, which shrinks from generation to generation to a tenth. A task's fitness is clipped to `bound`.
    """

    network: Network
    population: int = 24
    elites: int = 3
    mutation: float = 0.1
    share: float = 0.5
    bound: float = 5.0
    inner_steps: int = 5
    inner_rate: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.population < 4:
            raise RecipeError(f"population = {self.population}: expected at least 4")
        if not 1 <= self.elites <= self.population // 2:
            raise RecipeError(f"elites = {self.elites}: expected 1 to half of the population, {self.population // 2}")
        if self.inner_steps < 1:
            raise RecipeError(f"inner_steps = {self.inner_steps}: expected at least 1")
        for name in ("mutation", "bound", "inner_rate"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected a number above 0")
        if not 0 < self.share <= 1:
            raise RecipeError(f"share = {self.share}: expected above 0 and at most 1")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"seed = {self.seed}: expected 0 to 2^63 - 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return a population of fresh networks, stacked: each tensor [population, ...]."""
        keys = jax.random.split(key, self.population)
        members = [_objective.fresh(self.network, spec, one) for one in keys]
        stacked = {name: np.stack([member[name] for member in members]) for name in members[0]}
        return Prior(stacked, {_GENERATION: np.zeros(1, np.float32), _SIZE: np.full(1, self.mutation, np.float32)})

    def length(self, prior: Prior) -> int:
        """Return the number of members."""
        return self.population

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Tensors | None = None) -> Tensors:
        """Return the elites' adapted weights, stacked."""
        elites = self._elites(prior)
        if start is None:
            start = _objective.weights(elites)
        return jax.vmap(lambda member, weights: self._adapt(member, support, weights))(elites, start)

    def predict(self, prior: Prior, adapted: Tensors, x: Array, key: Array) -> Prediction:
        """Return what the adapted elites say, mixed."""
        members = {**self._elites(prior), **adapted}
        predictions = jax.vmap(lambda member: _objective.predict(self.network, member, x))(members)
        return _mixture.mix(predictions)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return one row a task: each member's log-likelihood of the query after adapting to the support."""
        return Contributions(np.asarray(_fitness(self, dict(prior.params), tasks)), "task"), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next generation, the survivors first, from the members' mean fitness.

        Raises `ModelError` for a mean of another length.
        """
        mean = np.asarray(mean, np.float64)
        if mean.shape != (self.population,):
            raise ModelError(f"expected the fitness of {self.population} members, got shape {mean.shape}")
        order = np.argsort(-mean, kind="stable")
        generation, size = int(prior.state[_GENERATION][0]), prior.state[_SIZE].astype(np.float64)
        words = ("genetic", self.seed, generation)
        children, parents = self.population - self.elites, self.population // 2
        first, second = order[_public.integers(2 * children, parents, *words, "parents").reshape(2, children)]
        params = {}
        for name in sorted(prior.params):
            old = prior.params[name].astype(np.float64)
            bred = self._breed(old[first], old[second], size, (*words, name))
            params[name] = np.concatenate([old[order[: self.elites]], bred]).astype(np.float32)
        state = {
            _GENERATION: np.full(1, min(generation + 1, _LAST), np.float32),
            _SIZE: np.maximum(size * _SMALLER, _LEAST * self.mutation).astype(np.float32),
        }
        return Prior(params, state)

    def _elites(self, prior: Prior) -> dict[str, Array]:
        return {name: jnp.asarray(value)[: self.elites] for name, value in prior.params.items()}

    def _breed(
        self, first: np.ndarray, second: np.ndarray, size: np.ndarray, words: tuple[str | int, ...]
    ) -> np.ndarray:
        n = first.size
        coins = _public.bits(n, *words, "crossover").reshape(first.shape)
        moved = _public.integers(n, 1 << 32, *words, "moved").reshape(first.shape) < self.share * (1 << 32)
        steps = _public.normals(n, *words, "steps").reshape(first.shape)
        return np.where(coins == 1, first, second) + np.where(moved, steps * size, 0.0)

    def _adapt(self, params: Tensors, support: Batch, start: Tensors) -> Tensors:
        def loss(weights: Tensors) -> Array:
            return _objective.fit(self.network, {**params, **weights}, support)

        return descend(loss, start, self.inner_steps, self.inner_rate, first_order=True)


@partial(jax.jit, static_argnums=0)
def _fitness(learner: Genetic, population: Tensors, tasks: Task) -> Array:
    """Return the fitness [m, population]; a member whose predictions are no numbers has the least."""

    def one(member: Tensors, task: Task) -> Array:
        adapted = learner._adapt(member, task.support, _objective.weights(member))
        prediction = _objective.predict(learner.network, {**member, **adapted}, task.query.x)
        likelihood = log_likelihood(prediction, task.query).sum() / jnp.maximum((task.query.mask > 0).sum(), 1)
        return jnp.where(jnp.isfinite(likelihood), jnp.clip(likelihood, -learner.bound, learner.bound), -learner.bound)

    return jax.lax.map(lambda member: jax.vmap(lambda task: one(member, task))(tasks), population).T
