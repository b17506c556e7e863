"""Conduct a survey: rounds like those of training, in a folder of their own, with a record of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from commonprior.accountant import Spend
from commonprior.prior import Prior
from commonprior.recipe import Recipe
from commonprior.tasks import Family
from commonprior.training import start


class Answered(NamedTuple):
    """A survey's prior with its answers, and what asking cost: as a sentence, and as a curve."""

    prior: Prior
    privacy: str
    spend: Spend


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
    return Answered(coordinator.prior, coordinator.figures().privacy, coordinator.spent)
