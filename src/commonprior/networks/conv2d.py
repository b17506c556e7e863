"""A convolutional network on images: the four blocks of 64 filters that few-shot learners are compared by.

Vinyals et al., "Matching networks for one shot learning" (2016), section 4.1, with layer normalisation (Ba et al.,
2016) where they have batch normalisation, which lets one sample see the others of its batch, and a query its support.

Good at: small images, 28 x 28 x 1 in under a millisecond a sample on a core. Bad at: large ones (every block computes
at full resolution before it halves), and tables, which have no neighbourhood.
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
class Conv2d(Network):
    """Each of `channels` is a block: a convolution of `size` x `size`, a halving by maxima, normalisation, ReLU."""

    channels: tuple[int, ...] = (64, 64, 64, 64)
    size: int = 3

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise RecipeError(f"network.channels = {self.channels}: expected one block or more, each of at least 1")
        if self.size < 1:
            raise RecipeError(f"network.size = {self.size}: expected at least 1")

    def init(self, example: Array, outputs: int, key: Array) -> dict[str, np.ndarray]:
        """Return `body/0/weight` [size, size, in, out] … `head/bias` for samples [height, width, channels].

        Raises `ModelError` where samples have another shape, or are too small to be halved as often.
        """
        shape = _convolution.check_shape(example, 2, len(self.channels), "conv2d")
        return _convolution.fresh(shape, self.channels, self.size, outputs, key)

    def apply(self, params: Tensors, x: Array) -> Array:
        """Return [n, outputs] for images [n, height, width, channels]."""
        return _convolution.run(params, x, len(self.channels))
