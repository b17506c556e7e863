"""Questions about all sites together, answered by the path that learning takes: clipped, summed in secret, recorded.

A survey's "prior" is what has been asked and answered so far; a round of it is a round like any other, with its own
record, so an outsider can audit it and a site's policy judges it as it judges training.
"""

from __future__ import annotations

import abc
from typing import final

import numpy as np

from commonprior.errors import ModelError
from commonprior.learners import Adapted, Learner, Memory
from commonprior.prior import Contributions, Prior
from commonprior.task import Array, Batch, Prediction, Task


class Survey(Learner):
    """Each round asks one vector of every site, of norm at most 1, and keeps the mean of the answers."""

    @abc.abstractmethod
    def question(self, prior: Prior) -> str:
        """Return the name of this round's answer in the prior."""

    @abc.abstractmethod
    def answer(self, prior: Prior, tasks: Task) -> np.ndarray:
        """At a site: return the answer [d] from m stacked tasks (leaves [m, ...])."""

    @final
    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return the answer as the site's one row."""
        return Contributions(np.asarray(self.answer(prior, tasks), np.float64)[None], "site"), memory

    @final
    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Keep the mean answer, and count the round."""
        rounds = np.asarray(prior.state["rounds"]) + np.float32(1)
        answer = np.asarray(mean, np.float64).astype(np.float32)
        return Prior({**prior.params, self.question(prior): answer}, {**prior.state, "rounds": rounds})

    @final
    def adapt(self, prior: Prior, support: Batch, key: Array, start: Adapted | None = None) -> Adapted:
        """Refuse: a survey learns nothing to adapt."""
        raise ModelError("a survey asks and does not predict; adapt a trained prior")

    @final
    def predict(self, prior: Prior, adapted: Adapted, x: Array, key: Array) -> Prediction:
        """Refuse: a survey learns nothing to predict with."""
        raise ModelError("a survey asks and does not predict; adapt a trained prior")


def begun(params: dict[str, np.ndarray]) -> Prior:
    """Return a survey's prior before its first round."""
    return Prior(params, {"rounds": np.zeros(1, np.float32)})


TRAINED, STATE = "trained/", "state/"


def asking_about(learned: Prior, answers: dict[str, np.ndarray]) -> Prior:
    """Return a survey's prior before its first round that carries a trained prior, for sites to adapt."""
    carried = {TRAINED + name: np.asarray(value) for name, value in learned.params.items()}
    # Where a mechanism that moves has come to is no part of what is asked about, nor of what a learner begins with.
    state = {name: value for name, value in learned.state.items() if not name.startswith("mechanism/")}
    carried |= {STATE + name: np.asarray(value) for name, value in state.items()}
    return begun({**carried, **answers})


def asked_about(prior: Prior) -> Prior:
    """Return the trained prior that a survey's prior carries."""
    trained, state = (
        {name.removeprefix(prefix): np.asarray(v) for name, v in prior.params.items() if name.startswith(prefix)}
        for prefix in (TRAINED, STATE)
    )
    return Prior(trained, state)
