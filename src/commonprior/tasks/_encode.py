"""From a frame to numbers: one pass over the cells of each column, one look at each distinct molecule or formula.

Nothing here is fitted but a site's own `Scaler`: no vocabulary, no statistic of one site reaches another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from commonprior.errors import DataError
from commonprior.task import Column, Rows
from commonprior.tasks._cells import column_of, listed, numbers, place, shown, texts
from commonprior.tasks._fingerprint import reader
from commonprior.tasks._formula import composition
from commonprior.tasks._read import check_names

FURTHEST = 10.0
"""A scaled number is clipped to this many spreads: one slip of a unit must not drown a site's other rows."""


class Scaler(NamedTuple):
    """How a site scales its numeric columns: (transformed - centre) / spread, both [p] float64 in the spec's order.

    A spread of 0 stands for a column that is constant (or unknown) at the site: all its values become 0.
    """

    centre: np.ndarray
    spread: np.ndarray


class Parsed(NamedTuple):
    """The cells of n rows before any site scales them.

    `numbers` [n, p] float64 is transformed, NaN where unknown; `values` [n, c] float32 has its categories filled in;
    `present` [n, g] bool; `texts` holds one [n] of str a counted column.
    """

    numbers: np.ndarray
    values: np.ndarray
    present: np.ndarray
    texts: tuple[np.ndarray, ...]


class Encoded(NamedTuple):
    """n rows, compact: `values` [n, c] float32, `present` [n, g] bool, and counts that rows share.

    `counts` holds one sparse [u, f] float32 a counted column, its row 0 all zero for "unknown"; `which` [n, k] int32
    says which of its rows each row has.
    """

    values: np.ndarray
    present: np.ndarray
    counts: tuple[csr_array, ...]
    which: np.ndarray

    def take(self, index: np.ndarray, length: int) -> Rows:
        """Return the rows of `index` [m] followed by zeros, [length, ...] in all, dense, float32."""
        values = np.zeros((length, self.values.shape[1]), np.float32)
        present = np.zeros((length, self.present.shape[1]), np.float32)
        counts = np.zeros((length, sum(_width(table) for table in self.counts)), np.float32)
        values[: len(index)] = self.values[index]
        present[: len(index)] = self.present[index]
        at = 0
        for k, table in enumerate(self.counts):
            width = _width(table)
            counts[: len(index), at : at + width] = table[self.which[index, k]].toarray()
            at += width
        return Rows(values, present, counts)

    def groups(self) -> np.ndarray:
        """Return a number [n] for each row, equal where the encoded inputs are."""
        key = np.hstack([self.values.view(np.int32), self.present.astype(np.int32), self.which])
        key = np.ascontiguousarray(key)
        _, group = np.unique(key.view(np.dtype((np.void, key.shape[1] * 4))).ravel(), return_inverse=True)
        return group


def numeric(columns: Sequence[Column]) -> list[Column]:
    """Return the numeric columns, in order."""
    return [column for column in columns if column.kind == "numeric"]


def counted(columns: Sequence[Column]) -> list[Column]:
    """Return the columns that become counts, in order."""
    return [column for column in columns if column.kind in ("smiles", "formula")]


def parse(
    frame: pd.DataFrame, columns: Sequence[Column], path: str, factors: Mapping[str, np.ndarray | float] | None = None
) -> Parsed:
    """Read the cells of `columns`, matched by name; a column that `frame` lacks is unknown in every row.

    `factors` [n] or one number multiply a numeric column into the unit of its `Column`. Raises `DataError`.
    """
    n = len(frame)
    check_names([str(name) for name in frame.columns], path)
    _check_present(frame, columns, path)
    measured = np.full((n, len(numeric(columns))), np.nan)
    values = np.zeros((n, sum(c.slots for c in columns if c not in counted(columns))), np.float32)
    present = np.zeros((n, len(columns)), bool)
    words: list[np.ndarray] = []
    value_at = number_at = 0
    for g, column in enumerate(columns):
        cells = column_of(frame, column.name) if column.name in frame.columns else None
        if column.kind == "numeric":
            if cells is not None:
                raw = numbers(cells, path, column.name, (factors or {}).get(column.name, 1.0))
                measured[:, number_at] = _transformed(raw, column, cells, path)
                present[:, g] = ~np.isnan(raw)
            number_at += 1
            value_at += 1
            continue
        text = np.full(n, "", object) if cells is None else texts(cells, path, column.name)
        present[:, g] = text != ""
        if column.kind == "categorical":
            block = values[:, value_at : value_at + column.slots]
            _fill_categories(block, text, column, frame.index, path)
            value_at += column.slots
        else:
            words.append(text)
    return Parsed(measured, values, present, tuple(words))


def fit(measured: np.ndarray, columns: Sequence[Column]) -> Scaler:
    """Return the scaler of one site's rows [n, p]: the column's public constants, else the site's own.

    A site's own are robust: the median, and the interquartile range over 1.349 (a Gaussian's standard deviation);
    where more than half of a column is one value, the root mean square distance from it.
    """
    own = numeric(columns)
    centre, spread = np.zeros(len(own)), np.zeros(len(own))
    for p, column in enumerate(own):
        if column.centre is not None and column.spread is not None:
            centre[p], spread[p] = column.centre, column.spread
            continue
        known = measured[~np.isnan(measured[:, p]), p]
        if len(known) == 0:
            continue
        low, centre[p], high = np.quantile(known, (0.25, 0.5, 0.75))
        width = (high - low) / 1.349 or np.sqrt(np.mean((known - centre[p]) ** 2))
        spread[p] = width if width > 1e-9 * abs(centre[p]) else 0.0
    return Scaler(centre, spread)


def scale(parsed: Parsed, columns: Sequence[Column], rows: np.ndarray, scaler: Scaler) -> None:
    """Write the scaled numbers of `rows` [m] into `parsed.values`."""
    at = p = 0
    for column in columns:
        if column.kind == "numeric":
            deviation = parsed.numbers[rows, p] - scaler.centre[p]
            spread = scaler.spread[p]
            with np.errstate(over="ignore"):  # beyond float64 is beyond the clip
                scaled = np.clip(deviation / spread, -FURTHEST, FURTHEST) if spread > 0 else 0.0 * deviation
            parsed.values[rows, at] = np.where(np.isnan(deviation), 0.0, scaled) + 0.0  # no -0: groups compare bits
            p += 1
        at += column.slots if column.kind in ("numeric", "categorical") else 0


def featurise(
    column: Column, sources: Sequence[tuple[str, pd.Index, np.ndarray]]
) -> tuple[csr_array, list[np.ndarray]]:
    """Return the distinct counts [u, f] of one column over (path, row numbers, text [n])s, and each one's rows [n].

    A text is looked at once; equal counts are one row. Row 0 is "unknown". Raises `DataError` with row and value.
    """
    read = reader(column.fingerprint, column.slots) if column.kind == "smiles" else composition
    row_of_text: dict[str, int] = {"": 0}
    row_of_counts: dict[tuple[bytes, bytes], int] = {(b"", b""): 0}
    which: list[np.ndarray] = []
    for path, index, text in sources:
        codes, distinct = pd.factorize(text)
        found = np.zeros(len(distinct), np.int32)
        for at, word in enumerate(distinct):
            if word not in row_of_text:
                try:
                    slots, amounts = zip(*sorted(read(word).items()), strict=True)
                except ValueError as error:
                    row = index[int(np.argmax(codes == at))]
                    raise DataError(
                        f"{place(path, row, column.name)}: {shown(word)} is no {column.kind}: {error}; correct the "
                        f"cell, or leave it empty where it is unknown"
                    ) from None
                counts = (np.array(slots, np.int32).tobytes(), np.array(amounts, np.float32).tobytes())
                row_of_text[word] = row_of_counts.setdefault(counts, len(row_of_counts))
            found[at] = row_of_text[word]
        which.append(found[codes])
    lengths = [len(slots) // 4 for slots, _ in row_of_counts]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    every_slot = np.frombuffer(b"".join(slots for slots, _ in row_of_counts), np.int32)
    every_amount = np.frombuffer(b"".join(amounts for _, amounts in row_of_counts), np.float32)
    return csr_array((every_amount, every_slot, starts), shape=(len(lengths), column.slots)), which


def _width(table: csr_array) -> int:
    return cast(tuple[int, int], table.shape)[1]


def _check_present(frame: pd.DataFrame, columns: Sequence[Column], path: str) -> None:
    names = [column.name for column in columns]
    if not any(name in frame.columns for name in names):
        raise DataError(
            f"{path}: none of the columns {listed(names)} is in it; it has "
            f"{listed(frame.columns)}; rename its columns to match"
        )
    plain = {_plain(str(name)): name for name in frame.columns if name not in names}
    for name in names:
        close = plain.get(_plain(name))
        if name not in frame.columns and _plain(name) and close is not None:
            raise DataError(f"{path}: no column {name!r}, but {close!r}; rename it to match")


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _transformed(raw: np.ndarray, column: Column, cells: pd.Series, path: str) -> np.ndarray:
    if column.transform == "log10":
        low = raw <= 0
        if low.any():
            at = int(np.argmax(low))
            raise DataError(
                f"{place(path, cells.index[at], column.name)}: found {shown(cells.iloc[at])}, which has no logarithm; "
                f"correct the cell, leave it empty, or give the column transform = 'signed_log'"
            )
        return np.log10(raw)
    return np.sign(raw) * np.log10(1 + np.abs(raw)) if column.transform == "signed_log" else raw


def _fill_categories(block: np.ndarray, text: np.ndarray, column: Column, index: pd.Index, path: str) -> None:
    """Write one-hot categories, or signed hashes where none are declared (Weinberger et al. 2009, section 2)."""
    codes, distinct = pd.factorize(text)
    slots, signs = np.zeros(len(distinct), np.int64), np.zeros(len(distinct), np.float32)
    for at, word in enumerate(distinct):
        if word == "":
            continue
        if not column.categories:
            digest = hashlib.sha256(f"{column.name}={word}".encode(errors="surrogatepass")).digest()
            slots[at] = int.from_bytes(digest[:8], "big") % column.slots
            signs[at] = 1.0 if digest[8] & 1 else -1.0
        elif word in column.categories:
            slots[at], signs[at] = column.categories.index(word), 1.0
        else:
            row = index[int(np.argmax(codes == at))]
            raise DataError(
                f"{place(path, row, column.name)}: found {shown(word)}, expected one of {listed(column.categories)}; "
                f"correct the cell, or leave it empty where none of them fits"
            )
    block[np.arange(len(text)), slots[codes]] = signs[codes]
