"""Evolution strategies: only public directions and how each of them scored; no gradient goes through the adaptation.

Song et al., "ES-MAML: simple Hessian-free meta learning" (2020), with antithetic pairs. Directions are rows of a
Hadamard matrix whose columns' signs are drawn anew in each round (Choromanski et al., "Structured evolution with
compact architectures for scalable policy optimization", 2018): entries are 1 and -1, so that steps along them are exact
everywhere, and rows are orthogonal as long as the parameters fill the matrix. What travels is `directions` numbers,
however large the network.

Ranks, which evolution strategies usually shape scores by, do not survive a sum over sites. Each task's score is clipped
to a public bound instead, which stops a single wild task as ranks would, and the server step sets the size.

Good: inner loops without gradients (rounding, search, hardware in the loop); few bytes; little to leak. Bad: slow where
parameters are many: with fewer directions than parameters a round sees a random part of the gradient alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Learner, Memory, _objective, _public
from commonprior.learners._inner import descend
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec, log_likelihood

_ROUND, _LAST = "evolution/round", 1 << 24


@final
@dataclass(frozen=True)
class Evolution(Learner):
    """`directions` pairs of priors, `reach` away on either side, are tried in a round; scores are clipped to `bound`.

    `inner` is how a task is learned: `descent` by gradient steps of size `inner_rate`, `search` by steps of that size
    in random directions, each kept only if the support's loss falls (their hill climbing).
    """

    network: Network
    directions: int = 64
    reach: float = 0.05
    bound: float = 5.0
    inner: Literal["descent", "search"] = "descent"
    inner_steps: int = 5
    inner_rate: float = 0.05
    seed: int = 0
    server: ServerStep = field(default_factory=lambda: ServerStep(rate=0.01))

    def __post_init__(self) -> None:
        for name in ("directions", "inner_steps"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected at least 1")
        for name in ("reach", "bound", "inner_rate"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected a number above 0")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"seed = {self.seed}: expected 0 to 2^63 - 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights."""
        prior = self.server.begin(_objective.fresh(self.network, spec, key))
        return prior.with_state({_ROUND: np.zeros(1, np.float32)})

    def length(self, prior: Prior) -> int:
        """Return the number of directions: the network's size does not matter."""
        return self.directions

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Tensors | None = None) -> Tensors:
        """Return the adapted weights."""
        return self._adapt(prior.params, support, key, start)

    def predict(self, prior: Prior, adapted: Tensors, x: Array, key: Array) -> Prediction:
        """Return what the adapted network says; every sample of a regression has the prior's one variance."""
        return _objective.predict(self.network, {**prior.params, **adapted}, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return one row a task: by how much each direction forward is better than backward, for a unit of reach."""
        rows = _scores(self, dict(prior.params), self.signs(prior), tasks, key)
        return Contributions(np.asarray(rows), "task"), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior: the directions times their mean scores are what the server steps along.

        Raises `ModelError` for a mean of another length.
        """
        mean = np.asarray(mean, np.float64)
        if mean.shape != (self.directions,):
            raise ModelError(f"expected {self.directions} mean scores, got shape {mean.shape}")
        new = self.server.apply(prior, self.improvement(prior, mean))
        return new.with_state({_ROUND: np.minimum(prior.state[_ROUND] + 1, _LAST).astype(np.float32)})

    def signs(self, prior: Prior) -> np.ndarray:
        """Return this round's directions [directions, d] int8, which anyone can draw: 1 and -1."""
        d = sum(value.size for value in prior.params.values())
        size = 1 << (max(d, self.directions) - 1).bit_length()
        words = ("evolution", self.seed, int(prior.state[_ROUND][0]))
        columns = _public.signs(d, *words, "columns")
        # An odd multiple runs through all rows before it comes back to one.
        odd, first = 2 * _public.integers(2, size, *words, "rows") + 1
        rows = (odd * np.arange(self.directions) + first) % size
        parity = np.bitwise_count(rows[:, None] & np.arange(d)[None, :]) & 1
        return ((1 - 2 * parity.astype(np.int8)) * columns).astype(np.int8)

    def improvement(self, prior: Prior, mean: np.ndarray) -> np.ndarray:
        """Return the direction [d] that the mean scores [directions] point to."""
        out = np.zeros(sum(value.size for value in prior.params.values()))
        for score, row in zip(mean, self.signs(prior), strict=True):
            out += score * row
        return out / self.directions

    def loss(self, params: Tensors, task: Task, key: Array) -> Array:
        """Return minus the log-likelihood of the query's labels, each on its own, after adapting to the support."""
        adapted = self._adapt(params, task.support, key, None)
        prediction = _objective.predict(self.network, {**params, **adapted}, task.query.x)
        return -log_likelihood(prediction, task.query).sum() / jnp.maximum((task.query.mask > 0).sum(), 1)

    def _adapt(self, params: Tensors, support: Batch, key: Array, start: Tensors | None) -> Tensors:
        def loss(weights: Tensors) -> Array:
            return _objective.fit(self.network, {**params, **weights}, support)

        start = _objective.weights(params) if start is None else start
        if self.inner == "descent":
            return descend(loss, start, self.inner_steps, self.inner_rate, first_order=True)
        return _climb(loss, start, key, self.inner_steps, self.inner_rate)


def _climb(loss: Callable[[Tensors], Array], start: Tensors, key: Array, steps: int, size: float) -> Tensors:
    """Return where random steps lead, of which those are kept that make the loss smaller."""

    def step(state: tuple[dict[str, Array], Array], key: Array) -> tuple[tuple[dict[str, Array], Array], None]:
        weights, least = state
        keys = dict(zip(sorted(weights), jax.random.split(key, len(weights))))
        tried = {n: w + size * jax.random.rademacher(keys[n], w.shape, w.dtype) for n, w in weights.items()}
        reached = loss(tried)
        best = {name: jnp.where(reached < least, tried[name], weights[name]) for name in weights}
        return (best, jnp.minimum(reached, least)), None

    return jax.lax.scan(step, (dict(start), loss(start)), jax.random.split(key, steps))[0][0]


@partial(jax.jit, static_argnums=0)
def _scores(learner: Evolution, params: Tensors, vectors: Array, tasks: Task, key: Array) -> Array:
    """Return scores [m, directions] of directions [directions, d]; all tries of a task share their luck."""
    centre = jnp.concatenate([jnp.ravel(params[name]) for name in sorted(params)])

    def loss(task: Task, at: Array) -> Array:
        return learner.loss(_cut(at, params), task, key)

    def score(task: Task, vector: Array) -> Array:
        step = learner.reach * vector.astype(centre.dtype)
        gain = (loss(task, centre - step) - loss(task, centre + step)) / (2 * learner.reach)
        # A prior so far off that its loss is no number has nothing to say about the direction.
        return jnp.clip(jnp.where(jnp.isfinite(gain), gain, 0), -learner.bound, learner.bound)

    # One direction after the other: all at once would hold as many networks, for every task.
    return jax.lax.map(lambda vector: jax.vmap(lambda task: score(task, vector))(tasks), vectors).T


def _cut(vector: Array, like: Tensors) -> dict[str, Array]:
    out, at = {}, 0
    for name in sorted(like):
        out[name] = vector[at : at + like[name].size].reshape(like[name].shape)
        at += like[name].size
    return out
