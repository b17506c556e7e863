"""What a site does with a few labelled rows and the rows it wants predicted, by the spec of a trained run."""

from __future__ import annotations

import numpy as np
import pandas as pd

from commonprior.errors import DataError
from commonprior.task import Column, Rows, TaskSpec
from commonprior.tasks._cells import column_of, listed, numbers, texts
from commonprior.tasks._encode import Scaler, fit, parse, scale
from commonprior.tasks._family import with_counts
from commonprior.tasks._labels import labels


def fit_scaler(frame: pd.DataFrame, spec: TaskSpec, path: str) -> Scaler:
    """Return how a new site scales its numbers: fitted on the rows given, but for columns with public constants.

    Give it every row at hand, labelled or not (it looks at no label), and use it for all of them: two files that
    each scale by themselves do not mean the same by 1.0.
    """
    return fit(parse(frame, spec.columns, path).numbers, spec.columns)


def encode_rows(frame: pd.DataFrame, spec: TaskSpec, path: str, scaler: Scaler | None = None) -> Rows:
    """Return the inputs [n, ...] of a table, its columns matched by name to the spec of a trained run.

    A column that the table lacks is unknown in every row; a table that lacks them all is refused, and so is one that
    spells a column differently. `path` is what messages call the table. Without a `scaler`, one is fitted on these
    rows. Raises `DataError` with value, row and column.
    """
    if frame.empty:
        raise DataError(f"{path}: no rows; expected at least one")
    parsed = parse(frame, spec.columns, path)
    every = np.arange(len(frame))
    scale(parsed, spec.columns, every, scaler or fit(parsed.numbers, spec.columns))
    encoded = with_counts([parsed], [(path, frame.index)], spec)[0]
    return encoded.take(every, len(frame))


def read_labels(frame: pd.DataFrame, spec: TaskSpec, path: str) -> np.ndarray:
    """Return the labels [n] of a table: float32 after the target's transform, or int32 class numbers."""
    name = spec.target.name
    if name not in frame.columns:
        raise DataError(f"{path}: no column {name!r} with the labels; it has {listed(frame.columns)}")
    return labels(column_of(frame, name), spec.target, path)


def check_disjoint(
    support: pd.DataFrame, query: pd.DataFrame, spec: TaskSpec, support_path: str, query_path: str
) -> None:
    """Raise `DataError`, naming both rows, where a query row has the cells of a support row in every input column.

    The label of such a query row is known already: to predict it proves nothing.
    """
    seen = dict(zip(reversed(_cells(support, spec, support_path)), reversed(support.index), strict=True))
    for cells, row in zip(_cells(query, spec, query_path), query.index, strict=True):
        if cells in seen:
            raise DataError(
                f"{support_path}, row {seen[cells]} and {query_path}, row {row} have the same inputs; delete one of "
                f"them: what the support holds cannot be predicted"
            )


def _cells(frame: pd.DataFrame, spec: TaskSpec, path: str) -> list[tuple[object, ...]]:
    return list(zip(*(_canonical(frame, column, path) for column in spec.columns), strict=True))


def _canonical(frame: pd.DataFrame, column: Column, path: str) -> list[object]:
    if column.name not in frame.columns:
        return [""] * len(frame)
    cells = column_of(frame, column.name)
    if column.kind != "numeric":
        return list(texts(cells, path, column.name))
    return ["" if np.isnan(value) else float(value) for value in numbers(cells, path, column.name)]
