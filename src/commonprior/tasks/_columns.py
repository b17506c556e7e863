"""What the columns of a table are: as listed in a recipe, or inferred from the cells by a rule that can be said."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from commonprior.errors import DataError, RecipeError
from commonprior.task import Column
from commonprior.tasks._cells import column_of, place, scan, shown, texts
from commonprior.tasks._formula import ELEMENTS

HASHED = 16
"""Slots of a categorical column without declared categories."""

FINGERPRINT = 1024
"""Slots of a SMILES column."""

MOST_CATEGORIES = 32


def completed(column: Column) -> Column:
    """Return a column with its slots filled in; `slots = 1` stands for the kind's own number.

    numeric 1; categorical one a declared category, else 16 hashed; smiles 1024; formula one an element (103).
    """
    where = f"tasks.columns: {column.name!r}"
    if not column.name.strip():
        raise RecipeError("tasks.columns: a column has no name; name it as the table's header does")
    if column.slots < 1:
        raise RecipeError(f"{where}: slots = {column.slots}; expected at least 1")
    numeric = column.kind == "numeric"
    if not numeric and (column.transform != "none" or column.centre is not None or column.spread is not None):
        raise RecipeError(f"{where}: transform, centre and spread are for numeric columns; it is {column.kind}")
    if (column.centre is None) != (column.spread is None):
        raise RecipeError(f"{where}: centre and spread go together; give both, or neither to scale at each site")
    if column.spread is not None and not (0 < column.spread < np.inf and np.isfinite(column.centre or 0.0)):
        raise RecipeError(f"{where}: centre {column.centre}, spread {column.spread}; expected a spread above 0")
    if column.categories and (column.kind != "categorical" or len(set(column.categories)) < len(column.categories)):
        raise RecipeError(f"{where}: categories are for categorical columns, each named once")
    if column.fingerprint != "morgan" and column.kind != "smiles":
        raise RecipeError(f"{where}: fingerprint = {column.fingerprint!r} is for SMILES columns; it is {column.kind}")
    if column.fingerprint == "mixed" and column.slots % 4 and column.slots != 1:
        raise RecipeError(f"{where}: slots = {column.slots}; a mixed fingerprint takes a multiple of 4")
    own = {
        "numeric": 1,
        "categorical": len(column.categories) or HASHED,
        "smiles": FINGERPRINT,
        "formula": len(ELEMENTS),
    }[column.kind]
    fixed = numeric or column.kind == "formula" or bool(column.categories)
    if column.slots not in (1, own) and fixed:
        raise RecipeError(f"{where}: slots = {column.slots}; a {column.kind} column takes {own}; leave slots out")
    return dataclasses.replace(column, slots=own if column.slots == 1 else column.slots)


def check_columns(columns: Sequence[Column], taken: Collection[str]) -> tuple[Column, ...]:
    """Return the listed columns, completed; refuse a repeated one and one that is the task, the site or the target."""
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"tasks.columns: {name!r} is listed {names.count(name)} times; list it once")
        if name in taken:
            raise RecipeError(f"tasks.columns: {name!r} is the task, the site or the target; it cannot be an input")
    return tuple(completed(column) for column in columns)


def infer_columns(frames: Sequence[tuple[str, pd.DataFrame]], skipped: Collection[str]) -> tuple[Column, ...]:
    """Return what every column of (path, frame)s is, but for those `skipped`.

    A name with `smiles` or `formula` in it says so; all numbers are numeric; text of at most 32 distinct values is
    categorical, hashed. Whatever else is refused by name.
    """
    order = dict.fromkeys(name for _, frame in frames for name in frame.columns if name not in skipped)
    columns = tuple(
        _infer(name, [(path, column_of(f, name)) for path, f in frames if name in f.columns]) for name in order
    )
    if not columns:
        raise DataError(f"{frames[0][0]}: no column is left to learn from; ignore fewer or list `columns`")
    return columns


def _infer(name: str, series: Sequence[tuple[str, pd.Series]]) -> Column:
    lowered = name.lower()
    for kind in ("smiles", "formula"):
        if kind in lowered:
            return completed(Column(name, kind))
    path = series[0][0]
    numbers, others, wrong = 0, 0, ""
    for file, cells in series:
        values, not_number = scan(cells)
        numbers += int((~np.isnan(values)).sum())
        others += int(not_number.sum())
        if not_number.any() and not wrong:
            at = int(np.argmax(not_number))
            wrong = f"{place(file, cells.index[at], name)}: found {shown(cells.iloc[at])}"
    cure = f"list it in `columns` or put {name!r} in `ignore`"
    if numbers and not others:
        return Column(name)
    if numbers > others:
        raise DataError(f"{wrong} among {numbers} numbers; correct it, {cure}")
    if not others:
        raise DataError(f"{path}, column {name!r}: every cell is empty; put {name!r} in `ignore`")
    words = {word for file, cells in series for word in texts(cells, file, name)} - {""}
    if len(words) > MOST_CATEGORIES:
        raise DataError(
            f"{path}, column {name!r}: text of {len(words)} distinct values, such as {shown(min(words))}; "
            f"up to {MOST_CATEGORIES} would be categories; {cure}"
        )
    return completed(Column(name, "categorical"))
