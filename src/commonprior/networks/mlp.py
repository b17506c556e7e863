"""A multilayer perceptron, optionally with layer normalisation (Ba et al., "Layer normalization", 2016).

Layer normalisation and not batch normalisation: the latter lets one sample see the others of its batch, and so a query
its support. The parameters are plain named arrays, which is all that a prior is; a model of a framework becomes one in
the same way, by naming its leaves (for Equinox: `eqx.partition(model, eqx.is_array)`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import numpy as np

from commonprior.errors import ModelError, RecipeError
from commonprior.networks import Network
from commonprior.networks._inputs import CountScale, rows_of_numbers
from commonprior.networks._layers import GAIN, Activation, activation, normalised, weight
from commonprior.prior import Tensors
from commonprior.task import Array


@final
@dataclass(frozen=True)
class Mlp(Network):
    """`widths` are the hidden layers'; `layer_norm` normalises before each activation."""

    widths: tuple[int, ...] = (64, 64)
    activation: Activation = "relu"
    layer_norm: bool = False
    counts: CountScale = "log1p"

    def __post_init__(self) -> None:
        for width in self.widths:
            if width < 1:
                raise RecipeError(f"network.widths = {self.widths}: expected every layer to have at least 1 unit")

    def init(self, example: Array, outputs: int, key: Array) -> dict[str, np.ndarray]:
        """Return weights [in, out] and biases [out], `body/0/weight` … `head/bias`; biases are zero.

        Raises `ModelError` where a sample holds no number at all.
        """
        inputs = rows_of_numbers(example, self.counts).shape[1]
        if inputs == 0 or outputs < 1:
            raise ModelError(f"an MLP needs inputs and outputs, got {inputs} and {outputs}; give the task columns")
        params: dict[str, np.ndarray] = {}
        fans = [inputs, *self.widths]
        keys = jax.random.split(key, len(fans))
        for layer, fan_in, width, layer_key in zip(self._layers(), fans, self.widths, keys):
            params[f"{layer}/weight"] = weight(layer_key, (fan_in, width), GAIN[self.activation])
            params[f"{layer}/bias"] = np.zeros(width, np.float32)
            if self.layer_norm:
                params[f"{layer}/scale"] = np.ones(width, np.float32)
        params["head/weight"] = weight(keys[-1], (fans[-1], outputs))
        params["head/bias"] = np.zeros(outputs, np.float32)
        return params

    def apply(self, params: Tensors, x: Array) -> Array:
        """Return [n, outputs]."""
        h = rows_of_numbers(x, self.counts)
        act = activation(self.activation)
        for layer in self._layers():
            h = h @ params[f"{layer}/weight"]
            if self.layer_norm:
                h = normalised(h) * params[f"{layer}/scale"]
            h = act(h + params[f"{layer}/bias"])
        return h @ params["head/weight"] + params["head/bias"]

    def _layers(self) -> list[str]:
        # Names are sorted wherever a prior becomes a vector or bytes: with the zeros, layer 10 does not precede 2.
        digits = len(str(max(len(self.widths) - 1, 0)))
        return [f"body/{i:0{digits}d}" for i in range(len(self.widths))]
