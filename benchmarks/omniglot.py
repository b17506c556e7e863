"""Omniglot, 5 classes from 1 and from 5 samples each: prototypical networks and MAML on a processor.

    python benchmarks/omniglot.py --data DIR [--minutes 25] [--keep FOLDER] [--json FILE]

Lake's split: 25 background alphabets are learned from, 20 evaluation alphabets judged by, each character in four
rotations. Published figures (ProtoNet 98.8 and 99.7, MAML 98.7 and 99.9 %) use the split of Vinyals et al., in which
test characters come from alphabets that were also learned from; ours come from alphabets never seen. Episodes mix
alphabets as theirs do; the rows "within an alphabet" draw all classes from one, which is harder. Tasks are pooled: what
is measured here is the learner, and training for a federation is the same `contribute`, alphabet by alphabet.

Training goes on from what `--keep` holds; `--minutes` of processor time bound each learner's training, and the steps
that it came to are a row of their own.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from _rows import Row, print_rows, write_rows
from rich.console import Console
from scipy import stats

from commonprior.learners import Learner
from commonprior.learners._local import LocalWork
from commonprior.learners._server import ServerStep
from commonprior.learners.maml import Maml
from commonprior.learners.protonet import Protonet
from commonprior.networks.conv2d import Conv2d
from commonprior.predictor import LearnedPrior, predict_tasks
from commonprior.prior import Prior, load_prior, save_prior
from commonprior.sampling import generator, learning_key, sample_tasks
from commonprior.task import stack
from commonprior.tasks.omniglot import Omniglot

WAY, QUERIES, EPISODES = 5, 15, 600
TARGETS = {("protonet", 1): ">= 98", ("protonet", 5): ">= 99.3"}
AT_ONCE = 4 << 20
"""Bytes of images that are looked at together: their activations take sixty times as much."""


class Stage(NamedTuple):
    """`steps` steps of `tasks` tasks of `way` classes, with so many samples a class, at a rate of Adam's."""

    steps: int
    way: int
    tasks: int
    shots: int
    queries: int
    rate: float


LEARNERS: dict[str, tuple[Learner, tuple[Stage, ...]]] = {
    # Snell et al. train with 60 classes at once; fewer at first are worth more a second.
    "protonet": (
        Protonet(Conv2d()),
        (Stage(1500, 20, 1, 1, 4, 0.002), Stage(1500, 40, 1, 1, 4, 0.001), Stage(300, 60, 1, 1, 4, 0.0003)),
    ),
    "maml": (
        Maml(Conv2d((32, 32, 32, 32)), inner_steps=3, inner_rate=0.2, first_order=True, local=LocalWork(rate=1.0)),
        (Stage(2500, WAY, 8, 1, 3, 0.002), Stage(500, WAY, 8, 1, 3, 0.0005)),
    ),
}


def carried(prior: Prior, fresh: Prior) -> Prior:
    """Return a prior for another number of classes: what has the same shape there is kept."""

    def kept(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: old[name] if old[name].shape == new[name].shape else new[name] for name in new}

    return Prior(kept(dict(prior.params), dict(fresh.params)), kept(dict(prior.state), dict(fresh.state)))


def train(
    name: str, learner: Learner, stages: Sequence[Stage], data: Path, keep: Path, minutes: float, console: Console
) -> tuple[Prior, int, float]:
    """Return the prior after all stages or all minutes, the steps taken in all, and the processor's seconds now."""
    file, start, done = keep / f"{name}.safetensors", time.process_time(), 0
    prior = load_prior(file) if file.exists() else None
    taken = 0 if prior is None else int(prior.state["server/step"][0])
    for stage in stages:
        done += stage.steps
        if taken >= done and prior is not None:
            continue
        family = Omniglot(way=stage.way, mixed=True, tasks=stage.tasks).load(data)
        (pools,) = family.train.values()
        learner, spec = replace(learner, server=ServerStep(rate=stage.rate)), family.spec
        fresh = learner.init(spec, learning_key(0, name, "init"))
        prior = fresh if prior is None else carried(prior, fresh)
        while taken < done and time.process_time() - start < 60 * minutes:
            shots, queries = stage.way * stage.shots, stage.way * stage.queries
            tasks = sample_tasks(pools, generator(0, name, taken), stage.tasks, shots, queries, spec.target)
            rows = learner.contribute(prior, tasks, {}, learning_key(0, name, taken))[0].rows
            prior = learner.apply(prior, np.asarray(rows, np.float64).mean(0), learning_key(0))
            taken += 1
            if taken % 20 == 0 or taken == done:
                save_prior(prior, file)
                console.print(f"{name}: step {taken}, {time.process_time() - start:.0f} s")
        if taken < done:
            break
    if prior is None:
        raise SystemExit(f"{name}: not a minute to train in, and nothing kept in {keep}")
    return prior, taken, time.process_time() - start


def accuracy(learned: LearnedPrior, data: Path, shots: int, mixed: bool, episodes: int) -> tuple[float, float]:
    """Return the mean accuracy in % over evaluation episodes, and half of its 95% interval."""
    family = Omniglot(way=WAY, mixed=mixed).load(data)
    sites = sorted(family.test)
    values = []
    for first in range(0, episodes, 60):
        drawn = [
            family.test[sites[i % len(sites)]][0].episode(
                generator(1, "test", shots, mixed, i), WAY * shots, WAY * QUERIES
            )
            for i in range(first, min(first + 60, episodes))
        ]
        tasks = stack(drawn)
        keys = jax.random.split(learning_key(0, "judging"), len(drawn))
        logits = predict_tasks(learned, tasks.support, tasks.query.x, keys, AT_ONCE).logits
        values += list((logits.argmax(-1) == tasks.query.y).mean(-1))
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return 100 * float(np.mean(values)), 100 * float(half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("COMMONPRIOR_DATA"))
    parser.add_argument("--learner", choices=sorted(LEARNERS), action="append", help="one or more; all without")
    parser.add_argument("--minutes", type=float, default=25.0, help="of processor time to train, a learner")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--keep", type=Path, default=Path("runs") / "omniglot", help="where training goes on from")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here, too")
    options = parser.parse_args()
    console, rows = Console(highlight=False), []
    data = Path(options.data) if options.data else Path()
    options.keep.mkdir(parents=True, exist_ok=True)
    for name in options.learner or LEARNERS:
        learner, stages = LEARNERS[name]
        prior, steps, seconds = train(name, learner, stages, data, options.keep, options.minutes, console)
        total = sum(stage.steps for stage in stages)
        rows.append(Row(name, f"steps trained, of {total}", float(steps), "steps"))
        rows.append(Row(name, "training, this run, processor time", seconds, "s"))
        for shots in (1, 5):
            for mixed in (True, False):
                five = Omniglot(way=WAY).load(data).spec
                learned = LearnedPrior(learner, carried(prior, learner.init(five, learning_key(0))), five)
                mean, half = accuracy(learned, data, shots, mixed, options.episodes)
                case = f"{WAY}-way {shots}-shot" + ("" if mixed else ", within an alphabet")
                rows.append(Row(name, case, mean, "%", TARGETS.get((name, shots)) if mixed else None))
                rows.append(Row(name, f"{case}, 95% interval, half", half, "%"))
    print_rows(console, "Omniglot, Lake's split of alphabets", rows)
    write_rows(options.json, rows)


if __name__ == "__main__":
    main()
