"""What poisoning sites do to a prior: the mean of all sites' updates beside a median and a trimmed mean of groups'.

    python benchmarks/robust_sums.py [--family sinusoid|lnpdb] [--data DIR] [--rounds 60] [--seeds 3] [--json FILE]

A share of the sites turns its updates around: clipped like everyone's ("flip"), or as large as the words of the sum can
carry ("flip, unclipped"), which nobody notices under masks. The groups are drawn anew in each round, by the code that
draws them in a run; the integers are added in the open, as every secure sum gives the same ones. `reached` is the share
of rounds in which more groups than the median bears held a liar. Means and 95% t-intervals over seeds.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from _rows import Row, print_rows, write_rows
from rich.console import Console
from scipy.stats import t as student

from commonprior.aggregation import Summed, new_prior
from commonprior.evaluation import compare, draws
from commonprior.learners import Learner
from commonprior.learners._server import ServerStep
from commonprior.learners.dkt import Dkt
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior
from commonprior.privacy import Mechanism, Release
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.session import Member, Session
from commonprior.sums._groups import WHOLE, Grouping, groups_of
from commonprior.tasks import Family
from commonprior.tasks.lnpdb import Lnpdb
from commonprior.tasks.sinusoid import Sinusoid

SHARES = (0.0, 0.1, 0.2, 0.3)


@dataclass(frozen=True)
class World:
    """A family with its learner, and what it is judged by: a metric, and whether more is better."""

    family: Family
    learner: Learner
    mechanism: Mechanism
    tasks: int
    shots: int
    queries: int
    metric: str


def world_of(name: str, data: Path | None) -> World:
    """Return 30 sites of sine waves, or the 22 studies of LNPDB."""
    if name == "sinusoid":
        learner = Dkt(Mlp(widths=(40, 40)), server=ServerStep(rate=0.01))
        return World(Sinusoid(sites=30).load(None), learner, DiscreteGaussian(clip=1.0, per="site"), 4, 10, 10, "rmse")
    learner = Dkt(Mlp(widths=(128,)), terms=("counts", "values", "counts*values"), server=ServerStep(rate=0.03))
    mechanism = DiscreteGaussian(clip=10.0, per="site")
    return World(Lnpdb().load(data), learner, mechanism, 4, 16, 32, "spearman")


@dataclass(frozen=True)
class Case:
    """One training: who combines how, which share of the sites lies, and whether it clips its lies."""

    name: str
    grouping: Grouping
    share: float
    clipped: bool
    noise: float = 0.0


def train(world: World, case: Case, rounds: int, seed: int) -> tuple[LearnedPrior, float]:
    """Return the prior, and the share of rounds in which more groups were bad than are tolerated."""
    family, learner, reached = world.family, world.learner, 0
    names, rng = sorted(family.train), np.random.default_rng(seed)
    n = len(names)
    bad = set(rng.permutation(n)[: round(case.share * n)].tolist())
    prior = learner.init(family.spec, learning_key(seed, "init"))
    release = Release(n, case.grouping.least(n, 0), learner.length(prior), world.tasks)
    mechanism = replace(world.mechanism, noise=case.noise)  # pyright: ignore[reportArgumentType]
    encoding = mechanism.encoding(release)
    roster = tuple(Member(name, seat.to_bytes(32, "big")) for seat, name in enumerate(names))
    for number in range(rounds):
        tasks = [
            sample_tasks(family.train[name], generator(seed, number, name), world.tasks, world.shots, world.queries,
                         family.spec.target)
            for name in names
        ]  # fmt: skip
        # A row a task, whoever's it is: every site's in one call.
        together = jax.tree.map(lambda *leaves: np.concatenate(leaves), *tasks)
        given, _ = learner.contribute(prior, together, {}, learning_key(seed, number))
        ends = np.cumsum([len(own.support.y) for own in tasks])
        integers = []
        for seat, rows in enumerate(np.split(np.asarray(given.rows), ends[:-1])):
            own, _ = mechanism.protect(
                given._replace(rows=rows), encoding, release, {}, learning_key(seed, number, seat), os.urandom
            )
            if seat in bad:
                own = -own if case.clipped else -np.sign(own) * encoding.limit
            integers.append(own)
        session = Session(b"benchmark", number + 1, 0, bytes(32), bytes(32), bytes(32), bytes(32), roster, 0, 0,
                          release.length, encoding)  # fmt: skip
        draw = tuple((seat, rng.bytes(32)) for seat in range(n)) if case.grouping != WHOLE else ()
        seats = [group.seats for group in groups_of(session, case.grouping, draw)]
        reached += sum(bool(bad & set(group)) for group in seats) > case.grouping.tolerated
        total = np.stack([sum(integers[seat] for seat in group) for group in seats])
        summed = Summed(total, release, tuple(len(group) for group in seats))
        prior, _ = new_prior(learner, mechanism, case.grouping, prior, encoding, summed)
    return LearnedPrior(learner, prior, family.spec), reached / rounds


def cases_of(n: int) -> list[Case]:
    """Return every training: as many groups of three sites as an odd number of them allows."""
    groups = n // 3 - (n // 3 + 1) % 2
    rules = {
        "mean of all": WHOLE,
        f"median of {groups} groups": Grouping(groups),
        f"trimmed mean of {groups} groups, trim {groups // 3}": Grouping(groups, "trimmed_mean", groups // 3),
    }
    return [
        Case(name, grouping, share, clipped)
        for share in SHARES
        for clipped in ((True, False) if share else (True,))
        for name, grouping in rules.items()
    ]


def rows_of(world: World, case: Case, rounds: int, seeds: int) -> list[Row]:
    values, reached = [], []
    for seed in range(seeds):
        learned, share = train(world, case, rounds, seed)
        table = compare({"prior": learned}, draws(world.family.test, world.shots, 2, 100, 0))
        values.append(float(table[table.metric == world.metric].groupby(["site", "task"]).value.mean().mean()))
        reached.append(share)
    half = float(student.ppf(0.975, seeds - 1) * np.std(values, ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0
    attack = f"{case.share:.0%} of {len(world.family.train)} sites " + ("flip" if case.clipped else "flip, unclipped")
    where = attack if case.share else "nobody lies"
    rows = [
        Row(case.name, f"{where}: {world.metric}", float(np.mean(values)), ""),
        Row(case.name, f"{where}: {world.metric}, 95% ±", half, ""),
    ]
    if case.share and case.grouping != WHOLE:
        rows.append(Row(case.name, f"{where}: rounds beyond what is promised", float(np.mean(reached)), "share"))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--family", choices=("sinusoid", "lnpdb"), default="sinusoid")
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args(arguments)
    console, world = Console(width=160), world_of(options.family, Path(options.data) if options.data else None)
    rows: list[Row] = []
    for case in cases_of(len(world.family.train)):
        rows += rows_of(world, case, options.rounds, options.seeds)
        console.print(f"{len(rows)} figures; last: {rows[-1].who}, {rows[-1].case} {rows[-1].value:.4g}")
    print_rows(console, f"robust sums, {options.family}", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
