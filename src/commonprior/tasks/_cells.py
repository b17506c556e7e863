"""From the cells of one column to numbers or text. What a cell cannot be is refused with its value and place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import cast

import numpy as np
import pandas as pd

from commonprior.errors import DataError

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
"""What an unknown number may be written as, in any case. In text only an empty cell is unknown: "None" is a word."""

LARGEST = 1e30
"""No number of a table is larger: float32 and its squares must hold it."""


def place(path: str, row: object, column: str) -> str:
    """Return how every message names a cell; `row` counts a CSV's header as row 1."""
    return f"{path}, row {row}, column {column!r}"


def shown(cell: object) -> str:
    """Return a cell as a message shows it: quoted, and short."""
    try:
        text = repr(cell.item() if isinstance(cell, np.generic) else cell)
    except Exception:  # a foreign object may fail to show itself; its type will do
        text = f"a {type(cell).__name__}"
    return text if len(text) <= 60 else text[:57] + "…" + text[-1:]


def listed(names: Iterable[object]) -> str:
    """Return names as a message lists them: quoted, the first dozen."""
    quoted = [repr(str(name)) for name in names]
    return ", ".join(quoted[:12]) + (f" and {len(quoted) - 12} more" if len(quoted) > 12 else "")


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return one column of a frame whose names are distinct."""
    return cast(pd.Series, frame[name])


def scan(cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers [n] float64 (NaN where there is none) and a mask [n] of the cells that hold something else."""
    if getattr(cells.dtype, "kind", "O") in "iufb":
        return cells.to_numpy(np.float64, na_value=np.nan), np.zeros(len(cells), bool)
    if isinstance(cells.dtype, pd.StringDtype):
        stripped = cells.str.strip()
        missing = cells.isna() | stripped.str.lower().isin(MISSING)
        parsed = cast(pd.Series, pd.to_numeric(stripped.mask(missing), errors="coerce"))
        numbers = parsed.to_numpy(np.float64, na_value=np.nan)
        return numbers, np.isnan(numbers) & ~missing.to_numpy(bool)
    found = [_number(cell) for cell in cells.astype(object)]
    numbers = np.array([np.nan if value is None else value for value in found], np.float64)
    return numbers, np.array([value is None for value in found], bool)


def numbers(cells: pd.Series, path: str, column: str, factor: np.ndarray | float = 1.0) -> np.ndarray:
    """Return a column's numbers [n] float64 times `factor`, NaN where a cell is empty; refuse text and infinities."""
    values, wrong = scan(cells)
    if wrong.any():
        at = int(np.argmax(wrong))
        cell = cells.iloc[at]
        comma = isinstance(cell, str) and re.fullmatch(r"\s*[-+]?\d+,\d+\s*", cell) is not None
        cure = "write a decimal point" if comma else "correct the cell, or leave it empty where the value is unknown"
        raise DataError(f"{place(path, cells.index[at], column)}: found {shown(cell)}, expected a number; {cure}")
    with np.errstate(over="ignore"):  # what overflows is refused below
        values = values * factor
    large = np.abs(values) > LARGEST
    if large.any():
        at = int(np.argmax(large))
        raise DataError(
            f"{place(path, cells.index[at], column)}: found {shown(cells.iloc[at])}, expected a finite number "
            f"of at most {LARGEST:g}; correct the cell, or leave it empty where the value is unknown"
        )
    return values


def texts(cells: pd.Series, path: str, column: str) -> np.ndarray:
    """Return a column's text [n] of str, stripped, "" where a cell is empty. Whole numbers read as whole numbers."""
    if isinstance(cells.dtype, pd.StringDtype):
        return cells.fillna("").str.strip().to_numpy(object)
    out = np.empty(len(cells), object)
    for at, cell in enumerate(cells.astype(object)):
        text = _text(cell)
        if text is None:
            raise DataError(
                f"{place(path, cells.index[at], column)}: found {shown(cell)}, a {type(cell).__name__}; "
                f"expected text or a number"
            )
        out[at] = text
    return out


def _unknown(cell: object) -> bool:
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    if isinstance(cell, Decimal):
        return cell.is_nan()
    return isinstance(cell, float | np.floating) and bool(cell != cell)


def _number(cell: object) -> float | None:
    if _unknown(cell) or (isinstance(cell, str) and cell.strip().lower() in MISSING):
        return np.nan
    if isinstance(cell, str) and (not cell.isascii() or not re.fullmatch(r"[-+.\dA-Za-z]+", cell.strip())):
        return None
    if not isinstance(cell, str | int | float | np.integer | np.floating | np.bool_ | Decimal):
        return None
    try:
        return float(cell)
    except OverflowError:
        return np.inf
    except ValueError:
        return None


def _text(cell: object) -> str | None:
    if _unknown(cell):
        return ""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bool | np.bool_):
        return str(bool(cell))
    if isinstance(cell, int | np.integer):
        return str(int(cell)) if abs(int(cell)) < 10**100 else None
    if isinstance(cell, float | np.floating):
        value = float(cell)
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(cell) if isinstance(cell, Decimal) else None
