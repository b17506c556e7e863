"""The same network, trained on the support alone from random parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from commonprior.baselines import Baseline
from commonprior.baselines._checks import above, at_least
from commonprior.baselines._supervised import Supervised, Training
from commonprior.networks import Network
from commonprior.predictor import Predictor
from commonprior.task import Pool, TaskSpec


@final
@dataclass(frozen=True)
class FromScratch(Baseline):
    """Adam for `steps` steps at `rate`; `folds` is the cross-validation that the variance comes from."""

    network: Network
    steps: int = 200
    rate: float = 1e-3
    folds: int = 4

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_least(2, folds=self.folds)
        above(0, rate=self.rate)

    def prepare(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Mapping[str, Predictor]:
        """Look at no training task at all."""
        training = Training(self.network, spec.target.kind, "all", self.steps, self.rate, self.folds)
        example, outputs = spec.example(), spec.outputs
        return {"from_scratch": Supervised(training, spec, lambda k: self.network.init(example, outputs, k))}
