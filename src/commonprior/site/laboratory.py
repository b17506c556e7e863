"""A contributor with tasks: learns on them where they are, and gives away nothing but clipped, noised integers."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import jax
import numpy as np

from commonprior.errors import UnsoundPrior
from commonprior.learners import Learner
from commonprior.predictor import LearnedPrior, predict_tasks
from commonprior.prior import Prior, Tensors
from commonprior.privacy import Mechanism
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.site import Context, Protected
from commonprior.task import Pool, TaskSpec, log_likelihood

_LEARNER, _MECHANISM = "learner/", "mechanism/"


@dataclass
class Laboratory:
    """The tasks of one site, and how it learns from them. `shots` and `queries` shape each episode.

    `seconds` says what learning and protecting have cost so far; it stays at the site.
    """

    name: str
    pools: Sequence[Pool]
    spec: TaskSpec
    learner: Learner
    shots: int
    queries: int
    seconds: dict[str, float] = field(default_factory=lambda: {"learning": 0.0, "protecting": 0.0})

    def contribute(self, context: Context, mechanism: Mechanism, memory: Tensors) -> Protected:
        """Take this round's tasks, learn, clip, encode and noise. The same round gives the same update."""
        self._require_sound(context.prior)
        parts = (context.seed, context.session.round, self.name)
        start = time.perf_counter()
        tasks = sample_tasks(
            self.pools, generator(*parts, "tasks"), context.release.rows, self.shots, self.queries, self.spec.target
        )
        contributions, learned = self.learner.contribute(
            context.prior, tasks, _part(memory, _LEARNER), learning_key(*parts, "learning")
        )
        rows = np.asarray(contributions.rows)
        learnt = time.perf_counter()
        integers, kept = mechanism.protect(
            contributions._replace(rows=rows), context.session.encoding, context.release, _part(memory, _MECHANISM),
            learning_key(*parts, "rounding"), os.urandom,
        )  # fmt: skip
        self.seconds["learning"] += learnt - start
        self.seconds["protecting"] += time.perf_counter() - learnt
        return Protected(integers, {
            **{_LEARNER + name: np.asarray(value) for name, value in learned.items()},
            **{_MECHANISM + name: np.asarray(value) for name, value in kept.items()},
        })  # fmt: skip

    @cached_property
    def _fresh(self) -> Prior:
        """A prior that this learner has made."""
        return self.learner.init(self.spec, learning_key("shape"))

    def _require_sound(self, prior: Prior) -> None:
        """Raise `UnsoundPrior` for a prior that this learner cannot have made: the first one is a coordinator's."""
        params, state = self._fresh
        # A mechanism that moves adds to the state; to the parameters nobody does.
        of_learner = {name: value for name, value in prior.state.items() if name in state}
        for part, sound in ((prior.params, params), (of_learner, state)):
            for name in sorted({*part, *sound}):
                got, expected = (np.shape(t[name]) if name in t else "nothing" for t in (part, sound))
                if got != expected:
                    raise UnsoundPrior(f"the prior's {name} has shape {got}, {self.name}'s learner expects {expected}")
        for name, value in {**prior.params, **prior.state}.items():
            if not np.isfinite(value).all():
                raise UnsoundPrior(f"the prior's {name} holds numbers that are not finite: nothing can be learned")

    def loss(self, context: Context, prior: Prior) -> float:
        """Return the mean negative log-likelihood of this round's validation tasks, the same for every prior."""
        parts = (context.seed, context.session.round, self.name)
        rng = generator(*parts, "validation")
        tasks = sample_tasks(self.pools, rng, context.release.rows, self.shots, self.queries, self.spec.target)
        keys = jax.random.split(learning_key(*parts, "validation"), len(tasks.query.y))
        predictor = LearnedPrior(self.learner, prior, self.spec)
        predictions = predict_tasks(predictor, tasks.support, tasks.query.x, keys)
        seen = np.asarray(tasks.query.mask, np.float64)
        scores = np.asarray(jax.vmap(log_likelihood)(predictions, tasks.query), np.float64)
        return -float(scores.sum() / max(seen.sum(), 1.0))


def _part(memory: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in memory.items() if name.startswith(prefix)}
