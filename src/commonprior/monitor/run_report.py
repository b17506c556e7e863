"""The report of a run, from nothing but what lies in its folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from commonprior.ballot import Place
from commonprior.entry import Opening
from commonprior.errors import RunError
from commonprior.ledger.journal import Journal
from commonprior.loading import spec_from
from commonprior.monitor.report import ReportData, write_report
from commonprior.recipe import Recipe, read_recipe, to_toml
from commonprior.runfolder import RunFolder


def report_run(folder: Path) -> Path:
    """Write `report.html` (and `metrics.parquet`) anew; return its path."""
    run = RunFolder(folder)
    if not run.recipe.exists() or not run.journal.exists():
        raise RunError(f"{folder}: no run here; name a folder that `commonprior train` made")
    recipe, journal = read_recipe(run.recipe), Journal(run.journal)
    opening, last = journal.opening, journal.last_round
    if opening is None:
        raise RunError(f"{folder}: the run has not begun; run `commonprior train` with its recipe")
    costs, curve = read_metrics(run)
    pd.concat([costs.assign(site="", metric=""), curve.assign(measure="")]).to_parquet(run.metrics, index=False)
    done = last.round if last else 0
    data = ReportData(
        name=folder.resolve().name,
        recipe_toml=to_toml(recipe),
        spec=spec_from(opening.spec, str(run.journal)),
        sites=tuple(member.name for member in opening.roster),
        rounds_done=done,
        rounds_planned=recipe.schedule.rounds,
        unit=recipe.mechanism.unit,
        epsilon=last.epsilon if last else 0.0,
        delta=recipe.budget.delta,
        budget=recipe.budget.epsilon,
        note=opening.note,
        insecure=recipe.sum.insecure,
        trust="; ".join(filter(None, (recipe.sum.trust, _groups(recipe, opening)))),
        stopped=_stopped(recipe, run, done),
        head=journal.head.hex(),
        prior=(last or opening).prior.hex(),
        audit=f"commonprior audit {shlex.quote(str(folder))} --expect-head {journal.head.hex()}",
        ledger=_ledger(opening),
        **_surveyed(folder),
        length=recipe.learner.length(run.latest_prior()) if last else None,
        costs=costs if len(costs) else None,
        curve=curve if len(curve) else None,
        comparison=_table(run.comparison),
        predictions=_table(run.predictions),
    )
    write_report(data, run.report)
    return run.report


def _surveyed(folder: Path) -> dict[str, Any]:
    """Return what the sites said when they were asked about their tasks; nothing before."""
    file = folder / "surveys" / "figures.json"
    if not file.exists():
        return {}
    figures = json.loads(file.read_text())
    told = {"diversity": figures["sentence"], "alike": figures["alike"]}
    return told | ({"calibration": figures["calibration"]} if "calibration" in figures else {})


def _ledger(opening: Opening) -> str:
    """Return where the run is recorded, and what that is worth."""
    place = Place.read(opening.ledger, len(opening.roster))
    if place is None:
        return ""
    where = "a chain in the run's own folder" if place.kind == "embedded" else f"chain {place.chain}"
    deltas = "everybody sees every update" if place.mode == "public" else "nobody sees an update"
    worth = ("; it shows that history was changed, to whoever knows a head, and its deadlines prove nothing"
             if place.kind == "embedded" else "")  # fmt: skip
    return (
        f"{where}, {place.mode} deltas ({deltas}), two thirds of {len(place.accounts)} accounts' ballots a round{worth}"
    )


def read_metrics(run: RunFolder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (costs: round, measure, value; curve: round, site, metric, value); a round run twice counts once."""
    rounds: dict[int, dict[str, Any]] = {}
    if run.metric_lines.exists():
        for line in run.metric_lines.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the last line of a process that was killed
                continue
            rounds[row["round"]] = row
    costs = [(n, measure, value) for n, row in sorted(rounds.items()) for measure, value in row["cost"].items()]
    curve = [(n, *point) for n, row in sorted(rounds.items()) for point in row["curve"]]
    return _frame(costs, ("round", "measure", "value")), _frame(curve, ("round", "site", "metric", "value"))


def _frame(rows: list[Any], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns))


def _groups(recipe: Recipe, opening: Opening) -> str:
    return recipe.sum.grouping.describe(len(opening.roster), opening.dropouts, opening.colluders)


def _table(path: Path) -> pd.DataFrame | None:
    return pd.read_parquet(path) if path.exists() else None


def _stopped(recipe: Recipe, run: RunFolder, done: int) -> str:
    """Only a spent budget ends a run before its schedule and still leaves a finished prior."""
    if done >= recipe.schedule.rounds or not run.prior.exists():
        return ""
    return f"the budget of epsilon {recipe.budget.epsilon:g} could not pay for another round"
