"""All tasks in one hand and no protection: what a party that sees everything could do with the same learner."""

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
class Pooled(Baseline):
    """As many rounds as the federation, and as many tasks a round as all its sites take together."""

    learner: Learner
    rounds: int = 100
    tasks_per_site: int = 8
    shots: int = 5
    queries: int = 15

    def __post_init__(self) -> None:
        at_least(1, rounds=self.rounds, tasks_per_site=self.tasks_per_site, shots=self.shots, queries=self.queries)

    def prepare(self, spec: TaskSpec, train: Mapping[str, Sequence[Pool]], seed: int) -> Mapping[str, Predictor]:
        """Return one predictor, of the tasks of all sites put together."""
        pools = [pool for site in sorted(train) for pool in train[site]]
        # A site with fewer tasks than it may take gives all it has, and so the federation's round is smaller too.
        tasks = sum(min(self.tasks_per_site, len(pools)) for pools in train.values())
        rounds = Rounds(self.rounds, tasks, self.shots, self.queries)
        prior = meta_train(self.learner, spec, pools, rounds, seed, "pooled")
        return {"pooled": LearnedPrior(self.learner, prior, spec)}
