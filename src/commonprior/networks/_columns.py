"""A row as a set of (column, value): columns that are absent are not there, and their order means nothing.

A column is known by what it is called, in which unit and of which kind: 64 bits of a SHA-256 of these, from which a
learned map makes its vector. So the parameters do not depend on which columns a table has, sites whose tables differ
learn one prior, and one column is the same wherever it stands. A column's slots (categories, elements, bits of a
fingerprint) are known in the same way; those of formulas and molecules without the column's name, as an element is the
same element in any column.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from commonprior.errors import ModelError
from commonprior.networks._attention import block, fresh_block
from commonprior.networks._layers import normalised, weight
from commonprior.prior import Tensors
from commonprior.task import Array, Column, Rows

_WORDS, _BITS = 4, 16
"""Identities as four numbers of 16 bits: exact in float32, and so in a prior."""

_MOST = 256
"""Every column looks at every other: more would take long, and such inputs are better read by another network."""


class Layout(NamedTuple):
    """Who is who: `columns` [g, 4] and `slots` [s, 5] float32, whose last number is the slot's column.

    Slots are in the order of `Rows`: those of values first, then those of counts.
    """

    columns: np.ndarray
    slots: np.ndarray


def layout(columns: Sequence[Column], example: Array) -> Layout:
    """Return the layout of rows with these columns; without columns, each number of an input is one, by its place.

    Raises `ModelError` where the columns are not those of the example, or too many.
    """
    if not isinstance(example, Rows):
        size = math.prod(np.shape(example)[1:])
        columns = [Column(f"input {i}") for i in range(size)]
    if not 1 <= len(columns) <= _MOST:
        raise ModelError(
            f"{len(columns)} columns to attend to, expected 1 to {_MOST}; take another network for such inputs"
        )
    counted = [c.kind in ("smiles", "formula") for c in columns]
    owners = [g for late in (False, True) for g, c in enumerate(columns) if counted[g] is late for _ in range(c.slots)]
    nth = [i for late in (False, True) for g, c in enumerate(columns) if counted[g] is late for i in range(c.slots)]
    if isinstance(example, Rows):
        values, present, counts = (leaf.shape[1] for leaf in example)
        if (len(columns), len(owners)) != (present, values + counts):
            raise ModelError(
                f"network.columns: {len(columns)} columns of {len(owners)} slots, but the rows have {present} of "
                f"{values + counts}; give the columns of the tasks' spec, in its order"
            )
    slots = [[*_words(_slot(columns[g], i)), g] for g, i in zip(owners, nth)]
    return Layout(
        np.array([_words([c.name, c.unit, c.kind, c.transform]) for c in columns], np.float32),
        np.array(slots, np.float32),
    )


def fresh(width: int, key: Array) -> dict[str, np.ndarray]:
    """Return the maps from identities to vectors, a layer for each (column, value), and a block across them."""
    keys = jax.random.split(key, 5)
    bits = _WORDS * _BITS
    return {
        "body/column": weight(keys[0], (bits, width)),
        "body/slot": weight(keys[1], (bits, width)),
        "body/pair/in": weight(keys[2], (width, width), 2.0),
        "body/pair/in_bias": np.zeros(width, np.float32),
        "body/pair/out": weight(keys[3], (width, width)),
        **fresh_block("body/across", width, keys[4]),
    }


def rows(params: Tensors, known: Layout, x: Array, heads: int) -> Array:
    """Return a vector [n, width] for each row of x: `Rows`, or an array [n, ...]."""
    numbers, present = _numbers(x, len(known.columns))
    owner = known.slots[:, -1:] == jnp.arange(len(known.columns))
    slots = _signs(known.slots[:, :-1]) @ params["body/slot"]
    read = (owner[:, :, None] * slots[:, None, :]).reshape(len(slots), -1)
    pairs = (numbers @ read).reshape(len(numbers), len(known.columns), -1)
    pairs = pairs + _signs(known.columns) @ params["body/column"]
    pairs = jax.nn.gelu(pairs @ params["body/pair/in"] + params["body/pair/in_bias"]) @ params["body/pair/out"]
    pairs = jax.vmap(lambda h, mask: block(params, "body/across", h, h, mask, heads))(pairs, present)
    there = (present > 0)[..., None]
    return normalised(jnp.where(there, pairs, 0).sum(1) / jnp.maximum(there.sum(1), 1))


def _numbers(x: Array, columns: int) -> tuple[Array, Array]:
    if isinstance(x, Rows):
        return jnp.concatenate([x.values, jnp.log1p(x.counts)], -1), jnp.asarray(x.present)
    flat = jnp.reshape(x, (len(x), -1))
    return flat, jnp.ones((len(flat), columns), flat.dtype)


def _slot(column: Column, i: int) -> list[str]:
    if column.kind in ("smiles", "formula"):
        kind = column.kind if column.fingerprint == "morgan" else f"{column.kind}, {column.fingerprint}"
        return [kind, str(column.slots), str(i)]
    return [column.name, column.unit, column.kind, column.categories[i] if column.categories else str(i)]


def _words(parts: list[str]) -> list[int]:
    data = b"".join(len(part.encode()).to_bytes(4, "little") + part.encode() for part in parts)
    digest = hashlib.sha256(b"commonprior/column/1" + data).digest()
    return [int.from_bytes(digest[2 * i : 2 * i + 2], "little") for i in range(_WORDS)]


def _signs(words: Array) -> Array:
    """Return 1 and -1 [..., 64] for the bits of words [..., 4]."""
    bits = jnp.floor(jnp.asarray(words)[..., None] / 2.0 ** np.arange(_BITS)) % 2
    return (2 * bits - 1).reshape(*words.shape[:-1], -1)
