"""A perceptron whose layers are mixtures: of operations, and of widths as masks over one set of units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError
from commonprior.networks import Network
from commonprior.networks._inputs import rows_of_numbers
from commonprior.prior import Tensors
from commonprior.task import Array

OPERATIONS = ("relu", "tanh", "gelu", "none")
PREFIX = "architecture/"


@final
@dataclass(frozen=True)
class MixedLayers(Network):
    """`layers` layers, each a mixture of `widths` (ascending) and of all operations."""

    layers: int
    widths: tuple[int, ...]

    def init(self, example: Array, outputs: int, key: Array) -> dict[str, np.ndarray]:
        """Return weights and, named `architecture/…`, the logits of the mixtures, all 0."""
        inputs, units = rows_of_numbers(example, "log1p").shape[1], self.widths[-1]
        if inputs == 0 or outputs < 1:
            raise ModelError(f"a network needs inputs and outputs, got {inputs} and {outputs}; give the task columns")
        params: dict[str, np.ndarray] = {}
        fans = [inputs, *[units] * self.layers, outputs]
        keys = jax.random.split(key, self.layers + 1)
        for name, here, there, one in zip([*self.names(), "head"], fans[:-1], fans[1:], keys, strict=True):
            weight = jax.random.normal(one, (here, there), jnp.float32) / math.sqrt(here)
            params |= {f"{name}/weight": np.asarray(weight), f"{name}/bias": np.zeros(there, np.float32)}
        for name in self.names():
            params[f"{PREFIX}{name}/operation"] = np.zeros(len(OPERATIONS), np.float32)
            params[f"{PREFIX}{name}/width"] = np.zeros(len(self.widths), np.float32)
        return params

    def apply(self, params: Tensors, x: Array) -> Array:
        """Return [n, outputs]."""
        h = rows_of_numbers(x, "log1p")
        masks = np.arange(self.widths[-1]) < np.array(self.widths)[:, None]
        for name in self.names():
            h = h @ params[f"{name}/weight"] + params[f"{name}/bias"]
            shares = jax.nn.softmax(jnp.asarray(params[f"{PREFIX}{name}/operation"]))
            mixed = sum(share * op(h) for share, op in zip(shares, (jax.nn.relu, jnp.tanh, jax.nn.gelu, _same)))
            h = mixed * (jax.nn.softmax(jnp.asarray(params[f"{PREFIX}{name}/width"])) @ masks.astype(h.dtype))
        return h @ params["head/weight"] + params["head/bias"]

    def names(self) -> list[str]:
        """Return the layers' names, in their order."""
        digits = len(str(self.layers - 1))
        return [f"body/{i:0{digits}d}" for i in range(self.layers)]


def _same(h: Array) -> Array:
    return h
