"""Blocks of convolution, pooling, layer normalisation and ReLU, in any number of dimensions; channels last.

Pooling comes before normalisation: it commutes with ReLU, and what follows has a quarter of the numbers to go through,
which on a CPU is most of the time of a step.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError
from commonprior.networks._layers import GAIN, normalised, weight
from commonprior.prior import Tensors
from commonprior.task import Array, Rows

_LETTERS = "HW"


def check_shape(x: Array, dimensions: int, blocks: int, called: str) -> tuple[int, ...]:
    """Return the shape of one sample, [..., channels]; raise `ModelError` where the blocks cannot take it."""
    wanted = "height, width, channels" if dimensions == 2 else "length, channels"
    if isinstance(x, Rows):
        sizes = [leaf.shape[1] for leaf in x]
        raise ModelError(
            f"a {called} takes samples of shape [{wanted}], got rows of a table ({sizes[0]} values, {sizes[1]} "
            f'columns, {sizes[2]} counts); take kind = "mlp" or "attention"'
        )
    shape = tuple(np.shape(x)[1:])
    if len(shape) != dimensions + 1:
        raise ModelError(f"a {called} takes samples of shape [{wanted}], got {list(shape)}; reshape them, or add a 1")
    if min(shape[:-1]) >> blocks < 1:
        most = int(math.log2(min(shape[:-1])))
        raise ModelError(
            f"a {called} of {blocks} blocks halves samples of shape {list(shape)} to nothing; take at most {most}"
        )
    return shape


def fresh(shape: tuple[int, ...], channels: tuple[int, ...], size: int, outputs: int, key: Array) -> dict[
    str, np.ndarray
]:  # fmt: skip
    """Return weights [size, ..., in, out], biases and scales [out] of each block, and a linear head."""
    dimensions, fan = len(shape) - 1, shape[-1]
    keys = jax.random.split(key, len(channels) + 1)
    params: dict[str, np.ndarray] = {}
    for name, width, block_key in zip(names(len(channels)), channels, keys):
        params[f"{name}/weight"] = weight(block_key, (size,) * dimensions + (fan, width), GAIN["relu"])
        params[f"{name}/scale"] = np.ones(width, np.float32)
        params[f"{name}/bias"] = np.zeros(width, np.float32)
        fan = width
    left = math.prod(side >> len(channels) for side in shape[:-1])
    params["head/weight"] = weight(keys[-1], (left * fan, outputs))
    params["head/bias"] = np.zeros(outputs, np.float32)
    return params


def run(params: Tensors, x: Array, blocks: int) -> Array:
    """Return [n, outputs]."""
    h, dimensions = x, np.ndim(x) - 2
    layout = f"N{_LETTERS[:dimensions]}C", f"{_LETTERS[:dimensions]}IO", f"N{_LETTERS[:dimensions]}C"
    for name in names(blocks):
        h = jax.lax.conv_general_dilated(
            h, jnp.asarray(params[f"{name}/weight"]), (1,) * dimensions, "SAME", dimension_numbers=layout
        )
        h = normalised(_halved(h), tuple(range(1, dimensions + 2)))
        h = jax.nn.relu(h * params[f"{name}/scale"] + params[f"{name}/bias"])
    return h.reshape(len(h), -1) @ params["head/weight"] + params["head/bias"]


def names(blocks: int) -> list[str]:
    """Return the names of the blocks, which sort in their order."""
    digits = len(str(max(blocks - 1, 0)))
    return [f"body/{i:0{digits}d}" for i in range(blocks)]


def _halved(h: Array) -> Array:
    # A reshape and a maximum: on a CPU, twice as fast as a window that is reduced.
    for axis in range(1, h.ndim - 1):
        side = h.shape[axis] // 2
        h = jax.lax.slice_in_dim(h, 0, 2 * side, axis=axis)
        h = h.reshape(*h.shape[:axis], side, 2, *h.shape[axis + 1 :]).max(axis + 1)
    return h
