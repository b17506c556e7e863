"""What `commonprior survey` and `novelty` do: ask a run's sites about their tasks, and judge samples by the answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from commonprior.accountant import Spend, spend_of
from commonprior.aggregation import release_of
from commonprior.appendlog import AppendLog, write_whole
from commonprior.errors import BudgetExhausted, InputError, RunError
from commonprior.ledger.journal import Journal
from commonprior.loading import open_run
from commonprior.monitor.run_report import report_run
from commonprior.predictor import LearnedPrior
from commonprior.printing import print_pairs
from commonprior.prior import Prior, load_prior
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe
from commonprior.runfolder import RunFolder
from commonprior.site.policy import read_policy, write_policy
from commonprior.surveys import Survey
from commonprior.surveys.calibration import Calibration
from commonprior.surveys.conduct import Answered, conduct
from commonprior.surveys.diversity import Diversity
from commonprior.surveys.novelty import Judgement, Novelty
from commonprior.tasks import Family
from commonprior.tasks.table import encode_rows, fit_scaler, read_frame

_NOTHING = 1e-12
"""An epsilon within which nothing can be released; 0 would be no limit."""

_TASKS = 32
"""A site answers from at most so many tasks a round."""


class Purse:
    """What a run and its surveys spend together: the sum of epsilons, at the sum of deltas (basic composition).

    What holds for a whole site holds for each of its tasks, so that the sum does, whichever unit the training has.
    """

    def __init__(self, run: Path, recipe: Recipe) -> None:
        self._run, self._recipe = run, recipe
        self._limit = recipe.budget.epsilon if recipe.mechanism.noise > 0 else 0.0
        self._costs = [self._trained(RunFolder(run), recipe)]

    def _trained(self, run: RunFolder, recipe: Recipe) -> Spend:
        """Return what training has spent, attempts that failed after its last round included.

        Raises `RunError` where it has not ended: what is left for surveys is not known before.
        """
        journal = Journal(run.journal)
        last, opening = journal.last_round, journal.opening
        if last is None or opening is None:
            raise RunError(f"{run.path}: no round is finished yet; `commonprior train` it first")
        if self._limit and not run.prior.exists():
            raise RunError(
                f"{run.path}: {last.round} of {recipe.schedule.rounds} rounds are done; let the training end first, "
                f"since it and its surveys spend from one budget"
            )
        lines = AppendLog(run.path / "coordinator" / "log.cbor").values()
        begun = sum(isinstance(line, dict) and line.get("what") == "begun" for line in lines)
        release = release_of(recipe.sum, len(opening.roster), opening.dropouts, opening.colluders, last.length,
                             recipe.schedule.tasks_per_site, recipe.public)  # fmt: skip
        cost = spend_of(recipe.mechanism.spends(release), recipe.mechanism.unit)
        return cost.times(max(begun, last.round + last.attempt))

    def spent(self, delta: float) -> float:
        """Return the sum of the epsilons that everything so far has cost, each at `delta`."""
        return sum(cost.epsilon(delta) for cost in self._costs)

    def ask(self, name: str, question: Survey, rounds: int, family: Family, first: Prior | None = None) -> Answered:
        """Conduct a survey with what is left. Raises `BudgetExhausted` where nothing is, or too little."""
        budget = self._recipe.budget
        spent, left = self.spent(budget.delta), self._limit - self.spent(budget.delta)
        if self._limit and (left <= 0 or budget.delta * (len(self._costs) + 1) >= 1):
            raise BudgetExhausted(
                f"{self._run}: the training and its surveys have spent epsilon {spent:.3g} of {self._limit:g} at delta "
                f"{budget.delta * len(self._costs):.0e}; nothing is left to ask about {name}"
            )
        recipe, folder = _recipe(self._recipe, question, rounds), self._run / "surveys" / name
        if self._limit:
            recipe = dataclasses.replace(recipe, budget=dataclasses.replace(budget, epsilon=left))
        self._copy_policies(family, RunFolder(folder))
        answered = conduct(recipe, folder, family, first)
        self._costs.append(answered.spend)
        return answered

    def _copy_policies(self, family: Family, survey: RunFolder) -> None:
        """Let each site's own rules hold in the survey, too, with what is left of its own budget at its own delta.

        A site of which nothing is left refuses by itself: others may do without it.
        """
        for site in sorted(family.train):
            file, copy = (folder.site(site) / "policy.toml" for folder in (RunFolder(self._run), survey))
            if not file.exists():
                continue
            policy = read_policy(file)
            if self._recipe.mechanism.noise > 0 and policy.maximum_epsilon:
                left = policy.maximum_epsilon - self.spent(min(policy.delta, self._recipe.budget.delta))
                policy = dataclasses.replace(policy, maximum_epsilon=max(left, _NOTHING))
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_policy(policy, copy)

    def total(self) -> str:
        """Return what all of it has cost, as a sentence."""
        if not all(cost.private for cost in self._costs):
            return "no differential privacy (no noise)"
        delta = self._recipe.budget.delta
        return f"at most epsilon {self.spent(delta):.3g} at delta {delta * len(self._costs):.0e} with the training"


def survey(run: Path, data: Path | None, console: Console, out: Path | None) -> None:
    """Ask the sites of a run how diverse their tasks are, what their inputs are like, and how well intervals hold.

    The answers are kept in the run. Raises `BudgetExhausted` where the run's budget has no room for them.
    """
    recipe, learned = open_run(run)
    family, purse = recipe.tasks.load(data), Purse(run, recipe)
    question, novelty = Diversity(recipe.learner), Novelty()
    answers = purse.ask("diversity", question, 1, family, question.about(learned))
    directions = question.directions(answers.prior)
    purse.ask("novelty", novelty, novelty.rounds, family)
    answered = max(len(family.train) - recipe.schedule.dropouts, 1)
    figures: dict[str, Any] = {**directions._asdict(), "answered": answered}
    if learned.spec.target.kind == "regression":
        figures |= _calibrated(purse, recipe, learned, family)
    figures["privacy"] = purse.total()
    write_whole(run / "surveys" / "figures.json", json.dumps(figures, indent=1).encode())
    report_run(run)
    print_pairs(console, {
        "diversity": directions.sentence, "novelty": f"asked in {novelty.rounds} rounds; `commonprior novelty {run}`",
        **({"calibration": figures["calibration"]} if "calibration" in figures else {}), "privacy": figures["privacy"],
    })  # fmt: skip
    if out is not None:
        out.write_text(json.dumps(figures, indent=1))


def _calibrated(purse: Purse, recipe: Recipe, learned: LearnedPrior, family: Family) -> dict[str, Any]:
    """Return by how much to widen, for which prior, and on whose tasks that was found."""
    question, schedule, n = Calibration(recipe.learner), recipe.schedule, len(family.valid)
    kept = n - schedule.dropouts - schedule.colluders
    enough = kept >= recipe.policy.minimum_cohort and kept > schedule.dropouts
    whose = (
        "tasks kept for validation" if enough else "the tasks that were learned from: too few sites keep others back"
    )
    asked = family._replace(train=family.valid) if enough else family
    widening = question.widening(purse.ask("calibration", question, 1, asked, question.about(learned)).prior)
    told = f"predicted standard deviations times {widening:.2f} from now on: 90% intervals then hold on {whose}"
    return {"widening": widening, "prior": learned.prior.hash().hex(), "calibration": told}


def novelty(run: Path, samples: Path, rate: float, console: Console, out: Path | None) -> None:
    """Judge the rows of a table: each alone, and all together as one task."""
    if not 0 < rate < 1:
        raise InputError(f"--rate {rate}: expected a share of false alarms between 0 and 1")
    _, learned = open_run(run)
    frame = read_frame(samples)
    alone, together = judge(run, learned, frame, str(samples))
    rows, task = alone.p_values, float(together.p_values[0])
    new = np.flatnonzero(rows <= rate)
    listed = ", ".join(str(frame.index[i]) for i in new[:10]) + ("…" if len(new) > 10 else "")
    print_pairs(console, {
        "unlike the sites' samples": f"{len(new)} of {len(rows)} rows" + (f": {listed}" if len(new) else "")
        + _nothing(alone.least, rate),
        "false alarms": f"of samples like the sites' own, at most {rate:.0%} are called so",
        "as one task": f"p = {task:.2g}: " + ("unlike the sites' tasks" if task <= rate else "not unlike them")
        + _nothing(together.least, rate),
    })  # fmt: skip
    if out is not None:
        each = [{"row": int(row), "p": float(p)} for row, p in zip(frame.index, rows, strict=True)]
        out.write_text(json.dumps({"rows": each, "task": task}, indent=1))


def _nothing(least: float, rate: float) -> str:
    """Return what is to be said where nothing could have been found."""
    if least <= rate:
        return ""
    return (
        f"; nothing could be: of the samples that were scored, and under their noise, no p-value is below {least:.2g}; "
        f"ask for a larger --rate, or survey more tasks or with less noise"
    )


def judge(run: Path, learned: LearnedPrior, frame: pd.DataFrame, path: str) -> tuple[Judgement, Judgement]:
    """Return how unlike the sites' samples are the rows, and the table as one task.

    Raises `RunError` where no survey was finished.
    """
    if not learned.spec.columns:
        raise RunError(f"{run}: its tasks are no tables; use `commonprior.surveys.novelty` in Python")
    checkpoints = sorted((run / "surveys" / "novelty" / "checkpoints").glob("*.safetensors"))
    if not checkpoints:
        raise RunError(f"{run}: nobody has asked its sites what their samples are like; run `commonprior survey {run}`")
    prior, scaler = load_prior(checkpoints[-1]), fit_scaler(frame, learned.spec, path)
    x = encode_rows(frame, learned.spec, path, scaler)
    figures, asked = run / "surveys" / "figures.json", Novelty()
    sites = int(json.loads(figures.read_text()).get("answered", 1)) if figures.exists() else 1
    return asked.judge(prior, x, sites), asked.judge_task(prior, x, sites)


def _recipe(recipe: Recipe, question: Survey, rounds: int) -> Recipe:
    """Return the recipe of a survey: the same sites, sum and noise, and of each site as many tasks as it has."""
    schedule = dataclasses.replace(recipe.schedule, rounds=rounds, tasks_per_site=_TASKS)
    mechanism = DiscreteGaussian(clip=1.0, noise=recipe.mechanism.noise, per="site")
    return dataclasses.replace(recipe, learner=question, mechanism=mechanism, schedule=schedule)
