"""Labels: numbers of a regression, or class numbers of a classification."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from commonprior.errors import DataError
from commonprior.task import Target
from commonprior.tasks._cells import listed, numbers, place, scan, shown, texts

MOST_CLASSES = 64


def labels(cells: pd.Series, target: Target, path: str, factor: np.ndarray | float = 1.0) -> np.ndarray:
    """Return the labels [n] of a column: float32 after the target's transform, or int32 numbers of its classes.

    Raises `DataError` at an empty cell: a row without a label teaches nothing.
    """
    if target.kind == "classification":
        return _classes(cells, target, path)
    values = numbers(cells, path, target.name, factor)
    _check_known(np.isnan(values), cells, target.name, path)
    if target.transform == "log10":
        low = values <= 0
        if low.any():
            at = int(np.argmax(low))
            raise DataError(
                f"{place(path, cells.index[at], target.name)}: found {shown(cells.iloc[at])}, which has no logarithm; "
                f"delete the row, or set transform = 'none'"
            )
        values = np.log10(values)
    return values.astype(np.float32)


def infer_kind(series: Sequence[tuple[str, pd.Series]], name: str) -> str:
    """Return what the labels of (path, cells)s say: all 0 or 1, booleans or text are classes, numbers a regression."""
    numbers_, others, binary, wrong = 0, 0, True, ""
    for path, cells in series:
        values, not_number = scan(cells)
        known = values[~np.isnan(values)]
        binary &= bool(np.isin(known, (0.0, 1.0)).all())
        numbers_ += len(known)
        others += int(not_number.sum())
        if not_number.any() and not wrong:
            at = int(np.argmax(not_number))
            wrong = f"{place(path, cells.index[at], name)}: found {shown(cells.iloc[at])}"
    if numbers_ > others > 0:
        raise DataError(f"{wrong} among {numbers_} numbers; correct it, or say target_kind = 'classification'")
    return "classification" if others or (numbers_ and binary) else "regression"


def infer_classes(series: Sequence[tuple[str, pd.Series]], name: str) -> tuple[str, ...]:
    """Return the distinct labels of (path, cells)s in order: of number where all are whole numbers, else of letters."""
    found: set[str] = set()
    for path, cells in series:
        found.update(_label(text) for text in pd.unique(texts(cells, path, name)) if text)
    if len(found) > MOST_CLASSES:
        raise DataError(
            f"{series[0][0]}, column {name!r}: {len(found)} distinct labels, such as {shown(min(found))}; expected at "
            f"most {MOST_CLASSES} classes; list them in `classes`, or say target_kind = 'regression'"
        )
    if len(found) < 2:
        raise DataError(
            f"{series[0][0]}, column {name!r}: its labels are {listed(found) or 'empty'} alone; expected "
            f"at least two classes; list them in `classes`, or name another target"
        )
    whole = all(text.lstrip("-").isdecimal() for text in found)
    return tuple(sorted(found, key=lambda text: (int(text), text) if whole else (0, text)))


def _classes(cells: pd.Series, target: Target, path: str) -> np.ndarray:
    text = texts(cells, path, target.name)
    _check_known(text == "", cells, target.name, path)
    codes, distinct = pd.factorize(text)
    number = {_label(name): at for at, name in enumerate(target.classes)}
    found = np.zeros(len(distinct), np.int32)
    for at, word in enumerate(distinct):
        label = _label(word)
        if label not in number:
            row = int(np.argmax(codes == at))
            raise DataError(
                f"{place(path, cells.index[row], target.name)}: found {shown(word)}, expected one of the classes "
                f"{listed(target.classes)}; correct the cell, or delete the row"
            )
        found[at] = number[label]
    return found[codes]


def _label(text: str) -> str:
    """Return the one spelling of a label: true is 1, false is 0, 2.0 is 2."""
    lowered = text.lower()
    if lowered in ("true", "false"):
        return "1" if lowered == "true" else "0"
    whole, point, rest = text.partition(".")
    return whole if point and whole.lstrip("-").isdecimal() and not rest.strip("0") else text


def _check_known(unknown: np.ndarray, cells: pd.Series, name: str, path: str) -> None:
    if unknown.any():
        row = cells.index[int(np.argmax(unknown))]
        raise DataError(f"{place(path, row, name)}: no label; fill the cell, or delete the row")
