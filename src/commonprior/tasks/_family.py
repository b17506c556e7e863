"""From tables to the tasks of each site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from commonprior.errors import DataError
from commonprior.task import TaskSpec
from commonprior.tasks._cells import column_of, listed, place, texts
from commonprior.tasks._encode import Encoded, Parsed, counted, featurise, fit, parse, scale
from commonprior.tasks._labels import labels
from commonprior.tasks._pool import TablePool


class Source(NamedTuple):
    """One table: `sites` and `tasks` [n] of str say whose each row is; `factors` turn its units into the spec's."""

    path: str
    frame: pd.DataFrame
    sites: np.ndarray
    tasks: np.ndarray
    factors: Mapping[str, np.ndarray | float]


def names(frame: pd.DataFrame, column: str, path: str) -> np.ndarray:
    """Return the task or site names [n] in a column; every row needs one."""
    if column not in frame.columns:
        raise DataError(f"{path}: no column {column!r}; it has {listed(frame.columns)}")
    found = texts(column_of(frame, column), path, column)
    if (found == "").any():
        row = frame.index[int(np.argmax(found == ""))]
        raise DataError(f"{place(path, row, column)}: the cell is empty; fill it, or delete the row")
    return found


def pools(
    sources: Sequence[Source], spec: TaskSpec, min_rows: int, drop_small: bool
) -> tuple[dict[str, list[TablePool]], Counter[str]]:
    """Return the tasks of each site, both sorted by name, and how many were left out by reason.

    Each site's numbers are scaled by that site's rows. A task that cannot be learnt from (fewer than `min_rows` rows,
    one class, one distinct input) is refused unless `drop_small`.
    """
    encoded = encode(sources, spec)
    found: dict[str, dict[str, TablePool]] = {}
    dropped: Counter[str] = Counter()
    for source, rows in zip(sources, encoded, strict=True):
        cells = column_of(source.frame, spec.target.name)
        y = labels(cells, spec.target, source.path, source.factors.get(spec.target.name, 1.0))
        groups = rows.groups()
        for (site, task), index in _by_key(source.sites, source.tasks):
            _, compact = np.unique(groups[index], return_inverse=True)
            pool = TablePool(task, rows, index, y[index], compact, len(spec.target.classes))
            reason = _too_small(pool, min_rows)
            if reason and not drop_small:
                raise DataError(
                    f"{source.path}, task {task!r} of site {site!r}: {reason}; add rows, or leave such tasks out with "
                    f"drop_small_tasks = true"
                )
            if reason:
                dropped[reason] += 1
                continue
            found.setdefault(site, {})[task] = pool
    return {site: [found[site][t] for t in sorted(found[site])] for site in sorted(found)}, dropped


def encode(sources: Sequence[Source], spec: TaskSpec) -> list[Encoded]:
    """Return the encoded rows of each table: counts looked up once for all of them, numbers scaled site by site."""
    parsed = [parse(source.frame, spec.columns, source.path, source.factors) for source in sources]
    for source, cells in zip(sources, parsed, strict=True):
        for _, rows in _by_key(source.sites):
            scale(cells, spec.columns, rows, fit(cells.numbers[rows], spec.columns))
    return with_counts(parsed, [(source.path, source.frame.index) for source in sources], spec)


def with_counts(parsed: Sequence[Parsed], at: Sequence[tuple[str, pd.Index]], spec: TaskSpec) -> list[Encoded]:
    """Return parsed and scaled rows with their fingerprints and compositions; `at` has each table's path and rows."""
    columns = counted(spec.columns)
    tables = []
    which = [np.zeros((len(cells.values), len(columns)), np.int32) for cells in parsed]
    for k, column in enumerate(columns):
        table, rows = featurise(column, [(*at[i], cells.texts[k]) for i, cells in enumerate(parsed)])
        tables.append(table)
        for i, row in enumerate(rows):
            which[i][:, k] = row
    return [Encoded(c.values, c.present, tuple(tables), w) for c, w in zip(parsed, which, strict=True)]


def _by_key(*keys: np.ndarray) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Return each distinct combination of keys [n], in order of appearance, with its rows in the table's order."""
    code = np.zeros(len(keys[0]), np.int64)
    for key in keys:
        codes, distinct = pd.factorize(key)
        code = code * len(distinct) + codes
    code, _ = pd.factorize(code)
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    return [(tuple(str(key[rows[0]]) for key in keys), rows) for rows in np.split(order, starts[1:])]


def _too_small(pool: TablePool, min_rows: int) -> str:
    if pool.size < min_rows:
        return f"fewer than {min_rows} rows"
    if pool.classes and (pool.y == pool.y[0]).all():
        return "rows of one class only"
    return "the same inputs in every row" if (pool.groups == 0).all() else ""
