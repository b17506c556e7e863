"""A network of one's own: any Equinox module, in one line.

    Maml(network=Module(lambda key: eqx.nn.MLP(3, 1, 32, 2, key=key)))

The module maps one sample (an array, or `Rows` without the leading axis) to `outputs` numbers; its arrays become the
parameters, named by their path. Kidger & Garcia, "Equinox: neural networks in JAX via callable PyTrees" (2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import equinox as eqx
import jax

from commonprior.errors import ModelError
from commonprior.networks import Network
from commonprior.prior import Tensors
from commonprior.task import Array


@final
@dataclass(frozen=True)
class Module(Network):
    """`make` returns the module for a PRNG key. It has no place in a recipe file: a run with it lives in Python."""

    make: Callable[[Array], Any]

    def init(self, example: Array, outputs: int, key: Array) -> Tensors:
        """Return the module's arrays. Raises `ModelError` where it does not map a sample to `outputs` numbers."""
        module = self.make(key)
        try:
            shape = jax.eval_shape(jax.vmap(module), example).shape
        except (TypeError, ValueError) as error:
            shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(example)]
            reason = str(error).splitlines()[0]
            raise ModelError(f"the module does not take samples of shapes {shapes}: {reason}") from None
        if shape != (1, outputs):
            raise ModelError(f"the module maps a sample to shape {shape[1:]}, expected ({outputs},); change its output")
        return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(_arrays(module))}

    def apply(self, params: Tensors, x: Array) -> Array:
        """Return [n, outputs]."""
        skeleton = eqx.filter_eval_shape(self.make, jax.random.key(0))
        arrays, rest = eqx.partition(skeleton, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
        filled = jax.tree_util.tree_map_with_path(lambda path, _: params[_name(path)], arrays)
        return jax.vmap(eqx.combine(filled, rest))(x)


def _arrays(module: Any) -> Any:
    return eqx.filter(module, eqx.is_inexact_array)


def _name(path: tuple[Any, ...]) -> str:
    return "body" + jax.tree_util.keystr(path).replace(".", "/").replace("[", "/").replace("]", "")
