# pyright: reportGeneralTypeIssues=false, reportArgumentType=false
"""What each command does; `cli.py` parses and this prints."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import jax
import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as Grid

import commonprior.sums
from commonprior import explanation, plugin, suggestion
from commonprior.contestants import compare_all, read_shots
from commonprior.errors import InputError, RecipeError, RunError
from commonprior.learners.dkt import Dkt
from commonprior.loading import open_run
from commonprior.monitor.explanation_report import write_explanations
from commonprior.monitor.run_report import report_run
from commonprior.networks.mlp import Mlp
from commonprior.predictor import predict_task
from commonprior.printing import print_pairs
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import PLUGINS, Recipe, Schedule, read_recipe
from commonprior.runfolder import RunFolder
from commonprior.sampling import learning_key
from commonprior.site.policy import Policy
from commonprior.suggestion import Aim, Suggestion, pick
from commonprior.sums import SecureSum
from commonprior.sums.masked import Masked
from commonprior.task import Batch, Categorical, Prediction, Rows, TaskSpec
from commonprior.tasks.table import Table, check_disjoint, encode_rows, fit_scaler, read_frame, read_labels
from commonprior.training import Report, start, train_rounds
from commonprior.tuning import trials
from commonprior.tuning.space import read_space

Z90 = 1.6448536269514722
"""A Gaussian's central 90% lies within this many standard deviations."""


class TableFlags(NamedTuple):
    """What the command line says of a user's own table."""

    task: str
    site: str
    target: str
    rounds: int


def train(path: Path, data: Path | None, folder: Path, flags: TableFlags, console: Console, out: Path | None) -> None:
    """Train a recipe or a table to the end, with a bar and a report."""
    recipe = read_recipe(path) if path.suffix == ".toml" else recipe_for_table(path, flags)
    training = start(recipe, folder, data)
    run, done, rounds = training.run, training.coordinator.rounds_done, recipe.schedule.rounds
    if training.family.note:
        console.print(training.family.note, style="yellow")
    family = training.family
    learn, valid, test = (sum(map(len, fold.values())) for fold in (family.train, family.valid, family.test))
    console.print(f"{learn + valid + test} tasks: {learn} to learn from, {valid} to validate with, {test} to test with")
    kinds = f"{plugin.kind_of(recipe.learner)} learner, {plugin.kind_of(recipe.sum)} sum"
    console.print(f"{len(training.agents)} sites, {kinds}, unit of privacy: {recipe.mechanism.unit}")
    if recipe.sum.insecure:
        console.print(recipe.sum.insecure, style="bold red")
    if done >= rounds:
        console.print(f"{folder}: finished before, all {rounds} rounds")
    with _bar(console) as bar:
        line = bar.add_task("rounds", total=rounds, completed=done)

        def watch(report: Report) -> None:
            bar.update(line, completed=report.round)

        stopped = train_rounds(training, watch)
    if stopped:
        console.print(stopped, style="yellow")
    report_run(folder)
    figures = training.coordinator.figures()
    print_pairs(console, {
        "prior": str(run.prior), "privacy": figures.privacy, "ledger": figures.ledger, "head": figures.head,
        "tasks": f"are they diverse enough for a prior to pay? `commonprior survey {folder}` asks the sites, in secret",
        "report": str(run.report),
    })  # fmt: skip
    _write_json(out, figures._asdict())


def recipe_for_table(path: Path, flags: TableFlags) -> Recipe:
    """Return the recipe for a user's own table: a deep-kernel GP, a masked sum, clipping, and no noise."""
    if not path.exists():
        raise RecipeError(f"{path}: no such recipe or table")
    for flag in ("task", "site", "target"):
        if not getattr(flags, flag):
            raise RecipeError(f"{path}: a table needs --{flag} COLUMN; it has {', '.join(read_frame(path).columns)}")
    source = Table(target=flags.target, task=flags.task, site=flags.site, file=str(path.resolve()),
                   drop_small_tasks=True)  # fmt: skip
    sites = len(source.load(None).train)
    return Recipe(
        source, Dkt(network=Mlp(widths=(64, 64))), DiscreteGaussian(clip=10.0, per="site"), Masked(),
        Schedule(rounds=flags.rounds, shots=16, queries=32), policy=Policy(minimum_cohort=min(3, max(2, sites))),
    )  # fmt: skip


def adapt(run: Path, support: Path, predict: Path, output: Path | None, console: Console, out: Path | None) -> None:
    """Adapt to a few labelled samples and predict others."""
    _, learned = open_run(run)
    spec = learned.spec
    batch, x, new = _few_and_new(run, spec, support, predict, console)
    prediction = predict_task(learned, batch, x, learning_key("adapt"))
    table = prediction_table(prediction, spec, new.index)
    if spec.target.kind == "regression":
        surveyed = f"as learned, times {learned.widening:.2f} by the run's survey"
        console.print(
            f"intervals: {surveyed if learned.widening != 1 else 'as learned; a survey of the run checks them'}"
        )
    if output is None:
        _frame(console, table.head(20), f"{len(table)} predictions from {len(batch.y)} samples"
               + (", first 20; --output FILE keeps all" if len(table) > 20 else ""))  # fmt: skip
    elif output.suffix == ".parquet":
        table.to_parquet(output)
    else:
        table.to_csv(output, index=False)
    _write_json(out, table.to_dict("records"))


def explain(run: Path, support: Path, query: Path, html: Path | None, console: Console, out: Path | None) -> None:
    """Explain the prediction of each sample of a table, after a few labelled ones."""
    _, learned = open_run(run)
    batch, x, new = _few_and_new(run, learned.spec, support, query, console)
    rows = tuple(f"row {row}" for row in read_frame(support).index)
    explained: list[tuple[str, explanation.Explanation]] = []
    with _bar(console) as bar:
        for i in bar.track(range(len(new)), description="explaining"):
            one = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], x)
            why = explanation.explain(learned, batch, one, learning_key("adapt"), rows)
            explained.append((f"{query.name}, row {new.index[i]}", why))
    for name, why in explained:
        effects = {"sample": (why.samples, why.left_out), "feature": (why.features, why.attribution)}
        console.print(f"{name}: {why.about} = {why.prediction:.4g}, {why.baseline:.4g} for the average sample")
        for kind, (names, values) in effects.items():
            table = pd.DataFrame({kind: names, "effect": values})
            _frame(console, table.loc[table.effect.abs().sort_values(ascending=False).index].head(SHOWN), f"by {kind}")
    if html is not None:
        write_explanations(run.resolve().name, explained, html)
        console.print(f"pictures: {html}")
    _write_json(out, [{"sample": name, **why.to_table()} for name, why in explained])


SHOWN = 8
"""So many effects a terminal shows of each kind; `--html` and `--json` have them all."""


def suggest(
    run: Path, support: Path, candidates: Path, aim: str, minimise: bool, count: int, console: Console,
    out: Path | None,
) -> None:  # fmt: skip
    """Say which of many candidates to measure next, as a batch, and what each promises."""
    _, learned = open_run(run)
    spec = learned.spec
    aims = get_args(Aim)
    if aim not in ("", *aims):
        raise InputError(f"--by {aim!r}: expected {' or '.join(aims)}")
    by = cast(Aim, aim or aims[spec.target.kind == "classification"])
    batch, x, new = _few_and_new(run, spec, support, candidates, console)
    key = learning_key("suggest")
    chosen = pick(learned, batch, x, key, min(count, len(new)), by, maximise=not minimise)
    judged = judgement_table(suggestion.suggest(learned, batch, x, key, maximise=not minimise), spec, new.index)
    table = judged.iloc[chosen]
    _frame(console, table, f"to measure next of {len(new)}, by {by}, after {len(batch.y)} samples")
    _write_json(out, table.to_dict("records"))


def judgement_table(judged: Suggestion, spec: TaskSpec, rows: pd.Index) -> pd.DataFrame:
    """Return the predictions with what measuring each promises; improvement of a log10 label is in decades."""
    table = prediction_table(judged.prediction, spec, rows)
    if judged.improvement is not None:
        table["improvement"] = judged.improvement
    return table.assign(information=judged.information)


def _few_and_new(
    run: Path, spec: TaskSpec, support: Path, others: Path, console: Console
) -> tuple[Batch, Rows, pd.DataFrame]:
    """Read the few labelled rows of a task, and rows without labels, scaled together."""
    if not spec.columns:
        raise RunError(f"{run}: its tasks are no tables (inputs of shape {spec.shape}); use the Python interface")
    few, new = read_frame(support), read_frame(others)
    check_disjoint(few, new, spec, str(support), str(others))
    scaler = fit_scaler(pd.concat([few, new], ignore_index=True), spec, f"{support} and {others}")
    x, y = encode_rows(few, spec, str(support), scaler), read_labels(few, spec, str(support))
    others_x = encode_rows(new, spec, str(others), scaler)
    absent = [c.name for c in spec.columns if c.name not in few.columns or c.name not in new.columns]
    if absent:
        console.print(f"taken as unknown, for lack of the column: {', '.join(absent)}", style="yellow")
    target = spec.target
    if target.kind == "regression" and target.scaling == "support" and (y == y[0]).all():
        console.print(
            f"{support}: {'one label' if len(y) == 1 else f'{len(y)} equal labels'}, which cannot say how far others "
            f"lie from it: {target.spread:g} is taken for their spread; measure one that differs",
            style="yellow",
        )
    return Batch(x, y, np.ones(len(y), np.float32)), others_x, new


def prediction_table(prediction: Prediction, spec: TaskSpec, rows: pd.Index) -> pd.DataFrame:
    """Return predictions in the user's units, with a central 90% interval (or a probability a class)."""
    target = spec.target
    if isinstance(prediction, Categorical):
        probability = np.asarray(jax.nn.softmax(prediction.logits))
        best = [target.classes[i] for i in probability.argmax(1)]
        columns = {f"p({name})": probability[:, i] for i, name in enumerate(target.classes)}
        return pd.DataFrame({"row": rows, target.name: best, **columns})
    mean, sd = np.asarray(prediction.mean, np.float64), np.sqrt(np.asarray(prediction.variance, np.float64))
    values = {target.name: mean, "low_90": mean - Z90 * sd, "high_90": mean + Z90 * sd}
    if target.transform == "log10":
        values = {name: 10.0**value for name, value in values.items()}
    return pd.DataFrame({"row": rows, **values})


def tune(
    path: Path, space: Path, data: Path | None, count: int, metric: str, earlier: list[Path], folder: Path,
    console: Console, out: Path | None,
) -> None:  # fmt: skip
    """Search a space of settings; print each trial, and the best."""
    recipe = read_recipe(path)
    search = trials.open_search(folder, read_space(space), metric)
    before = [trials.open_search(other, search.space, metric, must_exist=True) for other in earlier]
    family = recipe.tasks.load(data)
    with _bar(console) as bar:
        line = bar.add_task("trials", total=count, completed=len(search.trials()))

        def watch(number: int, trial: trials.Trial) -> None:
            bar.update(line, completed=number)
            value = trial.error if trial.value is None else f"{metric} {trial.value:.4g}"
            bar.console.print(f"{number}: {value}  {_settings(trial)}", style="dim")

        best = trials.tune(recipe, family, search, before, count, watch)
    spent = [trial.epsilon for trial in search.trials()]
    noised = "no differential privacy (no noise)" if min(spent) < 0 else (
        f"epsilon {sum(spent):.3g} at most, over {len(spent)} trials")  # fmt: skip
    print_pairs(console, {f"best {metric}": f"{best.value:.4g}", "settings": _settings(best),
                          "spent on looking": noised, "recipe": str(folder / "best.toml")})  # fmt: skip
    _write_json(out, [trial._asdict() for trial in search.trials()])


def _settings(trial: trials.Trial) -> str:
    return ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in trial.settings.items()
    )


def evaluate(
    folder: Path, data: Path | None, shots: str, supports: int, queries: int, split: str, baselines: str,
    console: Console, out: Path | None,
) -> None:  # fmt: skip
    """Compare a run's prior with the baselines on held-out tasks, and write the comparison into the report."""
    recipe, learned = open_run(folder)
    family = recipe.tasks.load(data)
    counts = read_shots(shots or str(recipe.schedule.shots))
    with _bar(console) as bar:
        line = bar.add_task("evaluating", total=None)
        table, predictions = compare_all(
            recipe, learned, family, counts, supports, queries, split, baselines,
            lambda done, total, what: bar.update(line, completed=done, total=total, description=what),
        )  # fmt: skip
    table.to_parquet(RunFolder(folder).comparison)
    predictions.to_parquet(RunFolder(folder).predictions)
    report_run(folder)
    for (metric, k), part in table[table.metric.isin(HEADLINE)].groupby(["metric", "shots"], sort=False):
        _frame(
            console, part[["contestant", "tasks", "mean", "low", "high"]], f"{metric} from {k} samples, mean over tasks"
        )
    console.print(f"report: {RunFolder(folder).report}")
    _write_json(out, json.loads(table.to_json(orient="records")))


HEADLINE = ("r2", "spearman", "accuracy", "delta_auprc")
"""The measures that a terminal shows; the report has them all."""


def doctor(console: Console, out: Path | None) -> None:
    """Say what is installed, what is left out and why, and what each sum asks one to trust."""
    facts = {
        "commonprior": importlib.metadata.version("commonprior"),
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "jax": f"{jax.__version__} on {', '.join(sorted({d.platform for d in jax.devices()}))}",
    }
    for extra, (module, use) in {"chem": ("rdkit", "SMILES columns")}.items():
        there = importlib.util.find_spec(module) is not None
        facts[f"extra {extra}"] = f"{module} installed: {use}" if there else (
            f"left out: {use} need it: pip install 'commonprior[{extra}]'")  # fmt: skip
    for base, package in PLUGINS.items():
        facts[package.__name__.rpartition(".")[2]] = ", ".join(plugin.kinds(package))
        for kind in plugin.kinds(package):
            plugin.load(package, base, kind)
    for kind in plugin.kinds(commonprior.sums):
        cls: Any = plugin.load(commonprior.sums, SecureSum, kind)
        facts[f"sum {kind}"] = cls.insecure or cls.trust
    print_pairs(console, facts)
    _write_json(out, facts)


def _bar(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                    TextColumn("left"), TimeRemainingColumn(), console=console)  # fmt: skip


def _frame(console: Console, frame: pd.DataFrame, title: str) -> None:
    grid = Grid(title=title, title_justify="left")
    for name in frame.columns:
        grid.add_column(str(name), justify="left" if frame[name].dtype.kind in "OU" else "right")
    for row in frame.itertuples(index=False):
        grid.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    console.print(grid)


def _write_json(path: Path | None, value: Any) -> None:
    if path is not None:
        path.write_text(json.dumps(value, indent=1))
