"""What privacy costs: few-shot FS-Mol with every training task protected, epsilon 8 and 2 against no noise.

    python benchmarks/dp_utility.py --data DIR [--json FILE]

Few numbers are learned: counts on a learned scale of their own (an RBF), beside Tanimoto, and what the counts say of a
molecule before its task is known (a mean linear in them). In each of a few rounds every training task gives one
gradient, clipped, rounded and noised by the discrete Gaussian mechanism of the runs, summed in integers (what a secure
sum computes; nobody would learn more than the sum), and divided by a public
number. The noise is what `accountant.calibrate` finds for the rounds. Scored on the validation fold by FS-Mol's
protocol, 16 shots.

The site as the unit is not run: a site's mean is one row of a sum over 21, whatever it holds, and the noise drowns it.
The last rows say at how many sites the noise of the mean would be what it is for tasks at epsilon 8, where the clip
takes alike: the noise of a mean is z * clip / number of rows, so as many sites are needed as there are tasks here.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import fsmol
import jax
import jax.numpy as jnp
import numpy as np
from _rows import Row, print_rows, write_rows
from rich.console import Console

from commonprior.accountant import calibrate, spend_of
from commonprior.contestants import FEDERATED
from commonprior.evaluation import summary
from commonprior.learners import Learner
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.learners.dkt import Dkt
from commonprior.networks import Network
from commonprior.predictor import LearnedPrior
from commonprior.prior import Contributions, Prior, Tensors
from commonprior.privacy import Mechanism, Release
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.task import Array, Pool, Rows
from commonprior.tasks import Family
from commonprior.tasks.fsmol import Fsmol

EPSILONS, DELTA = (8.0, 2.0), 1e-5
SHOTS, AT_ONCE = 16, 64


@final
@dataclass(frozen=True)
class Weighted(Network):
    """Logarithms of counts, each times a number of its own: as many outputs as counts."""

    start: float = 4.0

    def init(self, example: Array, outputs: int, key: Array) -> dict[str, np.ndarray]:
        """Return logarithms of the numbers, all alike: molecules of some fifty features start a length apart."""
        return {"body/scale": np.full(outputs, math.log(self.start), np.float32)}

    def apply(self, params: Tensors, x: Rows) -> Array:
        """Return [n, outputs]."""
        return jnp.log1p(x.counts) * jnp.exp(params["body/scale"])


def learner_of(slots: int, rate: float) -> Dkt:
    """Return the learner: `slots` numbers in the network, twice as many in the mean, and six more in the kernel."""
    return Dkt(
        Weighted(), terms=("deep", "counts"), features=slots, mean="linear", local=LocalWork(rate=1.0),
        server=ServerStep(rate=rate),
    )  # fmt: skip


def gradients(
    learner: Learner, prior: Prior, pools: Sequence[Pool], family: Family, seed: tuple[int, str]
) -> np.ndarray:
    """Return minus the gradient of every task of a site [m, d], some at a time."""
    rows = []
    for start in range(0, len(pools), AT_ONCE):
        # The last ones are filled up with tasks that are dropped again: one program for all.
        held = [pools[(start + i) % len(pools)] for i in range(AT_ONCE)]
        tasks = [sample_tasks([p], generator(*seed, start, i), 1, SHOTS, SHOTS, family.spec.target)
                 for i, p in enumerate(held)]  # fmt: skip
        stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *tasks)
        contributions, _ = learner.contribute(prior, stacked, {}, learning_key(*seed, start))
        rows.append(np.asarray(contributions.rows)[: len(pools) - start])
    return np.concatenate(rows)


def release_of(family: Family, length: int) -> Release:
    """Return what a round gives away: every site all of its tasks."""
    sites = len(family.train)
    return Release(sites, sites, length, max(map(len, family.train.values())))


def learn(
    learner: Learner, family: Family, mechanism: Mechanism, rounds: int, seed: int
) -> tuple[Prior, list[np.ndarray]]:
    """Return the prior after so many rounds through the mechanism, and each round's norms of rows."""
    prior, norms = learner.init(family.spec, learning_key(seed, "init")), []
    release = release_of(family, learner.length(prior))
    encoding = mechanism.encoding(release)
    for number in range(rounds):
        total, lengths = np.zeros(mechanism.width(release.length), np.int64), []
        for site, pools in sorted(family.train.items()):
            rows = gradients(learner, prior, pools, family, (seed + 1000 * number, site))
            lengths.append(np.linalg.norm(rows, axis=1))
            integers, _ = mechanism.protect(
                Contributions(rows, "task"), encoding, release, {}, learning_key(seed, number, site), os.urandom
            )
            total += integers
        norms.append(np.concatenate(lengths))
        prior = learner.apply(prior, mechanism.mean(total, encoding, release, len(family.train)), None)
    return prior, norms


def scored(learner: Learner, prior: Prior, family: Family, source: Fsmol, path: Path) -> tuple[float, float, float]:
    """Return delta-AUPRC on a fold: mean over tasks, and the ends of its interval."""
    table, _ = fsmol.evaluate({FEDERATED: LearnedPrior(learner, prior, family.spec)}, source, path, SHOTS)
    line = summary(table).iloc[0]
    return float(line["mean"]), float(line["low"]), float(line["high"])


def enough_sites(noises: Mapping[float, float], tasks: int, cohorts: Sequence[int]) -> list[Row]:
    """Return the noise of the mean where the site is the unit, beside that of tasks at epsilon 8.

    A task's row and a site's are clipped to the same length. The sum of n of them, divided by n, has noise z * clip /
    n in each number: z follows from epsilon, delta and the rounds alone.
    """
    reference = noises[EPSILONS[0]] / tasks
    rows = []
    for epsilon, noise in noises.items():
        for sites in cohorts:
            case = f"site as unit, epsilon {epsilon:g}, {sites} sites: noise of the mean, over tasks' at epsilon 8"
            rows.append(Row("extrapolated", case, noise / sites / reference, "times"))
        case = f"site as unit, epsilon {epsilon:g}: sites from which it is no larger"
        rows.append(Row("extrapolated", case, math.ceil(noise / reference), "sites"))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.03, help="of the server's Adam")
    parser.add_argument("--clip", type=float, default=0.1)
    parser.add_argument("--slots", type=int, default=640)
    parser.add_argument("--runs", type=int, default=1, help="noised runs an epsilon, each with noise of its own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    console, source = Console(highlight=False), Fsmol(slots=options.slots)
    data = Path(options.data) if options.data else None
    family = source.load(data)
    folder = data / "fsmol" if data and (data / "fsmol").is_dir() else data
    path = (folder or Path()) / "valid.parquet"
    learner, quiet = learner_of(options.slots, options.rate), DiscreteGaussian(options.clip)
    fresh = learner.init(family.spec, learning_key(0, "init"))
    release = release_of(family, learner.length(fresh))
    tasks = sum(map(len, family.train.values()))
    case = f"valid, {SHOTS} shots, delta-AUPRC"
    rows = [
        Row("kernel", "numbers learned", release.length, "", "<= 2000"),
        Row("kernel", f"{case}, before training", scored(learner, fresh, family, source, path)[0], ""),
    ]
    prior, norms = learn(learner, family, quiet, options.rounds, 0)
    clipped = [float((length > options.clip).mean()) for length in norms]
    console.print(f"norms of rows: median {np.median(norms[0]):.3g} at first, {np.median(norms[-1]):.3g} at last")
    without, low, high = scored(learner, prior, family, source, path)
    rows += [
        Row("no noise", case, without, ""), Row("no noise", f"{case}, 95% from", low, ""),
        Row("no noise", f"{case}, 95% to", high, ""),
        Row("no noise", f"rows that the clip of {options.clip:g} shortens, first round", 100 * clipped[0], "%"),
    ]  # fmt: skip
    noises: dict[float, float] = {}
    for epsilon in EPSILONS:
        noises[epsilon] = calibrate(
            lambda z: dataclasses.replace(quiet, noise=z).spends(release), epsilon, DELTA, options.rounds
        )
        mechanism = dataclasses.replace(quiet, noise=noises[epsilon])
        spent = spend_of(mechanism.spends(release), "task").times(options.rounds).epsilon(DELTA)
        rows.append(Row(f"epsilon {epsilon:g}", f"spent a task at delta {DELTA:g}", spent, "", f"<= {epsilon:g}"))
        rows.append(Row(f"epsilon {epsilon:g}", "noise multiplier of the sum", noises[epsilon], ""))
        values = [
            scored(learner, learn(learner, family, mechanism, options.rounds, 0)[0], family, source, path)[0]
            for _ in range(options.runs)
        ]
        value = float(np.mean(values))
        rows.append(Row(f"epsilon {epsilon:g}", case, value, ""))
        goal = "<= 0.02" if epsilon == EPSILONS[0] else None
        rows.append(Row(f"epsilon {epsilon:g}", f"{case}, lost to no noise", without - value, "", goal))
    rows += enough_sites(noises, tasks, (len(family.train), 100, 1000))
    print_rows(console, "Privacy and accuracy on FS-Mol", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
