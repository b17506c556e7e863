"""A memory beside a network: samples are written into slots, and read again by what they are like.

Santoro et al., "Meta-learning with memory-augmented neural networks" (2016), section 3: reading by cosines, writing to
the least recently used slot. Three things differ. A support is written all at once, each sample to a slot of its own
(Graves et al., "Hybrid computing using a neural network with dynamic external memory", 2016, allocate in the same way),
so that its order changes nothing. There is no recurrent controller, but a few readings of each query. And some slots
are lasting: learned by all sites in common, they are part of the prior.

Good at: streams. What is known of a task never takes more than `slots` places, however often it goes on; slots that new
samples are like stay longest. Bad at: supports of more than `slots` samples at once, which are refused; averaging over
many noisy samples. Where more came in than fits, and two slots were used equally, the order of their support decides
which one is lost: only there does it matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.learners import Learner, Memory, _answers, _comparing, _local
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.networks import Network
from commonprior.networks._layers import normalised, weight
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec

_LABEL, _SHARP, _AGAIN, _IN, _IN_BIAS, _OUT, _OUT_BIAS = (
    f"reading/{name}" for name in ("label", "sharpness", "again", "in", "in_bias", "out", "out_bias")
)
_LASTING_KEYS, _LASTING_VALUES = "lasting/keys", "lasting/values"


class Slots(NamedTuple):
    """A task's memory: `keys` and `values` [slots, e], `usage` [slots], 0 where nothing was written yet."""

    keys: Array
    values: Array
    usage: Array


@final
@dataclass(frozen=True)
class MemoryAugmented(Learner):
    """`slots` samples fit a task's memory, `lasting` slots are the prior's, and a query is read for `reads` times.

    `decay` is what is left of a slot's usage after each support.
    """

    network: Network
    features: int = 32
    slots: int = 128
    lasting: int = 16
    reads: int = 2
    decay: float = 0.9
    local: LocalWork = field(default_factory=LocalWork)
    server: ServerStep = field(default_factory=ServerStep)

    def __post_init__(self) -> None:
        for name in ("features", "slots", "lasting", "reads"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} = {getattr(self, name)}: expected at least 1")
        if not 0 < self.decay < 1:
            raise RecipeError(f"decay = {self.decay}: expected a number between 0 and 1")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return fresh weights. Raises `ModelError` where the network does not give `features` numbers a sample."""
        example, e, (label, outputs) = spec.example(), self.features, _answers.numbers(spec)
        keys = jax.random.split(key, 7)
        params = {n: np.asarray(v, np.float32) for n, v in self.network.init(example, e, keys[0]).items()}
        _comparing.check_output(self.network, params, example, e)
        params |= {
            _LABEL: weight(keys[1], (label, e)),
            _SHARP: np.full(1, math.log(5), np.float32),
            _AGAIN: weight(keys[2], (2 * e, e)),
            _IN: weight(keys[3], (2 * e, 2 * e), 2.0),
            _IN_BIAS: np.zeros(2 * e, np.float32),
            _OUT: weight(keys[4], (2 * e, outputs)),
            _OUT_BIAS: np.zeros(outputs, np.float32),
            _LASTING_KEYS: weight(keys[5], (self.lasting, e), self.lasting),
            _LASTING_VALUES: weight(keys[6], (self.lasting, e)),
        }
        return self.server.begin(params)

    def length(self, prior: Prior) -> int:
        """Return the number of parameters."""
        return sum(value.size for value in prior.params.values())

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Slots | None = None) -> Slots:
        """Return the memory with the support in it, in the place of the least used of `start`.

        Raises `ModelError` where the support has more rows than the memory slots.
        """
        return self._write(prior.params, support, start)

    def predict(self, prior: Prior, adapted: Slots, x: Array, key: Array) -> Prediction:
        """Return what a query and its readings say."""
        return self._predict(prior.params, adapted, x)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return minus the gradient of each task, or the site's own steps (see `LocalWork`)."""
        return _local.contribute(self, prior, tasks), memory

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Return the next prior."""
        return self.server.apply(prior, mean)

    def meta_loss(self, params: Tensors, task: Task) -> Array:
        """Return minus the log-likelihood of the query's labels after the support was written, per label."""
        written = self._write(params, task.support, None)
        return _comparing.surprise(self._predict(params, written, task.query.x), task.query)

    def _write(self, params: Tensors, support: Batch, start: Slots | None) -> Slots:
        n, e = len(support.mask), self.features
        if n > self.slots:
            raise ModelError(
                f"a support of {n} rows for a memory of {self.slots} slots; set slots = {n}, or take fewer"
            )
        features = self.network.apply(params, support.x)
        if start is None:
            empty = jnp.zeros((self.slots, e), features.dtype)
            start = Slots(empty, empty, jnp.zeros(self.slots, features.dtype))
        known = jnp.asarray(support.mask) > 0
        _, shares = _read(params, start, features)
        # At most 1, as of a slot just written: however many samples read a slot, it is no more recent than now.
        usage = jnp.maximum(self.decay * start.usage, jnp.where(known[:, None], shares, 0).max(0))
        # The i-th sample that is no padding goes to the i-th of the least used; padding to a slot that does not exist.
        rank = jnp.where(known, jnp.cumsum(known) - 1, 0)
        slot = jnp.where(known, jnp.argsort(jax.lax.stop_gradient(usage))[rank], self.slots)
        label = params[_LABEL]
        values = _answers.encoded(support, len(label), features) @ label
        return Slots(
            start.keys.at[slot].set(features, mode="drop"),
            start.values.at[slot].set(values, mode="drop"),
            usage.at[slot].set(1, mode="drop"),
        )

    def _predict(self, params: Tensors, memory: Slots, x: Array) -> Prediction:
        features = asking = self.network.apply(params, x)
        read, _ = _read(params, memory, asking)
        for _ in range(self.reads - 1):
            asking = features + jnp.tanh(jnp.concatenate([asking, read], 1) @ params[_AGAIN])
            read, _ = _read(params, memory, asking)
        h = jnp.concatenate([normalised(features), read], 1)
        h = jax.nn.gelu(h @ params[_IN] + params[_IN_BIAS])
        return _answers.say(h @ params[_OUT] + params[_OUT_BIAS], len(params[_LABEL]))


def _read(params: Tensors, memory: Slots, asking: Array) -> tuple[Array, Array]:
    """Return what each of those asking [n, e] reads [n, e], and its shares [n, slots] of the task's own slots."""
    keys = jnp.concatenate([memory.keys, params[_LASTING_KEYS]])
    values = jnp.concatenate([memory.values, params[_LASTING_VALUES]])
    written = jnp.concatenate([memory.usage > 0, jnp.ones(len(keys) - len(memory.keys), bool)])
    cosines = _of_length_1(asking) @ _of_length_1(keys).T
    shares = jax.nn.softmax(jnp.where(written, jnp.exp(params[_SHARP][0]) * cosines, -jnp.inf))
    return shares @ values, shares[:, : len(memory.keys)]


def _of_length_1(features: Array) -> Array:
    return features * jax.lax.rsqrt((features**2).sum(-1, keepdims=True) + 1e-6)
