"""Attention over a set, and the block of a transformer around it (Vaswani et al., "Attention is all you need", 2017).

A set may be empty: one more place to look, of logit 0 and value 0, is always there. Normalisation comes first in each
half of a block (Xiong et al., "On layer normalization in the transformer architecture", 2020), so that no warm-up of
the rate is needed.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.networks._layers import normalised, weight
from commonprior.prior import Tensors
from commonprior.task import Array

_PARTS = ("query", "key", "value", "out")


def fresh_attention(name: str, width: int, key: Array) -> dict[str, np.ndarray]:
    """Return `NAME/query` … `NAME/out`, each [width, width]."""
    keys = jax.random.split(key, len(_PARTS))
    return {f"{name}/{part}": weight(k, (width, width)) for part, k in zip(_PARTS, keys)}


def attend(params: Tensors, name: str, asking: Array, keys: Array, values: Array, mask: Array, heads: int) -> Array:
    """Return [n, width]: what those asking [n, width] read from values [m, width] at keys [m, width]; mask is [m]."""

    def split(h: Array, part: str) -> Array:
        return (h @ params[f"{name}/{part}"]).reshape(len(h), heads, -1)

    asked, found, told = split(asking, "query"), split(keys, "key"), split(values, "value")
    logits = jnp.einsum("nhd,mhd->nhm", asked, found) / math.sqrt(asked.shape[-1])
    nowhere = jnp.zeros((*logits.shape[:-1], 1), logits.dtype)
    shares = jax.nn.softmax(jnp.concatenate([jnp.where(mask > 0, logits, -jnp.inf), nowhere], -1))[..., :-1]
    return jnp.einsum("nhm,mhd->nhd", shares, told).reshape(len(asking), -1) @ params[f"{name}/out"]


def fresh_block(name: str, width: int, key: Array) -> dict[str, np.ndarray]:
    """Return an attention and a layer of twice the width."""
    first, second, third = jax.random.split(key, 3)
    return fresh_attention(name, width, first) | {
        f"{name}/scale": np.ones((2, width), np.float32),
        f"{name}/in": weight(second, (width, 2 * width), 2.0),
        f"{name}/in_bias": np.zeros(2 * width, np.float32),
        f"{name}/back": weight(third, (2 * width, width)),
    }


def block(params: Tensors, name: str, h: Array, others: Array, mask: Array, heads: int) -> Array:
    """Return h [n, width] after it has looked at others [m, width] and thought about it."""
    scale = params[f"{name}/scale"]
    others = normalised(others) * scale[0]
    h = h + attend(params, name, normalised(h) * scale[0], others, others, mask, heads)
    inner = jax.nn.gelu(normalised(h) * scale[1] @ params[f"{name}/in"] + params[f"{name}/in_bias"])
    return h + inner @ params[f"{name}/back"]
