"""One task of a table: rows that a site holds, drawn into episodes by index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from commonprior.task import Batch, Task
from commonprior.tasks._encode import Encoded


@dataclass(frozen=True)
class TablePool:
    """The labelled rows of one task (a `task.Pool`).

    `index` [N] points into `rows`, which all tasks of a table share; `y` [N] is float32, or int32 class numbers
    where `classes` > 0. Rows of one group (`groups` [N], 0 to G-1) have the same inputs.
    """

    name: str
    rows: Encoded
    index: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    classes: int = 0

    @property
    def size(self) -> int:
        """How many labelled rows there are."""
        return len(self.y)

    def episode(self, rng: np.random.Generator, shots: int, queries: int) -> Task:
        """Draw a support of `shots` rows and a query of `queries`, padded where the task has fewer.

        Rows are drawn uniformly, or in the proportion of their classes, each class at least once where `shots` allow.
        A row whose inputs the support holds is never a query. Where the support would hold every group, one group
        stays out of it, so that a task of two groups or more has a query.
        """
        order = rng.permutation(self.size)
        group = self.groups[order]
        support, query = self._divided(order, order, shots, rng)
        if len(query) == 0 and (group != group[0]).any():
            spare = group[0]
            if self.classes:  # a class of many rows can spare one
                spare = group[np.argmax(np.bincount(self.y, minlength=self.classes)[self.y[order]])]
            support, query = self._divided(order[group != spare], order, shots, rng)
        return Task(self._batch(support, shots), self._batch(query[:queries], queries))

    def _divided(
        self, free: np.ndarray, order: np.ndarray, shots: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a support out of `free`, and all of `order` that shares no group with it."""
        support = free[self._stratified(free, shots, rng)] if self.classes else free[:shots]
        claimed = np.zeros(self.size, bool)
        claimed[self.groups[support]] = True
        return support, order[~claimed[self.groups[order]]]

    def _batch(self, picked: np.ndarray, length: int) -> Batch:
        y = np.zeros(length, self.y.dtype)
        y[: len(picked)] = self.y[picked]
        mask = (np.arange(length) < len(picked)).astype(np.float32)
        return Batch(self.rows.take(self.index[picked], length), y, mask)

    def _stratified(self, order: np.ndarray, shots: int, rng: np.random.Generator) -> np.ndarray:
        """Return the mask of `order` that takes each class's first rows up to its quota."""
        classes = self.y[order]
        sizes = np.bincount(classes, minlength=self.classes)
        quota = quotas(sizes, shots, rng)
        by_class = np.argsort(classes, kind="stable")
        rank = np.empty(len(order), np.int64)
        rank[by_class] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return rank < quota[classes]


def quotas(sizes: np.ndarray, shots: int, rng: np.random.Generator) -> np.ndarray:
    """Share `shots` among classes of `sizes` [k] in proportion; each present class gets one where there are enough.

    Fractions of a sample are rounded by largest remainder, ties by `rng`.
    """
    total = min(shots, int(sizes.sum()))
    share = total * sizes / max(int(sizes.sum()), 1)
    quota = np.floor(share).astype(np.int64)
    if (sizes > 0).sum() <= total:
        quota = np.maximum(quota, sizes > 0)
    want = share - quota + 1e-6 * rng.random(len(sizes))
    while quota.sum() != total:
        if quota.sum() < total:
            at = int(np.argmax(np.where(quota < sizes, want, -np.inf)))
            step = 1
        else:
            at = int(np.argmin(np.where(quota > 1, want, np.inf)))
            step = -1
        quota[at] += step
        want[at] -= step
    return quota
