# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
"""Tune a recipe: propose settings, train a short run with them, judge it on the validation tasks, write it down.

A search is a folder: `search.json`, what is looked for; `trials.jsonl` with a line a finished trial; `best.toml`, the
recipe with the best settings so far. The same command goes on after a kill. Every trial is a run of its own with
whatever privacy its recipe has, and what trials spend adds up: whoever tunes on private data pays for each look.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.stats import qmc

from commonprior.appendlog import write_whole
from commonprior.errors import DataError, InputError, ModelError, RecipeError, RunError
from commonprior.evaluation import compare, draws
from commonprior.loading import open_run
from commonprior.recipe import Recipe, to_toml
from commonprior.sampling import generator
from commonprior.tables import to_table
from commonprior.tasks import Family
from commonprior.training import start, train_rounds
from commonprior.tuning.ensemble import Model, Trials, propose
from commonprior.tuning.space import Space, changed

LARGER_IS_BETTER = {"r2": True, "spearman": True, "accuracy": True, "delta_auprc": True, "nll": False, "rmse": False}
"""What a search may look at, and in which direction."""

_CANDIDATES, _NEAR, _STEP = 512, 128, 0.08
_SUPPORTS, _QUERIES = 3, 100


class Trial(NamedTuple):
    """Settings by field, the metric's value on the validation tasks (None where the run failed, and why), what it
    spent (epsilon, -1 without noise) and the seconds it took.
    """

    settings: Mapping[str, Any]
    value: float | None
    error: str
    epsilon: float
    seconds: float


@dataclass(frozen=True)
class Search:
    """A folder with the trials of one search."""

    folder: Path
    space: Space
    metric: str

    def trials(self) -> list[Trial]:
        """Return the finished trials; raises `RunError` for a line that is none."""
        path = self.folder / "trials.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        try:
            return [Trial(**json.loads(line)) for line in lines]
        except (TypeError, ValueError) as error:
            raise RunError(
                f"{path}: not a search's trials ({error}); delete the last line or take another --name"
            ) from None

    def scored(self) -> Trials:
        """Return points and scores, larger is better."""
        trials = self.trials()
        points = [self.space.point(trial.settings) for trial in trials]
        sign = 1 if LARGER_IS_BETTER[self.metric] else -1
        scores = [-math.inf if trial.value is None else sign * trial.value for trial in trials]
        return Trials(np.array(points).reshape(len(trials), self.space.size), np.array(scores))

    def best(self) -> Trial | None:
        """Return the best trial so far."""
        scored = self.scored()
        finite = np.isfinite(scored.scores)
        return self.trials()[int(np.argmax(scored.scores))] if finite.any() else None


def open_search(folder: Path, space: Space, metric: str, must_exist: bool = False) -> Search:
    """Return the search of a folder. Raises `RunError` where it has another space or metric, or is not there."""
    if must_exist and not (folder / "trials.jsonl").exists():
        raise RunError(f"{folder}: no search here; name a folder that `commonprior tune` made")
    search, terms = Search(folder, space, metric), folder / "search.json"
    mine = {"metric": metric, "space": json.loads(json.dumps(to_table(space)))}
    if terms.exists() and json.loads(terms.read_text()) != mine:
        raise RunError(f"{folder}: holds a search with another space or metric; take another --name")
    return search


def tune(
    recipe: Recipe, family: Family, search: Search, earlier: Sequence[Search], count: int,
    watch: Callable[[int, Trial], None], judge: Callable[[Recipe], tuple[float, float]] | None = None,
) -> Trial:  # fmt: skip
    """Go on with a search until it has `count` trials; return the best.

    `judge` returns the metric and the epsilon spent of one recipe; by default it trains it in a folder that it throws
    away. A recipe that cannot be trained is a failed trial, not the end. Raises `ModelError` where every trial failed.
    """
    if search.metric not in LARGER_IS_BETTER:
        raise InputError(f"--metric {search.metric!r}: expected one of {', '.join(LARGER_IS_BETTER)}")
    if count < 1:
        raise InputError(f"--trials {count}: expected at least 1")
    for name, dimension in search.space.dimensions:
        changed(recipe, {name: dimension.value(np.full(dimension.size, 0.5))})
    search.folder.mkdir(parents=True, exist_ok=True)
    terms = {"metric": search.metric, "space": to_table(search.space)}
    write_whole(search.folder / "search.json", json.dumps(terms, indent=1).encode())
    judge = judge or (lambda candidate: train_and_judge(candidate, family, search.metric))
    models = [Model(trials, generator(0, "earlier", i)) for i, s in enumerate(earlier)
              if len((trials := s.scored()).scores) > 1]  # fmt: skip
    for number in range(len(search.trials()), count):
        rng = generator(recipe.schedule.seed, "tune", number)
        trials = search.scored()
        points = candidates(search.space, trials, rng)
        settings = search.space.settings(points[propose(models, trials, points, rng)])
        trial = _try(changed(recipe, settings), settings, judge)
        with (search.folder / "trials.jsonl").open("a") as file:
            file.write(json.dumps(trial._asdict()) + "\n")
        if (best := search.best()) is not None:
            write_whole(search.folder / "best.toml", to_toml(changed(recipe, best.settings)).encode())
        watch(number + 1, trial)
    best = search.best()
    if best is None:
        raise ModelError(f"{search.folder}: all {count} trials failed, the last because {search.trials()[-1].error}")
    return best


def candidates(space: Space, trials: Trials, rng: np.random.Generator) -> np.ndarray:
    """Return points [n, c] to choose from: spread over the space, and near the best so far; none tried before.

    Raises `InputError` where all have been.
    """
    points = qmc.Sobol(space.size, rng=rng).random(_CANDIDATES)
    if len(trials.scores):
        near = trials.points[np.argmax(trials.scores)] + _STEP * rng.normal(size=(_NEAR, space.size))
        points = np.concatenate([points, np.clip(near, 0, 1)])
    points = np.unique(space.snap(points), axis=0)
    new = ~(points[:, None] == trials.points[None]).all(-1).any(1)
    if not new.any():
        raise InputError(f"all {len(points)} settings of the space have been tried; widen it, or ask for fewer trials")
    return rng.permutation(points[new])


def train_and_judge(recipe: Recipe, family: Family, metric: str) -> tuple[float, float]:
    """Train a recipe in a folder that is thrown away; return its mean over validation tasks, and epsilon.

    Raises `InputError` where the metric is none of those that these tasks are judged by.
    """
    schedule, folder = recipe.schedule, Path(tempfile.mkdtemp(prefix="commonprior-trial-"))
    episodes = draws(family.valid, schedule.shots, _SUPPORTS, _QUERIES, schedule.seed)
    try:
        training = start(recipe, folder / "run", family=family)
        train_rounds(training)
        learned = open_run(folder / "run")[1]
        epsilon = training.coordinator.figures().epsilon
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = compare({"": learned}, episodes)
    jax.clear_caches()  # every trial is a program of its own, and a process has room for so many
    values = table[table.metric == metric].groupby(["site", "task"])["value"].mean()
    if values.empty:
        there = ", ".join(sorted(set(table.metric)))
        raise InputError(f"--metric {metric!r}: these tasks are judged by {there}")
    return float(values.mean()), epsilon


def _try(recipe: Recipe, settings: Mapping[str, Any], judge: Callable[[Recipe], tuple[float, float]]) -> Trial:
    before = time.perf_counter()
    try:
        value, epsilon = judge(recipe)
    except (DataError, ModelError, RecipeError, RunError) as error:
        return Trial(settings, None, str(error), -1.0, time.perf_counter() - before)
    return Trial(settings, value if math.isfinite(value) else None, "" if math.isfinite(value) else f"{value}", epsilon,
                 time.perf_counter() - before)  # fmt: skip
