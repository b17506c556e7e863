"""Attentive neural processes: a network that reads a whole support and says, for any query, what to expect.

Garnelo et al., "Conditional neural processes" and "Neural processes" (2018); Kim et al., "Attentive neural processes"
(2019): queries attend to the support, so that what was seen is met, which a mean over the support cannot. The latent
path is learned by the likelihood of several draws of it from the support alone (Foong et al., "Meta-learning stationary
stochastic process prediction with convolutional neural processes", 2020, section 4.2) and not by a variational bound:
what is trained is what predicts.

Good at: one pass instead of an inner loop, uncertainty that differs from query to query, many tasks to learn from. Bad
at: few tasks (it has to learn how to learn, where a kernel method knows), inputs beyond those of its training, and, as
every network that amortises, supports much larger than it was trained with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Learner, Memory, _answers, _comparing, _local
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.networks._attention import attend, block, fresh_attention, fresh_block
from commonprior.networks._layers import weight
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Categorical, Gaussian, Prediction, Task, TaskSpec

_LABEL, _LATENT_IN, _LATENT_OUT = "reading/label", "latent/in", "latent/out"
_IN, _IN_BIAS, _OUT, _OUT_BIAS = "saying/in", "saying/in_bias", "saying/out", "saying/out_bias"


class Read(NamedTuple):
    """A task's samples so far: their features [n, e] and labels [n, l], which of them are known [n]."""

    features: Array
    labels: Array
    known: Array


class Drawn(NamedTuple):
    """A task, and the standard normal numbers [draws, latent] by which its latent is drawn."""

    support: Batch
    query: Batch
    noise: Array


@final
@dataclass(frozen=True)
class NeuralProcess(Learner):
    """The network gives `features` numbers. `latent` numbers, where not 0, are drawn `draws` times a prediction."""

    network: Network
    features: int = 64
    heads: int = 4
    latent: int = 0
    draws: int = 8
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        if self.heads < 1 or self.features < 1 or self.features % self.heads:
            raise RecipeError(f"features = {self.features}: expected a multiple of heads = {self.heads}")
        if self.latent < 0 or self.draws < 1:
            raise RecipeError(f"latent = {self.latent}, draws = {self.draws}: expected at least 0 and 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights. Raises `ModelError` where the network does not give `features` numbers a sample."""
        example, e, (label, outputs) = spec.example(), self.features, _answers.numbers(spec)
        keys = jax.random.split(key, 8)
        params = {n: np.asarray(v, np.float32) for n, v in self.network.init(example, e, keys[0]).items()}
        _comparing.check_output(self.network, params, example, e)
        params |= {_LABEL: weight(keys[1], (label, e))}
        params |= fresh_block("reading/among", e, keys[2]) | fresh_attention("reading/across", e, keys[3])
        if self.latent:
            params[_LATENT_IN] = weight(keys[4], (e, e), 2.0)
            params[_LATENT_OUT] = weight(keys[5], (e, 2 * self.latent))
        params |= {
            _IN: weight(keys[6], (2 * e + self.latent, 2 * e), 2.0),
            _IN_BIAS: np.zeros(2 * e, np.float32),
            _OUT: weight(keys[7], (2 * e, outputs)),
            _OUT_BIAS: np.zeros(outputs, np.float32),
        }
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Read | None = None) -> Read:
        """Return what was read of the support; after `start`, together with its samples."""
        read = self._read(prior.params, support)
        return read if start is None else Read(*(jnp.concatenate(pair) for pair in zip(start, read)))

    def predict(self, prior: Prior, adapted: Read, x: Array, key: Array) -> Prediction:
        """Return what the process says; where it has a latent, the mixture of its draws (a Gaussian of its moments)."""
        noise = jax.random.normal(key, (self.draws, self.latent), adapted.features.dtype)
        each = self._predict(prior.params, adapted, x, noise)
        if isinstance(each, Categorical):
            return Categorical(jax.nn.logsumexp(jax.nn.log_softmax(each.logits), axis=0))
        mean = each.mean.mean(0)
        return Gaussian(mean, each.variance.mean(0) + ((each.mean - mean) ** 2).mean(0))

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the gradient of each task, or the site's own steps (see `LocalWork`)."""
        shape = (len(tasks.query.mask), self.draws, self.latent)
        kind = jnp.result_type(tasks.query.mask)
        noise = jax.random.normal(key, shape, kind) if self.latent else np.zeros(shape, kind)
        drawn = Drawn(*tasks, noise)
        # A task with one more leaf, and so as good as any for whoever stacks, splits and differentiates.
        return _local.contribute(self, prior, drawn), memory  # pyright: ignore[reportArgumentType]

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def meta_loss(self, params: Tensors, task: Drawn) -> Array:
        """Return minus the log-likelihood of the query's labels together, given the support, per label."""
        each = self._predict(params, self._read(params, task.support), task.query.x, task.noise)
        n = jnp.maximum((task.query.mask > 0).sum(), 1)
        fits = jax.vmap(lambda prediction: -n * _comparing.surprise(prediction, task.query))(each)
        return -(jax.nn.logsumexp(fits) - jnp.log(len(fits))) / n

    def _read(self, params: Tensors, support: Batch) -> Read:
        features = self.network.apply(params, support.x)
        labels = _answers.encoded(support, len(params[_LABEL]), features)
        return Read(features, labels, (jnp.asarray(support.mask) > 0).astype(features.dtype))

    def _predict(self, params: Tensors, read: Read, x: Array, noise: Array) -> Prediction:
        """Return the predictions [draws, n]; one, where there is no latent."""
        asking = self.network.apply(params, x)
        pairs = read.features + read.labels @ params[_LABEL]
        pairs = block(params, "reading/among", pairs, pairs, read.known, self.heads)
        found = attend(params, "reading/across", asking, read.features, pairs, read.known, self.heads)
        h = jnp.concatenate([asking, found], 1)

        def say(latent: Array) -> Prediction:
            whole = jnp.concatenate([h, jnp.broadcast_to(latent, (len(h), len(latent)))], 1)
            inner = jax.nn.gelu(whole @ params[_IN] + params[_IN_BIAS])
            return _answers.say(inner @ params[_OUT] + params[_OUT_BIAS], len(params[_LABEL]))

        if not self.latent:
            return jax.tree.map(lambda leaf: leaf[None], say(jnp.zeros(0, h.dtype)))
        whole = (read.known @ jax.nn.gelu(pairs @ params[_LATENT_IN])) / jnp.maximum(read.known.sum(), 1)
        centre, width = jnp.split(whole @ params[_LATENT_OUT], 2)
        return jax.vmap(lambda numbers: say(centre + jax.nn.softplus(width) * numbers))(noise)
