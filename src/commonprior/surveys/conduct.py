"""Conduct a survey: rounds like those of training, in a folder of their own, with a record of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from commonprior.prior import Prior
from commonprior.recipe import Recipe
from commonprior.tasks import Family
from commonprior.training import start


class Answered(NamedTuple):
    """A survey's prior with its answers, what asking cost in `privacy` as a sentence, and as `epsilon`."""

    prior: Prior
    privacy: str
    epsilon: float


def conduct(
    recipe: Recipe, folder: Path, family: Family, first: Prior | None = None,
    watch: Callable[[int], None] = lambda number: None,
) -> Answered:  # fmt: skip
    """Ask every round of a recipe whose learner is a survey, or those that are left."""
    training = start(recipe, folder, family=family, first=first)
    coordinator = training.coordinator
    while coordinator.rounds_done < recipe.schedule.rounds:
        coordinator.step(training.engine)
        watch(coordinator.rounds_done)
    figures = coordinator.figures()
    return Answered(coordinator.prior, figures.privacy, figures.epsilon)
