"""Whether the Bayesian learners' intervals hold: the share of held-out labels inside the central 90%, and the NLL.

    python benchmarks/calibration.py [--data DIR] [--family sinusoid|lnpdb|all] [--rounds N] [--json FILE]

Every learner is meta-trained on the same pooled tasks and predicts the same supports of tasks that nobody trained on:
as it is, and with standard deviations widened by what a survey of the validation tasks finds (`surveys.calibration`).
A task's score is the mean over its supports; intervals are 95% intervals over tasks. Settings were not tuned here.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.baselines.pooled import Pooled
from commonprior.errors import DataError
from commonprior.evaluation import compare, draws, summary
from commonprior.learners import Learner
from commonprior.learners._server import ServerStep
from commonprior.learners.adkf import Adkf
from commonprior.learners.alpaca import Alpaca
from commonprior.learners.dkt import Dkt
from commonprior.learners.pacoh import Pacoh
from commonprior.learners.probe import Probe
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior, Predictor
from commonprior.sampling import generator
from commonprior.surveys.calibration import Calibration
from commonprior.task import stack, standardise
from commonprior.tasks import Family, TaskSource
from commonprior.tasks.lnpdb import Lnpdb
from commonprior.tasks.sinusoid import Sinusoid

SOURCES: dict[str, tuple[TaskSource, Mlp, int]] = {
    "sinusoid": (Sinusoid(sites=2, held_out=40), Mlp((40, 40), "tanh"), 10),
    "lnpdb": (Lnpdb(), Mlp((128,), "gelu", layer_norm=True), 16),
}
"""The tasks, the network, and the samples of a support."""

SUPPORTS, QUERIES, TASKS, SEED = 5, 50, 8, 0
COVERED = (0.85, 0.95)


def learners(network: Mlp) -> dict[str, Learner]:
    """Return who is asked how sure it is."""
    server = ServerStep(rate=0.005)
    return {
        "dkt": Dkt(network, server=server),
        "adkf": Adkf(network, server=server),
        "alpaca": Alpaca(network, server=server),
        "pacoh": Pacoh(network, server=server),
        "probe, gp": Probe(network, "gp", server=server),
    }


def measure(name: str, data: Path | None, rounds: int, console: Console) -> list[Row]:
    """Return coverage and NLL of every learner on one family's test tasks."""
    source, network, shots = SOURCES[name]
    family = source.load(data)
    console.print(family.note)
    trained: dict[str, Predictor] = {}
    for who, learner in learners(network).items():
        start = time.perf_counter()
        (learned,) = Pooled(learner, rounds, TASKS, shots, shots).prepare(family.spec, family.train, SEED).values()
        assert isinstance(learned, LearnedPrior)
        trained[who], trained[f"{who}, surveyed"] = learned, widened(learned, family, shots)
        console.print(f"{name}: trained {who} in {time.perf_counter() - start:.0f} s")
    frame = summary(compare(trained, draws(family.test, shots, SUPPORTS, QUERIES, SEED)))
    rows = []
    for line in frame[frame.metric.isin(["coverage_90", "nll"])].itertuples():
        case = f"{name}, {shots} shots, {rounds} rounds, {line.metric}"
        value, who = float(line.mean), str(line.contestant)
        covers = line.metric == "coverage_90"
        rows.append(Row(who, case, value, "", f">= {COVERED[0]}" if covers else None))
        if covers:
            rows.append(Row(who, f"{case}, not too wide", value, "", f"<= {COVERED[1]}"))
        rows.append(Row(who, f"{case}, 95% from", float(line.low), ""))
        rows.append(Row(who, f"{case}, 95% to", float(line.high), ""))
    return rows


def widened(learned: LearnedPrior, family: Family, shots: int) -> LearnedPrior:
    """Return the prior with the factor that its survey finds, every validation site answering once."""
    survey, answers = Calibration(learned.learner), []
    asked = survey.about(learned)
    for site, pools in sorted(family.valid.items()):
        rng = generator(SEED, "calibration", site)
        tasks = [standardise(pool.episode(rng, shots, QUERIES), family.spec.target)[0]
                 for pool in pools for _ in range(SUPPORTS)]  # fmt: skip
        answers.append(survey.answer(asked, stack(tasks)))
    return replace(learned, widening=survey.widening(survey.apply(asked, np.mean(answers, 0), None)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--family", choices=["all", *SOURCES], default="all")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    console, rows = Console(highlight=False), []
    for name in SOURCES if options.family == "all" else [options.family]:
        try:
            rows += measure(name, Path(options.data) if options.data else None, options.rounds, console)
        except DataError as error:
            console.print(f"skipped {name}: {error}")
            rows.append(Row("everyone", name, None, "no data"))
    print_rows(console, "Calibration", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
