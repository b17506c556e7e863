"""What every benchmark prints and writes: who, case, value, unit, and the target it was asked for."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

_COMPARISONS = {"<=": operator.le, ">=": operator.ge}


class Row(NamedTuple):
    """One figure. `target` is such as "<= 0.15"; a peer that is not here has no value and says so in `unit`."""

    who: str
    case: str
    value: float | None
    unit: str
    target: str | None = None

    @property
    def ok(self) -> bool | None:
        """Whether this run met the target; None where none was asked, or nobody was there."""
        if self.target is None or self.value is None:
            return None
        sign, bound = self.target.split()[:2]
        return _COMPARISONS[sign](self.value, float(bound))


def print_rows(console: Console, title: str, rows: Sequence[Row]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left")
    for name in ("who", "case"):
        table.add_column(name, overflow="fold")
    for name in ("value", "unit", "target", "met"):
        table.add_column(name, justify="right")
    for row in rows:
        value = "" if row.value is None else f"{row.value:,.4g}"
        met = "" if row.ok is None else ("yes" if row.ok else "NO")
        table.add_row(row.who, row.case, value, row.unit, row.target or "", met)
    console.print(table)


def write_rows(path: Path | None, rows: Sequence[Row]) -> None:
    """Write the rows as JSON, where a path was given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([{**row._asdict(), "ok": row.ok} for row in rows], indent=1) + "\n")
