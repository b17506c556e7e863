"""What a user would do otherwise: from scratch, transfer, a random forest, a single-task GP, alone, pooled."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence

from commonprior.task import Array, Batch, Pool, Prediction, TaskSpec

Predictor = Callable[[Batch, Array], Prediction]
"""(support with standardised labels [k], x [n, ...]) -> a prediction in the same scale. Padded rows are masked."""


class Baseline(abc.ABC):
    """A comparison. It may see what its name says, and no more."""

    @abc.abstractmethod
    def prepare(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Mapping[str, Predictor]:
        """Train on what the baseline may see; return one predictor, or one a site where each learns alone."""
