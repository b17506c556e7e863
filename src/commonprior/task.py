"""The nouns that everyone shares: Batch, Task, TaskSpec, Pool, Prediction.

A *task* is a small learning problem (one assay, one material in one shape, one patient). Its *support* is what
a learner adapts on, its *query* is what the adaptation is judged by. Labels reach a learner standardised from
the support alone (`standardise`), and predictions go back through the same `Scale` into the user's units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Array: TypeAlias = Any
"""A jax or numpy array; shapes stand in the docstrings."""


class Rows(NamedTuple):
    """Inputs that come from a table. A missing value is 0 in `values` or `counts` and 0 in `present`."""

    values: Array  # [n, c] float32: numeric columns and one-hot categories, scaled
    present: Array  # [n, g] float32: 1 where the g-th column of the spec is known
    counts: Array  # [n, f]: non-negative fingerprints and compositions, unscaled


class Batch(NamedTuple):
    """n samples: `x` is a pytree of [n, ...] (`Rows` for tables), `y` is [n], `mask` [n] is 0 where padded."""

    x: Array
    y: Array
    mask: Array


class Task(NamedTuple):
    """What a learner adapts on, and what the adaptation is judged by."""

    support: Batch
    query: Batch


class Gaussian(NamedTuple):
    """A real-valued prediction: `mean` [n], `variance` [n]."""

    mean: Array
    variance: Array


class Categorical(NamedTuple):
    """A prediction over k classes: `logits` [n, k]."""

    logits: Array


Prediction: TypeAlias = Gaussian | Categorical


@dataclass(frozen=True)
class Column:
    """One input column of a table.

    `slots` is how many numbers it becomes; `centre` and `spread` are public constants in `unit` that scale it,
    or None where each site scales by its own rows. `fingerprint` is what a SMILES column counts in a molecule.
    """

    name: str
    kind: Literal["numeric", "categorical", "smiles", "formula"] = "numeric"
    unit: str = ""
    slots: int = 1
    categories: tuple[str, ...] = ()
    transform: Literal["none", "log10", "signed_log"] = "none"
    centre: float | None = None
    spread: float | None = None
    fingerprint: Literal["morgan", "mixed"] = "morgan"


@dataclass(frozen=True)
class Target:
    """What is predicted. `scaling`: from each support, or by the public constants `centre` and `spread`."""

    name: str = "y"
    kind: Literal["regression", "classification"] = "regression"
    unit: str = ""
    classes: tuple[str, ...] = ()
    transform: Literal["none", "log10"] = "none"
    scaling: Literal["support", "public"] = "support"
    centre: float = 0.0
    spread: float = 1.0


@dataclass(frozen=True)
class TaskSpec:
    """What every task of a family has in common: its columns (or the `shape` of one raw input) and its target."""

    target: Target
    columns: tuple[Column, ...] = ()
    shape: tuple[int, ...] = ()

    def example(self) -> Array:
        """Return the inputs of one all-zero sample, for shapes: `Rows` or an array [1, *shape]."""
        if not self.columns:
            return np.zeros((1, *self.shape), np.float32)
        counted = sum(c.slots for c in self.columns if c.kind in ("smiles", "formula"))
        valued = sum(c.slots for c in self.columns) - counted
        return Rows(
            np.zeros((1, valued), np.float32),
            np.zeros((1, len(self.columns)), np.float32),
            np.zeros((1, counted), np.float32),
        )

    @property
    def outputs(self) -> int:
        """How many numbers a network gives per sample: 1, or one logit a class."""
        return len(self.target.classes) if self.target.kind == "classification" else 1


class Scale(NamedTuple):
    """How standardised labels go back into the user's units: y * spread + centre."""

    centre: Array
    spread: Array


class Pool(Protocol):
    """Everything a site holds of one task. It stays there."""

    @property
    def name(self) -> str:
        """The task's name, unique within its site."""
        ...

    @property
    def size(self) -> int:
        """How many labelled samples there are."""
        ...

    def episode(self, rng: np.random.Generator, shots: int, queries: int) -> Task:
        """Draw disjoint support and query, padded to [shots] and [queries]; labels in the user's units."""
        ...


def standardise(task: Task, target: Target) -> tuple[Task, Scale]:
    """Scale a task's labels by its support alone (or by the target's public constants).

    One sample, or a support of equal labels, has no spread of its own: it takes the target's. Works on one task or on
    a stack of them ([..., n]). Classification passes through untouched.
    """
    support = task.support
    if target.kind == "classification":
        return task, Scale(np.float32(0), np.float32(1))
    if target.scaling == "public":
        centre = np.full(np.shape(support.y)[:-1], target.centre, np.float32)
        spread = np.full(np.shape(support.y)[:-1], target.spread, np.float32)
    else:
        mask = np.asarray(support.mask, np.float64)
        n = np.maximum(mask.sum(-1), 1)
        y = np.where(mask > 0, np.asarray(support.y, np.float64), 0.0)
        centre = y.sum(-1) / n
        deviation = np.where(mask > 0, y - centre[..., None], 0.0)
        spread = np.sqrt((deviation**2).sum(-1) / np.maximum(n - 1, 1))
        flat = spread <= 1e-6 * np.maximum(np.abs(centre), 1e-30)
        spread = np.where(flat, target.spread, spread)
        centre, spread = centre.astype(np.float32), spread.astype(np.float32)

    def scaled(batch: Batch) -> Batch:
        y = (np.asarray(batch.y) - centre[..., None]) / spread[..., None]
        return batch._replace(y=np.where(np.asarray(batch.mask) > 0, y, 0.0).astype(np.float32))

    return Task(scaled(task.support), scaled(task.query)), Scale(centre, spread)


def unscale(prediction: Prediction, scale: Scale) -> Prediction:
    """Put a prediction [..., n] back into the user's units (a `Categorical` has none)."""
    if isinstance(prediction, Categorical):
        return prediction
    centre, spread = np.asarray(scale.centre)[..., None], np.asarray(scale.spread)[..., None]
    return Gaussian(prediction.mean * spread + centre, prediction.variance * spread**2)


def stack(tasks: list[Task]) -> Task:
    """Stack m equally padded tasks into one Task whose leaves have a leading axis [m, ...]."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *tasks)


def log_likelihood(prediction: Prediction, batch: Batch) -> Array:
    """Return each sample's log density (or log probability) [n]; 0 where padded."""
    if isinstance(prediction, Categorical):
        logp = jax.nn.log_softmax(prediction.logits)
        picked = jnp.take_along_axis(logp, batch.y.astype(jnp.int32)[..., None], axis=-1)[..., 0]
    else:
        variance = prediction.variance
        picked = -0.5 * (jnp.log(2 * jnp.pi * variance) + (batch.y - prediction.mean) ** 2 / variance)
    return jnp.where(batch.mask > 0, picked, 0.0)
