"""Reading a table: a CSV or a Parquet file becomes a frame whose index is the row that a person would count to."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from commonprior.errors import DataError
from commonprior.tasks._cells import listed

_BLOCK = 1 << 26


def read_frame(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a table; its index is the row in the file, a CSV's header being row 1 and a Parquet's first row 1.

    A CSV is UTF-8, separated by commas, semicolons or tabs; its cells stay text until a column says what they are.
    Blank lines are no rows. `columns`: read only these (Parquet). Raises `DataError`.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; correct the name, or say with --data in which folder it lies") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if not data.strip():
        raise DataError(f"{path}: the file is empty; expected a table with a header and rows")
    if path.suffix.lower() == ".parquet":
        frame = _read_parquet(data, path, columns)
    elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
        frame = _read_csv(data, path)
    else:
        raise DataError(f"{path}: a {path.suffix or 'nameless'} file; expected a table in .csv or .parquet")
    if frame.empty:
        raise DataError(f"{path}: a header but no rows; expected at least one row under it")
    return frame


def check_names(names: Sequence[str], path: str) -> None:
    """Refuse columns without a name, or two of one name."""
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{path}: {count} columns are named {name!r}; rename or delete all but one")
        if not name.strip():
            raise DataError(f"{path}: column {list(names).index(name) + 1} has no name; name it or delete it")


def _read_parquet(data: bytes, path: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        names = list(file.schema_arrow.names)
        lacking = [name for name in columns or () if name not in names]
        table = None if lacking else file.read(None if columns is None else list(columns))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({_first_line(error)}); write it again") from None
    if table is None:
        raise DataError(f"{path}: no column {lacking[0]!r}; it has {listed(names)}")
    check_names(names, str(path))
    frame = table.to_pandas(ignore_metadata=True)
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return frame


def _read_csv(data: bytes, path: Path) -> pd.DataFrame:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, row {line}: byte {data[error.start]:#04x} is no UTF-8; save the file as CSV in UTF-8"
        ) from None
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error as error:
        raise DataError(f"{path}: the header cannot be read ({error}); save the file as CSV in UTF-8") from None
    if not names:
        raise DataError(f"{path}: the first line is blank; expected a header")
    check_names(names, str(path))
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(data),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False),
        )
    except (pa.ArrowException, ValueError) as error:
        reason = _first_line(error).removeprefix("CSV parse error: ")
        raise DataError(f"{path}: not a readable CSV ({reason}); save the file as CSV in UTF-8") from None
    frame = pd.DataFrame({name: pd.array(table[name].to_numpy(), dtype="str") for name in table.column_names})
    frame.index = pd.RangeIndex(2, len(frame) + 2, name="row")
    blank = pd.Series(True, index=frame.index)
    for name in frame.columns:
        blank &= frame[name].str.strip() == ""
    return frame.loc[~blank]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
