"""Every method and baseline on real families with natural sites: federated, pooled and alone in one table.

    python benchmarks/methods.py --data DIR [--family toxcast,viability,mic] [--rounds N] [--json FILE]

*toxcast*: toxicity assays, sites are the assay vendors, NVS and Tanguay are held out (classification, delta AUPRC).
*viability*, *mic*: nanoparticles that harm cells, and that stop bacteria; sites are papers, a fifth of them held out
(regression, Spearman). Every learner is trained on pooled tasks with one setting of its own, the recipe's also as a
federation with a masked sum; every contestant sees the same supports. Intervals are 95% intervals over tasks; nothing
was chosen by looking at the held-out sites.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.baselines.pooled import Pooled
from commonprior.contestants import FEDERATED, best_alone, prepare
from commonprior.errors import CommonPriorError
from commonprior.evaluation import compare, draws, summary
from commonprior.learners import Learner
from commonprior.learners._server import ServerStep
from commonprior.learners.adkf import Adkf
from commonprior.learners.alpaca import Alpaca
from commonprior.learners.dkt import Dkt
from commonprior.learners.maml import Maml
from commonprior.learners.matching import Matching
from commonprior.learners.neural_process import NeuralProcess
from commonprior.learners.protonet import Protonet
from commonprior.learners.reptile import Reptile
from commonprior.networks.mlp import Mlp
from commonprior.predictor import Predictor
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe, Schedule
from commonprior.sampling import generator
from commonprior.site.policy import Policy
from commonprior.sums.masked import Masked
from commonprior.task import Column
from commonprior.tasks import Family, TaskSource
from commonprior.tasks._fingerprint import morgan
from commonprior.tasks.table import Table
from commonprior.training import start, train_rounds

SUPPORTS, QUERIES = 10, 200
MOST_TASKS, MOST_ROWS = 12, 400


class Case(NamedTuple):
    """A family, where it comes from, how its tasks are judged, and from how many samples."""

    source: TaskSource
    family: Family
    metric: str
    shots: int


def readable(smiles: str) -> bool:
    """Whether RDKit takes it for a molecule; ToxCast has a few salts that it does not, and the word FAIL."""
    try:
        return bool(morgan(2)(smiles))
    except ValueError:
        return False


def toxcast(data: Path) -> Case:
    """Return assays by vendor; of each vendor at most `MOST_TASKS` assays of at most `MOST_ROWS` molecules."""
    table = pd.read_parquet(data / "fewshot-molecules" / "toxcast.parquet").drop_duplicates(["task_id", "smiles"])
    tasks = table[["site_id", "task_id"]].drop_duplicates().sample(frac=1, random_state=0)
    kept = tasks.groupby("site_id").head(MOST_TASKS).task_id
    rows = table[table.task_id.isin(kept)].sample(frac=1, random_state=0).groupby("task_id").head(MOST_ROWS)
    rows = rows[rows.smiles.map({text: readable(text) for text in rows.smiles.unique()})]
    source = Table(
        target="y", task="task_id", site="site_id", file="toxcast.parquet",
        columns=(Column("smiles", "smiles", slots=1024),),
        target_kind="classification", classes=("0", "1"), test_sites=("toxcast_NVS", "toxcast_Tanguay"),
        drop_small_tasks=True, min_rows=40,
    )  # fmt: skip
    return Case(source, source.gather([("", "toxcast.parquet", rows)]), "delta_auprc", 16)


def columns_of(table: pd.DataFrame, target: str) -> tuple[Column, ...]:
    """Return the inputs of a nano-chemx table: numbers, and text as hashed categories, however many there are."""
    skipped = {target, "task_id", "site_id", "doi", "year", "task_dose_complete"}
    return tuple(
        Column(name, "numeric" if pd.api.types.is_numeric_dtype(table[name]) else "categorical")
        for name in table.columns
        if name not in skipped
    )


def chemx(file: str, target: str, transform: str) -> Callable[[Path], Case]:
    """Return a reader of one nano-chemx file: a paper is a site, and its one task."""

    def read(data: Path) -> Case:
        table = pd.read_parquet(data / "nano-chemx" / f"{file}.parquet")
        if "task_dose_complete" in table:
            table = table[table.task_dose_complete.astype(bool)]
        if transform == "log10":
            table = table[table[target] > 0]  # nothing inhibits at no concentration at all
        columns = columns_of(table, target)
        rows = [("", f"{file}.parquet", table[["task_id", "site_id", target, *(c.name for c in columns)]])]
        every = Table(
            target=target, task="task_id", site="site_id", file=f"{file}.parquet", target_kind="regression",
            transform=transform, columns=columns, valid_fraction=0.0, test_fraction=0.0, drop_small_tasks=True,
            min_rows=16,
        )  # fmt: skip
        papers = sorted(every.gather(rows).train)  # those with enough rows
        held = tuple(str(p) for p in generator(0, file).permutation(papers)[: len(papers) // 5])
        source = replace(every, test_sites=held, valid_fraction=0.1)
        return Case(source, source.gather(rows), "spearman", 5)

    return read


CASES: dict[str, Callable[[Path], Case]] = {
    "toxcast": toxcast,
    "viability": chemx("cytotox_viability", "viability_%", "none"),
    "mic": chemx("antibacterial_mic", "mic_np_ug_ml", "log10"),
}


def learners(classes: bool) -> dict[str, Learner]:
    """Return every method with one setting; the first is the recipe's."""
    wide, fast = Mlp((128,), activation="gelu", layer_norm=True), ServerStep(rate=0.003)
    terms = ("counts", "values", "counts*values")
    out: dict[str, Learner] = {
        "dkt": Dkt(wide, terms=terms, server=ServerStep(rate=0.03)),
        "dkt, deep features too": Dkt(wide, terms=("deep", *terms), server=fast),
        "dkt, linear mean": Dkt(wide, terms=("deep", *terms), mean="linear", server=fast),
        "adkf": Adkf(wide, server=fast),
        "maml": Maml(wide, inner_steps=20, inner_rate=0.02, server=ServerStep(rate=3e-4)),
        "anil": Maml(wide, inner_steps=20, inner_rate=0.02, adapts=("head",), server=ServerStep(rate=3e-4)),
        "reptile": Reptile(Mlp((256,)), 20, 0.01, server=ServerStep(kind="mean", rate=0.2)),
        "matching network": Matching(wide, server=ServerStep(rate=1e-3)),
        "neural process": NeuralProcess(wide, server=ServerStep(rate=1e-3)),
    }
    if classes:
        out["prototypical network"] = Protonet(wide, server=ServerStep(rate=1e-3))
    else:
        out["alpaca"] = Alpaca(wide, server=fast)
    return out


def contest(name: str, case: Case, rounds: int, console: Console) -> list[Row]:
    """Train everybody, compare everybody."""
    family, classes = case.family, case.family.spec.target.kind == "classification"
    schedule = Schedule(rounds=rounds, tasks_per_site=1 if not classes else 4, shots=case.shots, queries=16)
    budget = (schedule.rounds, schedule.tasks_per_site, schedule.shots, schedule.queries)
    methods = learners(classes)
    recipe = Recipe(
        case.source, next(iter(methods.values())), DiscreteGaussian(clip=10.0, per="site"), Masked(), schedule,
        policy=Policy(minimum_cohort=3),
    )  # fmt: skip
    rows: list[Row] = []
    contestants: dict[str, Predictor] = {}
    with tempfile.TemporaryDirectory() as folder:
        before = time.perf_counter()
        training = start(recipe, Path(folder) / "run", family=family)
        train_rounds(training)
        contestants[FEDERATED] = training.learned()
        rows.append(
            Row(FEDERATED, f"{name}, training with {len(family.train)} sites", time.perf_counter() - before, "s")
        )
    for method, learner in methods.items():
        before = time.perf_counter()
        try:
            (contestants[f"pooled {method}"],) = Pooled(learner, *budget).prepare(family.spec, family.train, 0).values()
        except CommonPriorError as error:
            rows.append(Row(f"pooled {method}", name, None, f"refused: {error}"))
            continue
        console.print(f"{name}: trained {method} in {time.perf_counter() - before:.0f} s")
    baselines = ("from_scratch", "transfer", "random_forest", "single_task_gp") + (("alone",) if classes else ())
    contestants |= prepare(recipe, family, baselines, lambda *_: None)
    table = best_alone(compare(contestants, draws(family.test, case.shots, SUPPORTS, QUERIES, 0)))
    for line in summary(table[table.metric == case.metric], FEDERATED).itertuples():
        case_name = f"{name}, {case.shots} shots, {line.tasks} tasks, {case.metric}"
        rows.append(Row(str(line.contestant), case_name, float(line.mean), f"[{line.low:.3f}, {line.high:.3f}]"))
        if line.contestant == "pooled dkt":
            target = f"{name}, federated less pooled, paired"
            rows.append(Row(FEDERATED, target, -float(line.difference), "", ">= -0.02"))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--family", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data DIR (or COMMONPRIOR_DATA) is needed")
    console, rows = Console(highlight=False), []
    for name in options.family.split(","):
        case = CASES[name](Path(options.data))
        console.print(f"{name}: {case.family.note}")
        rows += contest(name, case, options.rounds, console)
    print_rows(console, "Methods", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
