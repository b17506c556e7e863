"""A network over sets: each row is the set of its (column, value) pairs, which look at each other.

Zaheer et al., "Deep sets" (2017); Lee et al., "Set transformer" (2019); Vaswani et al., "Attention is all you need"
(2017). Columns are known by name, unit and kind (see `_columns`): their order changes nothing, an absent one is not
there at all, and the number of parameters does not depend on how many there are.

Good at: tables whose sites measure different columns. Bad at: wide inputs (time grows with the square of the columns,
256 at most), images and signals (`conv2d`, `conv1d`), and tables that everyone fills in completely, where an `mlp` is
ten times as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import numpy as np

from commonprior.errors import RecipeError
from commonprior.networks import Network, _columns
from commonprior.networks._layers import weight
from commonprior.prior import Tensors
from commonprior.task import Array, Column


@final
@dataclass(frozen=True)
class Attention(Network):
    """`columns` are the spec's, in its order; inputs that are no table have none, and are known by their places."""

    columns: tuple[Column, ...] = ()
    width: int = 64
    heads: int = 4

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise RecipeError(f"network.width = {self.width}: expected a multiple of heads = {self.heads}")

    def init(self, example: Array, outputs: int, key: Array) -> dict[str, np.ndarray]:
        """Return `body/…` and a linear head. Raises `ModelError` where `columns` are not those of the rows."""
        _columns.layout(self.columns, example)
        body, head = jax.random.split(key)
        return _columns.fresh(self.width, body) | {
            "head/weight": weight(head, (self.width, outputs)),
            "head/bias": np.zeros(outputs, np.float32),
        }

    def apply(self, params: Tensors, x: Array) -> Array:
        """Return [n, outputs]."""
        example = jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape[1:])), x)
        h = _columns.rows(params, _columns.layout(self.columns, example), x, self.heads)
        return h @ params["head/weight"] + params["head/bias"]
