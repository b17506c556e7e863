"""PACOH: several Gaussian-process priors at once, learned with a bound on how far they may overfit the tasks.

Rothfuss, Fortuin, Josifoski & Krause, "PACOH: Bayes-optimal meta-learning with PAC-guarantees" (2021), PACOH-GP. A
particle is a mean function and a deep kernel; particles climb the tasks' marginal likelihoods plus a hyper-prior and
keep apart (Liu & Wang, "Stein variational gradient descent", 2016). Sites send what the tasks say to each particle;
how particles keep apart needs no data, so it happens in `apply`, with the inverse multiquadric kernel (Gorham &
Mackey, "Measuring sample quality with kernels", 2017), which needs square roots alone and is the same everywhere.

Good: few tasks, where one learned kernel is sure of what it cannot know; intervals that hold. Bad: as many times the
size, bytes and time of `dkt` as there are particles. (We train by the marginal likelihood, as the bound asks for.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Learner, Memory, _functions, _gp, _local, _mixture, _public
from commonprior.learners._gp import Posterior
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.prior import Contributions, Prior, Tensors, flatten, unflatten
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec

_NOISE, _SIZE, _CONSTANT = "noise", "kernel/amplitude", "kernel/constant"

_CENTRES = {_NOISE: -2.302585, _SIZE: 0.0, _CONSTANT: -2.302585}
"""Logarithms of 0.1, 1 and 0.1, about which a kernel's numbers start and are held; weights are about 0."""


class Known(NamedTuple):
    """A task's samples so far; each particle's features [p, n, e] of them and its posterior given them."""

    support: Batch
    features: Array
    posterior: Posterior


@final
@dataclass(frozen=True)
class Pacoh(Learner):
    """`particles` priors. `tasks` is how many tasks all sites have together: the fewer, the more the hyper-prior says.

    `spread` is the hyper-prior's standard deviation about fresh parameters' centre, 0 for weights.
    """

    network: Network
    particles: int = 4
    features: int = 16
    tasks: int = 100
    spread: float = 1.0
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        for name in ("particles", "features", "tasks"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected at least 1")
        if not self.spread > 0:
            raise RecipeError(f"spread = {self.spread}: expected a number above 0")

    @property
    def local(self) -> LocalWork:
        """One gradient a task, as it is: particles move in `apply`."""
        return LocalWork(rate=1.0)

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh particles, stacked: each tensor [particles, ...]."""
        members = []
        for one in jax.random.split(key, self.particles):
            weights = self.network.init(spec.example(), self.features + spec.outputs, one)
            members.append({name: np.asarray(value, np.float32) for name, value in weights.items()})
        params = {f"network/{name}": np.stack([member[name] for member in members]) for name in members[0]}
        for name, centre in _CENTRES.items():
            params[name] = np.full((self.particles, 1), centre, np.float32)
        params["mean"] = np.tile(_functions.fresh_mean(spec), (self.particles, 1))
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters of all particles."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Known | None = None) -> Known:
        """Return each particle's posterior; after `start`, that of its samples and these together."""
        if start is not None:
            support = _functions.together(start.support, support)
        features, posterior = jax.vmap(lambda one: self._know(one, support))(dict(prior.params))
        return Known(jax.tree.map(jnp.asarray, support), features, posterior)

    def predict(self, prior: Prior, adapted: Known, x: Array, key: Array) -> Prediction:
        """Return the mixture of the particles' posterior predictive distributions, noise included."""

        def one(params: Tensors, features: Array, posterior: Posterior) -> Prediction:
            new, centre = self._split(params, x)
            cross = _covariance(params, new, features)
            variance = jnp.exp(params[_CONSTANT][0]) + jnp.exp(params[_SIZE][0])
            mean, variance = _gp.predict(posterior, cross, adapted.support.mask, variance)
            return _functions.say(mean + centre, variance + jnp.exp(params[_NOISE][0]))

        return _mixture.mix(jax.vmap(one)(dict(prior.params), adapted.features, adapted.posterior))

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return one row a task: the gradient of each particle's log marginal likelihood, per label."""
        return _local.contribute(self, prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior: what the tasks say, the hyper-prior and the particles' distances, together.

        Raises `ModelError` for a mean of another length.
        """
        mean = np.asarray(mean, np.float64)
        if mean.shape != (self.length(prior),):
            raise ModelError(f"expected a mean update of {self.length(prior)} numbers, got shape {mean.shape}")
        at, slopes = _as_particles(prior.params), _as_particles(unflatten(mean, prior.params))
        centre = _as_particles({n: np.full_like(v, _CENTRES.get(n, 0.0)) for n, v in prior.params.items()})
        moved = self.stein(at, slopes - (at - centre) / (self.tasks * self.spread * self.spread))
        return self.server.apply(prior, flatten(_as_tensors(moved, prior.params)))

    def stein(self, at: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Return the particles' steps [p, d] from where they are [p, d] and their log densities' slopes [p, d]."""
        p = len(at)
        apart = at[:, None, :] - at[None, :, :]
        squares = _public.total(np.moveaxis(apart * apart, -1, 0))
        width = float(np.sort(squares[np.triu_indices(p, 1)])[p * (p - 1) // 4]) if p > 1 else 1.0
        width = width if width > 0 else 1.0
        alike = 1 / np.sqrt(1 + squares / width)
        away = (alike * alike * alike)[:, :, None] * apart / (width * self.tasks)
        return _public.total(np.moveaxis(alike[:, :, None] * slopes[None, :, :] + away, 1, 0)) / p

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return the sum over particles of minus the log marginal likelihood of all of the task's labels, per label."""
        both = _functions.together(*task)

        def one(particle: Tensors) -> Array:
            centred = self._centred(particle, both)[1]
            return _gp.surprise(self._know(particle, both)[1], both.mask, centred)

        return jax.vmap(one)(dict(params)).sum()

    def _split(self, params: Tensors, x: Array) -> tuple[Array, Array]:
        """Return a particle's features [n, e] and means [n, k] of samples."""
        weights = {n.removeprefix("network/"): v for n, v in params.items() if n.startswith("network/")}
        outputs = self.network.apply(weights, x)
        return outputs[:, : self.features], outputs[:, self.features :] + params["mean"]

    def _centred(self, params: Tensors, batch: Batch) -> tuple[Array, Array]:
        features, centre = self._split(params, batch.x)
        return features, _functions.labels(jnp.zeros(centre.shape[1], centre.dtype), batch) - centre

    def _know(self, params: Tensors, batch: Batch) -> tuple[Array, Posterior]:
        features, labels = self._centred(params, batch)
        gram = _covariance(params, features, features)
        return features, _gp.condition(gram, jnp.exp(params[_NOISE][0]), batch.mask, labels)


def _covariance(params: Tensors, a: Array, b: Array) -> Array:
    apart = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    alike = jnp.exp(-0.5 * jnp.maximum(apart, 0) / a.shape[1])
    return jnp.exp(params[_CONSTANT][0]) + jnp.exp(params[_SIZE][0]) * alike


def _as_particles(tensors: Tensors) -> np.ndarray:
    """Return tensors [p, ...] as float64 rows [p, d], by sorted name."""
    return np.concatenate(
        [np.asarray(tensors[name], np.float64).reshape(len(tensors[name]), -1) for name in sorted(tensors)], axis=1
    )


def _as_tensors(rows: np.ndarray, like: Tensors) -> dict[str, np.ndarray]:
    out, at = {}, 0
    for name in sorted(like):
        n = like[name][0].size
        out[name] = rows[:, at : at + n].reshape(like[name].shape)
        at += n
    return out
