"""A finished run, ready to adapt: the learner of its recipe, its prior, and the spec that its sites signed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commonprior.errors import ModelError, RunError
from commonprior.ledger.journal import Journal
from commonprior.predictor import LearnedPrior
from commonprior.prior import Prior
from commonprior.recipe import Recipe, read_recipe
from commonprior.runfolder import RunFolder
from commonprior.tables import build
from commonprior.task import TaskSpec


def load_run(folder: Path | str) -> LearnedPrior:
    """Return the prior of a run folder with what it takes to use it; needs no data.

    Raises `RunError` where the folder holds no run, `ModelError` where its prior cannot be read.
    """
    return open_run(Path(folder))[1]


def open_run(folder: Path) -> tuple[Recipe, LearnedPrior]:
    """Return a run's recipe and its prior."""
    run = RunFolder(folder)
    if not run.recipe.exists():
        raise RunError(f"{folder}: no run here; name a folder that `commonprior train` made")
    recipe, journal = read_recipe(run.recipe), Journal(run.journal)
    opening, last = journal.opening, journal.last_round
    if opening is None:
        raise RunError(f"{folder}: the run has not begun; run `commonprior train` with its recipe")
    prior, named = run.latest_prior(), last.prior if last else opening.prior
    if prior.hash() != named:
        raise ModelError(
            f"{folder}: its prior is not the prior that the record names ({named.hex()[:16]}…); restore the file, or "
            f"delete it and run `commonprior train` again"
        )
    spec = spec_from(opening.spec, str(run.journal))
    return recipe, LearnedPrior(recipe.learner, prior, spec, widening_of(folder, prior))


def widening_of(folder: Path, prior: Prior) -> float:
    """Return the factor that the sites found for standard deviations when they were asked about this prior; or 1."""
    file = folder / "surveys" / "figures.json"
    if not file.exists():
        return 1.0
    try:
        figures = json.loads(file.read_text())
        return float(figures["widening"]) if figures.get("prior") == prior.hash().hex() else 1.0
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file}: not what a survey wrote ({error}); run `commonprior survey {folder}` again") from None


def spec_from(table: Mapping[str, Any], where: str) -> TaskSpec:
    """Return the spec whose `to_table` this is."""
    return build(TaskSpec, table, where)
