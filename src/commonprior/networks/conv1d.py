"""A convolutional network on signals: time series, spectra, vibrations.

The blocks are those of Vinyals et al., "Matching networks for one shot learning" (2016), in one dimension, with layer
normalisation (Ba et al., 2016).

Good at: patterns that may occur anywhere in a signal of fixed length and even sampling. Bad at: gaps and uneven
sampling (`attention` takes sets), and lengths that differ between samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from commonprior.errors import RecipeError
from commonprior.networks import Network, _convolution
from commonprior.prior import Tensors
from commonprior.task import Array


@final
@dataclass(frozen=True)
class Conv1d(Network):
    """Each of `channels` is a block: a convolution over `size` steps, a halving by maxima, normalisation, ReLU."""

    channels: tuple[int, ...] = (32, 32, 32)
    size: int = 5

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise RecipeError(f"network.channels = {self.channels}: expected one block or more, each of at least 1")
        if self.size < 1:
            raise RecipeError(f"network.size = {self.size}: expected at least 1")

    def init(self, example: Array, outputs: int, key: Array) -> dict[str, np.ndarray]:
        """Return `body/0/weight` [size, in, out] … `head/bias` for samples [length, channels].

        Raises `ModelError` where samples have another shape, or are too short to be halved as often.
        """
        shape = _convolution.check_shape(example, 1, len(self.channels), "conv1d")
        return _convolution.fresh(shape, self.channels, self.size, outputs, key)

    def apply(self, params: Tensors, x: Array) -> Array:
        """Return [n, outputs] for signals [n, length, channels]."""
        return _convolution.run(params, x, len(self.channels))
