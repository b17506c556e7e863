"""What a user would do otherwise: from scratch, transfer, a random forest, a single-task GP, alone, pooled."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

from commonprior.predictor import Predictor
from commonprior.task import Pool, TaskSpec


class Baseline(abc.ABC):
    """A comparison. It may see what its name says, and no more."""

    @abc.abstractmethod
    def prepare(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Mapping[str, Predictor]:
        """Train on what the baseline may see; return one predictor by its own name, or one a site by the site's."""
