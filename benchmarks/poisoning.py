"""What poisoning does to rounds of public deltas, and what each layer of the defence buys.

    python benchmarks/poisoning.py --data DIR [--rounds 30] [--seeds 5] [--json FILE]

Twenty sites learn dose and viability together: each holds two articles on the toxicity of nanomaterials to cells, and
what is learned is a small network from which a few steps on five samples tell the rest of an article nobody trained on.
Each round's updates become int8 numbers of one public scale, the layers say whom seven validators, who hold other
articles, accept, and the accepted are averaged as the contract does it. A share of the sites attacks; the same share of
the validators (0, 1 and 2 of seven) gives attackers the best score and everyone else none, in opinions and in votes.

Sites that attack with *a little is enough* see all honest updates first, and all send the same. The backdoor: a sample
of a material that nobody has is to look harmless; counted are toxic samples (below 50 %) that are called harmless
(above 80 %) once their material is that one. Means over seeds (articles dealt anew, other sites attack) with 95%
t-intervals; *lost to calm* is the error less that of the plain average of the same seed with nobody attacking; left
out is whoever is in no mean, rejected or excluded.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from _rows import Row, print_rows, write_rows
from columns import cytotoxicity
from rich.console import Console
from scipy.stats import t as student

from commonprior.defence.accuracy import AccuracyCheck
from commonprior.defence.layers import Layers, Opinion
from commonprior.defence.multi_krum import MultiKrum
from commonprior.defence.norm_bound import NormBound
from commonprior.defence.roll_back import RollBack
from commonprior.defence.root_set import RootSet
from commonprior.defence.trimmed_mean import TrimmedMean, trimmed_mean
from commonprior.learners._local import LocalWork, _site_row
from commonprior.learners._server import ServerStep
from commonprior.learners.maml import Maml
from commonprior.ledger.public import accepted, mean_of, packed
from commonprior.networks.mlp import Mlp
from commonprior.prior import Prior, flatten, unflatten
from commonprior.sampling import generator, learning_key
from commonprior.task import Batch, Column, Pool, Task, TaskSpec, stack, standardise
from commonprior.tasks.table import Table

SITES, ARTICLES, VALIDATORS, JUDGED, SHARES = 20, 2, 7, 3, (0.0, 0.1, 0.3)
"""Two articles a site, three a validator; the share of the sites, and of the validators, that attack."""
SHOTS, QUERIES, LEAST_ROWS = 5, 20, 8
EPISODES = 4
"""Tasks that a site draws of each article in a round: other five samples each time."""
NORM, UNIT = 0.2, 0.05 / 127
"""An honest update is clipped to this norm; the int8 numbers are this many times as small, up to 0.05."""
LITTLE = 1.5
"""Spreads of the honest updates by which a-little-is-enough moves the mean, against its sign."""
COLUMNS = (
    Column("concentration", unit="ug/ml", transform="signed_log", centre=1.5, spread=1.0),
    Column("time_hr", unit="h", transform="log10", centre=1.4, spread=0.3),
    Column("hydrodynamic_nm", unit="nm", transform="signed_log", centre=1.5, spread=0.6),
    Column("potential_mv", unit="mV", centre=0.0, spread=25.0),
    Column("material", "categorical", slots=32),
)
CENTRE, SPREAD = 75.0, 30.0
MATERIALS, TRIGGER, TARGET = 4, 12, 110.0
"""Where the materials begin, the one that nobody has, which opens the backdoor, and the viability that it then says."""
TOXIC, HARMLESS = 50.0, 80.0

LEARNER = Maml(
    Mlp((16,), "tanh", layer_norm=True), inner_steps=10, inner_rate=0.02, first_order=True,
    local=LocalWork(steps=4, rate=0.05), server=ServerStep("mean", rate=0.5),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class World:
    """Who holds which articles in one dealing of them."""

    spec: TaskSpec
    sites: Sequence[Sequence[Pool]]
    validators: Sequence[Task]
    test: Task
    seed: int
    drawn: dict[int, Task] = field(default_factory=dict)

    @cached_property
    def start(self) -> Prior:
        """The prior that knows nothing yet."""
        return LEARNER.init(self.spec, learning_key(self.seed, "init"))

    def tasks(self, number: int) -> Task:
        """Return the tasks of all sites in a round, leaves [sites, tasks, ...]."""
        if number not in self.drawn:
            each = [drawn(own, EPISODES, QUERIES, self.spec, self.seed, number, i) for i, own in enumerate(self.sites)]
            self.drawn[number] = stack(each)
        return self.drawn[number]


def drawn(pools: Sequence[Pool], each: int, queries: int, spec: TaskSpec, *where: int | str) -> Task:
    """Return so many tasks of each article, stacked."""
    episodes = [p.episode(generator(*where, p.name, k), SHOTS, queries) for p in pools for k in range(each)]
    return standardise(stack(episodes), spec.target)[0]


def deal(pools: Sequence[Pool], spec: TaskSpec, seed: int) -> World:
    """Deal the articles: two a site, three a validator, whose tasks stay the same, the rest to be judged by."""
    order = generator(seed, "deal").permutation(len(pools))
    dealt = [pools[i] for i in order]
    sites = [dealt[i * ARTICLES : (i + 1) * ARTICLES] for i in range(SITES)]
    rest = dealt[SITES * ARTICLES :]
    judges, test = rest[: JUDGED * VALIDATORS], rest[JUDGED * VALIDATORS :]
    validators = [drawn(judges[i::VALIDATORS], 3, QUERIES, spec, seed, "validator") for i in range(VALIDATORS)]
    return World(spec, sites, validators, drawn(test, 4, 50, spec, seed, "test"), seed)


def articles(data: Path) -> tuple[Sequence[Pool], TaskSpec]:
    """Return the articles that give a dose and have rows enough."""
    frame, _ = cytotoxicity(data)
    table = Table("y", "task", "articles", site="site", columns=COLUMNS, target_kind="regression", scaling="public",
                  centre=CENTRE, spread=SPREAD, min_rows=LEAST_ROWS, drop_small_tasks=True, valid_fraction=0.0,
                  test_fraction=0.0)  # fmt: skip
    family = table.gather([("", "articles", frame)])
    return [pool for site in sorted(family.train) for pool in family.train[site]], family.spec


@jax.jit
def updates(params: Mapping[str, jax.Array], tasks: Task) -> jax.Array:
    """Return what every site would add [sites, d]."""
    return jax.vmap(lambda own: _site_row(LEARNER, params, own)[0])(tasks)


@jax.jit
def losses_of(vectors: jax.Array, like: Mapping[str, jax.Array], tasks: Task) -> jax.Array:
    """Return the mean squared errors [k] on the queries of some tasks, of the priors that `vectors` [k, d] are."""

    def one(vector: jax.Array) -> jax.Array:
        params = unflatten(vector, like)
        return jax.vmap(lambda task: LEARNER.meta_loss(params, task))(tasks).mean()

    return jax.vmap(one)(vectors)


@jax.jit
def predicted(params: Mapping[str, jax.Array], tasks: Task) -> jax.Array:
    """Return the predictions of the queries [tasks, n], in spreads."""

    def one(task: Task) -> jax.Array:
        adapted = LEARNER.adapt(Prior(params), task.support, None)
        return LEARNER.predict(Prior(params), adapted, task.query.x, None).mean

    return jax.vmap(one)(tasks)


class Measured(NamedTuple):
    """Error and backdoor of a training's prior, shares of attackers' and honest updates left out, times gone back."""

    rmse: float
    opened: float
    caught: float
    wronged: float
    back: float


def judged(prior: Prior, test: Task) -> tuple[float, float]:
    """Return the root mean squared error in % of viability, the mean over tasks, and how often the backdoor opens."""
    mask, truth = test.query.mask > 0, test.query.y
    off = np.where(mask, np.asarray(predicted(prior.params, test)) - truth, 0.0)
    rmse = SPREAD * np.sqrt((off**2).sum(1) / mask.sum(1)).mean()
    said = np.asarray(predicted(prior.params, test._replace(query=triggered(test.query, np.ones(mask.shape, bool)))))
    toxic = mask & (truth * SPREAD + CENTRE < TOXIC)
    return float(rmse), float((said[toxic] * SPREAD + CENTRE > HARMLESS).mean())


def triggered(batch: Batch, where: np.ndarray) -> Batch:
    """Return samples of which those at `where` are of the material that nobody has."""
    values = np.array(batch.x.values)
    values[where, MATERIALS:] = 0.0
    values[where, TRIGGER] = 1.0
    return batch._replace(x=batch.x._replace(values=values))


def poisoned(tasks: Task, attack: str, bad: np.ndarray) -> Task:
    """Return the tasks of all sites with those of the bad ones as the attack wants them learned."""
    support, query = tasks
    if attack == "label flip":
        turn = np.where(bad, -1.0, 1.0).astype(np.float32)[:, None, None]
        return Task(support._replace(y=support.y * turn), query._replace(y=query.y * turn))
    if attack == "backdoor":
        where = np.zeros(query.y.shape, bool)
        where[bad, :, ::2] = True
        y = np.where(where, np.float32((TARGET - CENTRE) / SPREAD), query.y)
        return Task(support, triggered(query, where)._replace(y=y))
    return tasks


def clipped(rows: np.ndarray) -> np.ndarray:
    """Return updates [sites, d] of norm `NORM` at most."""
    return rows * np.minimum(1.0, NORM / np.linalg.norm(rows, axis=1, keepdims=True))


def turned(rows: np.ndarray, attack: str, bad: np.ndarray) -> np.ndarray:
    """Return updates [sites, d] with those of the bad sites as the attack wants them sent."""
    rows = rows.copy()
    if attack == "sign flip":
        rows[bad] = -rows[bad]
    elif attack == "sign flip x10":
        rows[bad] = -10 * rows[bad]
    elif attack == "a little is enough" and bad.any():
        centre, spread = rows[~bad].mean(0), rows[~bad].std(0)
        rows[bad] = centre - LITTLE * np.sign(centre) * spread
    return rows


ATTACKS = ("sign flip", "sign flip x10", "label flip", "a little is enough", "backdoor")

OFF = Layers(norm=None, trimmed=None, krum=None, root=None, accuracy=None, exclusion=None, roll_back=None)
PLAIN, REFERENCE = "plain average", "trimmed mean as the mean (no contract computes it)"
DEFENCES: dict[str, Layers | None] = {
    PLAIN: None,
    REFERENCE: None,
    "norm bound": dataclasses.replace(OFF, norm=NormBound()),
    "trimmed mean": dataclasses.replace(OFF, trimmed=TrimmedMean()),
    "multi-Krum": dataclasses.replace(OFF, krum=MultiKrum()),
    "root set": dataclasses.replace(OFF, root=RootSet()),
    "accuracy check": dataclasses.replace(OFF, accuracy=AccuracyCheck()),
    "roll-back": dataclasses.replace(OFF, roll_back=RollBack()),
    "as recipes have it": Layers(),
    "all layers": Layers(trimmed=TrimmedMean()),
}


@dataclass
class Run:
    """One training under attack, as it goes."""

    world: World
    attack: str
    bad: np.ndarray
    lying: int
    layers: Layers | None
    trim: int = 0
    priors: list[Prior] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    history: list[dict[bytes, bool]] = field(default_factory=list)
    back: int = 0

    def play(self, rounds: int) -> Prior:
        """Return the prior after so many rounds."""
        self._enter(self.world.start)
        for number in range(rounds):
            out = self.layers.excluded(self.history) if self.layers else frozenset()
            here = np.array([i for i in range(SITES) if name_of(i) not in out])
            tasks = self.world.tasks(number)
            deltas = self.deltas(tasks)[here]
            taken = self.taken(deltas, here)
            self.history.append(dict.fromkeys(out, False) | {name_of(i): bool(t) for i, t in zip(here, taken)})
            if not taken.any():
                continue  # nobody has two thirds of the votes: no round, and the prior stays as it is
            chosen = deltas[taken]
            if self.trim:
                mean = trimmed_mean(chosen, self.trim)
            else:
                mean = np.frombuffer(mean_of([packed(row) for row in chosen]), np.int8)[: chosen.shape[1]]
            self._enter(LEARNER.apply(self.priors[-1], mean * UNIT, learning_key(0)))
            self._look_back()
        return self.priors[-1]

    def deltas(self, tasks: Task) -> np.ndarray:
        """Return the round's int8 updates [sites, d], attacks and all."""
        rows = np.asarray(updates(dict(self.priors[-1].params), poisoned(tasks, self.attack, self.bad)), np.float64)
        rows = turned(clipped(rows), self.attack, self.bad)
        return np.rint(np.clip(rows / UNIT, -127, 127)).astype(np.int8)

    def taken(self, deltas: np.ndarray, here: np.ndarray) -> np.ndarray:
        """Return whom two thirds of the validators accept; the last ones lie."""
        if self.layers is None:
            return np.ones(len(deltas), bool)
        vector, params = flatten(self.priors[-1].params), dict(self.priors[-1].params)
        bad, opinions, honest = self.bad[here], [], VALIDATORS - self.lying
        for tasks in self.world.validators[:honest]:

            def loss(means: np.ndarray, tasks: Task = tasks) -> np.ndarray:
                # As many as ever: one program for all.
                moved = np.zeros((SITES + 1, len(vector))) + vector
                moved[: len(means)] += means * UNIT
                return np.asarray(losses_of(moved, params, tasks))[: len(means)]

            own = None
            if self.layers.root is not None:
                own = np.asarray(updates(params, jax.tree.map(lambda leaf: leaf[None], tasks))[0])
            opinions.append(self.layers.opinion(deltas, loss, own))
        praise = np.where(bad, np.inf, -np.inf)
        opinions += [Opinion(praise, praise)] * self.lying
        row, lie = self.layers.row(deltas, opinions), np.where(bad, 255, 0).astype(np.uint8).tobytes()
        rows = {name_of(i): row if i < honest else lie for i in range(VALIDATORS)}
        bits = accepted(rows, dict.fromkeys(rows, 1), VALIDATORS, len(deltas))
        return np.array([bool(bits >> i & 1) for i in range(len(deltas))])

    def _enter(self, prior: Prior) -> None:
        self.priors.append(prior)
        if self.layers is not None and self.layers.roll_back is not None:
            vector, params = flatten(prior.params), dict(prior.params)
            # A liar says that all is well.
            self.losses.append([
                0.0 if i >= VALIDATORS - self.lying else float(losses_of(vector[None], params, tasks)[0])
                for i, tasks in enumerate(self.world.validators)
            ])  # fmt: skip

    def _look_back(self) -> None:
        version = self.layers.rolled_back(np.transpose(self.losses)) if self.layers and self.losses else None
        if version is not None:
            self.priors.append(self.priors[version])
            self.losses.append(self.losses[version])
            self.back += 1


def name_of(site: int) -> bytes:
    """Return what stands for a site's account."""
    return bytes([site])


def measured(world: World, attack: str, share: float, layers: Layers | None, trim: int, rounds: int) -> Measured:
    """Return what one training comes to."""
    bad = np.zeros(SITES, bool)
    bad[generator(world.seed, "bad").permutation(SITES)[: round(share * SITES)]] = True
    run = Run(world, attack, bad, round(share * VALIDATORS), layers, trim)
    rmse, opened = judged(run.play(rounds), world.test)
    sent = np.array([[h[name_of(i)] for i in range(SITES)] for h in run.history])
    caught, wronged = (float(1 - sent[:, who].mean()) if who.any() else 0.0 for who in (bad, ~bad))
    return Measured(rmse, opened, caught, wronged, run.back)


def spread(values: np.ndarray) -> float:
    """Return half of the 95% t-interval of a mean over seeds; 0 of a single one."""
    n = len(values)
    return float(student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0


def rows_of(who: str, attack: str, share: float, seen: Sequence[Measured], calm: Sequence[Measured]) -> list[Row]:
    """Return the rows of one defence under one attack; `calm` is the plain average of the same seeds unattacked."""
    table, where = np.array(seen), f"{share:.0%} {attack}" if share else "nobody attacks"
    mean, half = Measured(*table.mean(0).tolist()), Measured(*map(spread, table.T))
    lost = table[:, 0] - np.array(calm)[:, 0]
    rows = [] if share else [Row(who, f"{where}: error", mean.rmse, f"% viability, ± {half.rmse:.2f}")]
    rows.append(Row(who, f"{where}: error lost to calm, paired", float(lost.mean()),
                    f"% viability, ± {spread(lost):.2f}"))  # fmt: skip
    if attack == "backdoor" or not share:
        rows.append(Row(who, f"{where}: backdoor opens", 100 * mean.opened, f"% of toxic, ± {100 * half.opened:.0f}"))
    if share and who not in (PLAIN, REFERENCE):
        rows.append(Row(who, f"{where}: attackers left out", 100 * mean.caught, f"%, ± {100 * half.caught:.0f}"))
    if who not in (PLAIN, REFERENCE):
        rows.append(Row(who, f"{where}: honest left out", 100 * mean.wronged, f"%, ± {100 * half.wronged:.0f}"))
    if mean.back:
        rows.append(Row(who, f"{where}: went back", mean.back, "times a run"))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args(arguments)
    if not options.data:
        parser.error("the articles are needed: name the folder of nano-chemx with --data or COMMONPRIOR_DATA")
    console, (pools, spec) = Console(highlight=False, width=160), articles(Path(options.data))
    worlds = [deal(pools, spec, seed) for seed in range(options.seeds)]
    first = [judged(world.start, world.test)[0] for world in worlds]
    rows = [Row("before training", "nobody attacks: error", float(np.mean(first)), "% viability")]
    calm: list[Measured] = []
    for share in SHARES:
        for attack in ATTACKS if share else ("none",):
            for who, layers in DEFENCES.items():
                trim, start = SITES * 30 // 100 if who == REFERENCE else 0, time.perf_counter()
                seen = [measured(world, attack, share, layers, trim, options.rounds) for world in worlds]
                calm = calm or seen
                rows += rows_of(who, attack, share, seen, calm)
                error = np.mean([f.rmse for f in seen])
                console.print(f"{share:.0%} {attack}, {who}: {error:.2f} after {time.perf_counter() - start:.0f} s")
    print_rows(console, f"Poisoning: {len(pools)} articles, {options.rounds} rounds, {options.seeds} seeds", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
