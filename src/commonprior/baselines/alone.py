"""Every site for itself: the same learner, meta-trained on one site's tasks only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from commonprior.baselines import Baseline
from commonprior.baselines._central import Rounds, meta_train
from commonprior.baselines._checks import at_least
from commonprior.learners import Learner
from commonprior.predictor import LearnedPrior, Predictor
from commonprior.task import Pool, TaskSpec


@final
@dataclass(frozen=True)
class Alone(Baseline):
    """What each site would have without the others, in as many rounds. Which one is best, the caller decides."""

    learner: Learner
    rounds: int = 100
    tasks_per_site: int = 8
    shots: int = 5
    queries: int = 15

    def __post_init__(self) -> None:
        at_least(1, rounds=self.rounds, tasks_per_site=self.tasks_per_site, shots=self.shots, queries=self.queries)

    def prepare(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Mapping[str, Predictor]:
        """Return one predictor a site."""
        rounds = Rounds(self.rounds, self.tasks_per_site, self.shots, self.queries)
        return {
            site: LearnedPrior(self.learner, meta_train(self.learner, spec, pools, rounds, seed, f"alone/{site}"), spec)
            for site, pools in train.items()
            if pools
        }
