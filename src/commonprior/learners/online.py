"""Learning to learn from a stream of tasks: whatever another learner does, with earlier tasks replayed.

Finn, Rajeswaran, Kakade & Levine, "Online meta-learning" (2019), follow the leader over every task seen so far; a site
keeps a fair sample of them instead (Vitter, "Random sampling with a reservoir", 1985, algorithm R), as in experience
replay (Rolnick et al., "Experience replay for continual learning", 2019).

Good at: tasks that arrive in an order (seasons, drifting sensors), where learning from the newest alone forgets the
rest. Bad at: little memory at the site, as whole tasks are kept, and forgetting on request: what a reservoir holds is
not only the last round's. The unit of privacy is the site, because old and new tasks are mixed in its one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import jax
import numpy as np

from commonprior.errors import RecipeError
from commonprior.learners import Adapted, Learner, Memory
from commonprior.prior import Contributions, Prior
from commonprior.task import Array, Batch, Prediction, Task, TaskSpec

_SEEN, _KEPT, _OTHER = "seen", "kept/", "of/"


@final
@dataclass(frozen=True)
class Online(Learner):
    """`of` learns from this round's tasks and `replay` earlier ones together; a site keeps up to `keep` tasks."""

    of: Learner
    replay: int = 8
    keep: int = 64

    def __post_init__(self) -> None:
        if self.replay < 0:
            raise RecipeError(f"replay = {self.replay}: expected a number of tasks, 0 for none")
        if self.keep < max(self.replay, 1):
            raise RecipeError(f"keep = {self.keep}: expected at least 1, and as many as are replayed ({self.replay})")

    def init(self, spec: TaskSpec, key: Array) -> Prior:
        """Return the other learner's fresh prior."""
        return self.of.init(spec, key)

    def length(self, prior: Prior) -> int:
        """Return the other learner's d."""
        return self.of.length(prior)

    def adapt(self, prior: Prior, support: Batch, key: Array, start: Adapted | None = None) -> Adapted:
        """Adapt as the other learner does."""
        return self.of.adapt(prior, support, key, start)

    def predict(self, prior: Prior, adapted: Adapted, x: Array, key: Array) -> Prediction:
        """Predict as the other learner does."""
        return self.of.predict(prior, adapted, x, key)

    def contribute(self, prior: Prior, tasks: Task, memory: Memory, key: Array) -> tuple[Contributions, Memory]:
        """Return the mean [1, d] of what the other learner makes of new tasks and replayed ones, and the reservoir."""
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        kept, everything = _recalled(tasks, memory), tasks
        if kept is not None and self.replay:
            drawn = rng.choice(len(kept.support.mask), self.replay, replace=len(kept.support.mask) < self.replay)
            everything = jax.tree.map(lambda new, old: np.concatenate([new, old[drawn]]), tasks, kept)
        others = {name.removeprefix(_OTHER): value for name, value in memory.items() if name.startswith(_OTHER)}
        rows, others = self.of.contribute(prior, everything, others, key)
        mean = np.asarray(rows.rows).mean(0, keepdims=True)
        seen = int(memory[_SEEN][0]) if _SEEN in memory else 0
        kept = _reservoir(kept, tasks, seen, self.keep, rng)
        return Contributions(mean, "site"), {
            _SEEN: np.array([seen + len(tasks.support.mask)], np.int64),
            **{f"{_KEPT}{i}": leaf for i, leaf in enumerate(jax.tree.leaves(kept))},
            **{_OTHER + name: value for name, value in others.items()},
        }

    def apply(self, prior: Prior, mean: Array, key: Array) -> Prior:
        """Apply as the other learner does."""
        return self.of.apply(prior, mean, key)


def _recalled(like: Task, memory: Memory) -> Task | None:
    """Return the tasks in the reservoir, shaped as `like` but for their number; nothing before the first."""
    leaves, structure = jax.tree.flatten(like)
    if not all(f"{_KEPT}{i}" in memory for i in range(len(leaves))):
        return None
    return jax.tree.unflatten(structure, [np.asarray(memory[f"{_KEPT}{i}"]) for i in range(len(leaves))])


def _reservoir(kept: Task | None, new: Task, seen: int, keep: int, rng: np.random.Generator) -> Task:
    """Return the reservoir after `new` tasks: each of all seen so far is in it with the same chance."""
    held = 0 if kept is None else len(kept.support.mask)
    places: list[tuple[int, int]] = []
    for i in range(len(new.support.mask)):
        place = held if held < keep else int(rng.integers(seen + i + 1))
        held += held < keep
        if place < keep:
            places.append((place, i))

    def put(before: np.ndarray | None, leaf: np.ndarray) -> np.ndarray:
        out = np.zeros((held, *leaf.shape[1:]), leaf.dtype)
        if before is not None:
            out[: len(before)] = before
        for place, i in places:
            out[place] = leaf[i]
        return out

    arrays = jax.tree.map(np.asarray, new)
    return jax.tree.map(lambda leaf: put(None, leaf), arrays) if kept is None else jax.tree.map(put, kept, arrays)
