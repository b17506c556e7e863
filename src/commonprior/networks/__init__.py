"""What maps inputs to outputs: pure functions of (params, x). One file a network."""

from __future__ import annotations

import abc

from commonprior.prior import Tensors
from commonprior.task import Array


class Network(abc.ABC):
    """A pure function of named parameters. Names are `body/…` and `head/…`, so that a learner can say what adapts."""

    @abc.abstractmethod
    def init(self, example: Array, outputs: int, key: Array) -> Tensors:
        """Return fresh parameters for inputs shaped as `example` (a pytree of [1, ...]) and `outputs` numbers."""

    @abc.abstractmethod
    def apply(self, params: Tensors, x: Array) -> Array:
        """Return [n, outputs] for a pytree x of [n, ...]."""
