"""The whole path in three minutes: four labs, one prior, a material that nobody has seen, and a record to check.

make demo
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from commonprior import commands
from commonprior.evaluation import draws
from commonprior.ledger.audit import audit
from commonprior.loading import open_run
from commonprior.predictor import predict_tasks
from commonprior.task import stack

HERE = Path(__file__).parent
SHOTS, SUPPORTS, QUERIES = 5, 10, 50


def share_within(run: Path, tolerance: float) -> float:
    """Return the share of predictions of kappa within `tolerance` of the noise-free truth, over MoS2 tasks."""
    recipe, learned = open_run(run)
    family = recipe.tasks.load(None)
    episodes = draws(family.test, SHOTS, SUPPORTS, QUERIES, recipe.schedule.seed)
    tasks = stack([episodes.draw(i) for i in range(len(episodes))])
    prediction = predict_tasks(learned, tasks.support, tasks.query.x, episodes.keys(slice(0, len(episodes))))
    hits = []
    for i in range(len(episodes)):
        _, pool, _ = episodes.place(i)
        rows = tasks.query.x._replace(**{k: v[i] for k, v in tasks.query.x._asdict().items()})
        truth = pool.noise_free(rows)
        inside = np.abs(10.0 ** (np.asarray(prediction.mean[i]) - truth) - 1) <= tolerance
        hits.append(inside[np.asarray(tasks.query.mask[i]) > 0].mean())
    return float(np.mean(hits))


def main() -> None:
    """Train, compare, check."""
    console, start = Console(highlight=False, soft_wrap=True), time.perf_counter()
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs")
    run, recipe = runs / "nanothermal", HERE / "nanothermal.toml"

    console.rule(f"commonprior train {recipe.relative_to(HERE.parent)}")
    commands.train(recipe, None, run, commands.TableFlags("", "", "", 0), console, None)

    console.rule(f"commonprior evaluate {run} --shots {SHOTS}")
    commands.evaluate(run, None, str(SHOTS), SUPPORTS, QUERIES, "test", "all", console, None)
    console.print(f"MoS2, nobody's material, from {SHOTS} samples: {share_within(run, 0.1):.0%} of the predictions of "
                  "the federated prior lie within 10% of the noise-free truth")  # fmt: skip

    console.rule(f"commonprior audit {run}")
    verdict = audit(run)
    console.print(f"the record holds: {verdict.rounds} rounds, {verdict.recomputed} priors recomputed from their sums; "
                  f"head {verdict.head.hex()[:16]}…")  # fmt: skip
    console.print(f"report: {run / 'report.html'} ({time.perf_counter() - start:.0f} s in all)")


if __name__ == "__main__":
    main()
