"""Tasks from tables: CSV or Parquet, one file for all sites or one a site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from commonprior.errors import DataError, RecipeError
from commonprior.task import Column, Target, TaskSpec
from commonprior.tasks import Family, TaskSource
from commonprior.tasks._cells import column_of, listed
from commonprior.tasks._columns import check_columns, infer_columns
from commonprior.tasks._encode import Scaler
from commonprior.tasks._family import Source, names, pools
from commonprior.tasks._few import check_disjoint, encode_rows, fit_scaler, read_labels
from commonprior.tasks._folds import Folds
from commonprior.tasks._labels import infer_classes, infer_kind
from commonprior.tasks._read import check_names, read_frame

__all__ = ["Scaler", "Table", "check_disjoint", "encode_rows", "fit_scaler", "read_frame", "read_labels"]


@dataclass(frozen=True)
class Table(TaskSource):
    """Tasks from one table of many sites (`file`, `site`), or from one table a site (`files`).

    Columns are matched by name. `rename` maps a table's names to ours, `convert` multiplies a numeric column or the
    target into our unit; both for all sites (`dose_mg = "dose"`) or for one (`lab_a = {dose_mg = "dose"}`). A site
    whose table lacks a column takes part without it.

    What a recipe leaves open is inferred. `columns`: all but task, site, target and `ignore`; a name with `smiles` or
    `formula` in it says so, numbers are numeric, text of up to 32 distinct values is categorical (hashed), other text
    is refused. `target_kind`: labels that are all 0 or 1, booleans or text are classes, other numbers a regression.
    Sites that train together for real must list `columns` and `classes`, so that all mean the same.

    Missing inputs are 0 in `values` or `counts` and 0 in `present`. Numbers are transformed, then scaled by a column's
    public centre and spread (in the transformed unit), else by the site's own median and interquartile range, and
    clipped to 10 spreads. Labels under `transform = "log10"` are logarithms throughout.

    Folds: `valid_sites` and `test_sites` are wholly held out; an unlisted fold is a fraction of the sites, or of each
    site's tasks where there are fewer than eight sites.
    """

    target: str
    task: str = ""
    file: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    site: str = ""
    columns: tuple[Column, ...] = ()
    ignore: tuple[str, ...] = ()
    target_kind: Literal["", "regression", "classification"] = ""
    classes: tuple[str, ...] = ()
    unit: str = ""
    transform: Literal["none", "log10"] = "none"
    scaling: Literal["support", "public"] = "support"
    centre: float = 0.0
    spread: float = 1.0
    rename: Mapping[str, str | Mapping[str, str]] = field(default_factory=dict)
    convert: Mapping[str, float | Mapping[str, float]] = field(default_factory=dict)
    valid_sites: tuple[str, ...] = ()
    test_sites: tuple[str, ...] = ()
    valid_fraction: float = 0.15
    test_fraction: float = 0.15
    seed: int = 0
    min_rows: int = 2
    drop_small_tasks: bool = False

    def __post_init__(self) -> None:
        if bool(self.file) == bool(self.files):
            raise RecipeError("tasks: give either file = '...' or files = {site = '...'}, one of the two")
        if self.files and self.site:
            raise RecipeError(f"tasks.site: {self.site!r}, but `files` names the sites already; leave site out")
        if self.file and any(isinstance(own, Mapping) for own in self.rename.values()):
            raise RecipeError("tasks.rename: by site, but the one file has one header; rename for all, or use files")
        if not self.target.strip():
            raise RecipeError("tasks.target: no name; say which column is to be predicted")
        if self.min_rows < 2:
            raise RecipeError(f"tasks.min_rows: {self.min_rows}; expected at least 2: a support row and a query row")
        if self.valid_fraction < 0 or self.test_fraction < 0 or self.valid_fraction + self.test_fraction >= 1:
            raise RecipeError(
                f"tasks: valid_fraction {self.valid_fraction} and test_fraction {self.test_fraction}; expected 0 or "
                f"more each, and less than 1 together"
            )
        if self.target_kind != "classification" and self.target_kind != "" and self.classes:
            raise RecipeError(
                "tasks.classes: a regression has none; leave them out, or say target_kind = 'classification'"
            )
        if self.classes and not len(set(self.classes)) == len(self.classes) >= 2:
            raise RecipeError(f"tasks.classes: {list(self.classes)}; expected at least two classes, each once")
        if not self.spread > 0:
            raise RecipeError(f"tasks.spread: {self.spread}; expected a number above 0")
        check_columns(self.columns, {self.task, self.site, self.target})

    def load(self, data: Path | None) -> Family:
        """Return the tasks of each site. Relative names are sought in `data`, then in the working directory."""
        files = {"": self.file} if self.file else self.files
        return self.gather([(site, name, read_frame(_find(name, data))) for site, name in files.items()])

    def gather(self, tables: Sequence[tuple[str, str, pd.DataFrame]]) -> Family:
        """Return the tasks of (site, path, table)s; a table of many sites has site ""."""
        renamed = [(site, path, self._renamed(site, path, table)) for site, path, table in tables]
        sources = [self._source(*table) for table in renamed]
        self._check_lines(sources, {name for _, _, frame in renamed for name in frame.columns})
        spec = self._spec(sources)
        tasks, dropped = pools(sources, spec, self.min_rows, self.drop_small_tasks)
        if not tasks:
            raise DataError(f"{sources[0].path}: no task is left; each has {' or '.join(dropped)}; add rows")
        folds = Folds(self.valid_sites, self.test_sites, self.valid_fraction, self.test_fraction, self.seed)
        notes = []
        if len(tasks) > 1:
            where = "one file" if self.file else "their files on one machine"
            notes.append(f"{len(tasks)} sites from {where}: a simulation, in which the sites are not apart")
        if dropped:
            reasons = ", ".join(f"{count} with {reason}" for reason, count in sorted(dropped.items()))
            notes.append(f"{dropped.total()} tasks left out: {reasons}")
        return Family(spec, *folds.split(tasks), "; ".join(notes))

    def _renamed(self, site: str, path: str, table: pd.DataFrame) -> pd.DataFrame:
        own = self.rename.get(site) if site else None
        own = own if isinstance(own, Mapping) else {}
        for name in own:
            if name not in table.columns:
                raise RecipeError(f"tasks.rename.{site}: {path} has no column {name!r}; correct or delete the line")
        ours = {name: to for name, to in self.rename.items() if isinstance(to, str)} | dict(own)
        frame = table.set_axis([ours.get(str(name), str(name)) for name in table.columns], axis=1)
        check_names(list(frame.columns), path)
        return frame

    def _source(self, site: str, path: str, table: pd.DataFrame) -> Source:
        frame = table.drop(columns=[name for name in self.ignore if name in table.columns])
        if frame.empty:
            raise DataError(f"{path}: no rows or no columns; expected a table with both")
        if self.target not in frame.columns:
            raise DataError(f"{path}: no column {self.target!r}, the target; it has {listed(frame.columns)}")
        sites = names(frame, self.site, path) if self.site else np.full(len(frame), site or Path(path).stem, object)
        tasks = names(frame, self.task, path) if self.task else sites
        return Source(path, frame, sites, tasks, self._factors(sites))

    def _factors(self, sites: np.ndarray) -> dict[str, np.ndarray | float]:
        """Return what multiplies each converted column: one number, or [n] where a site has its own unit."""
        factors: dict[str, np.ndarray | float] = {k: v for k, v in self.convert.items() if not isinstance(v, Mapping)}
        for site, own in self.convert.items():
            for column, factor in own.items() if isinstance(own, Mapping) else ():
                before = np.broadcast_to(factors.get(column, 1.0), sites.shape)
                factors[column] = np.where(sites == site, factor, before)
        return factors

    def _check_lines(self, sources: Sequence[Source], found: set[str]) -> None:
        """Refuse a line of the recipe that touches nothing: it is a slip of the pen.

        A site that loads its own table alone cannot know: the line may be for another's.
        """
        for source in sources:
            for column, factor in source.factors.items():
                if not np.all(np.isfinite(factor) & (np.asarray(factor) != 0)):
                    raise RecipeError(f"tasks.convert: {column!r} by {factor}; expected a finite factor other than 0")
        sites = {str(site) for source in sources for site in pd.unique(source.sites)}
        if len(sites) == 1:
            return
        inputs = [column.name for column in self.columns]
        converted = [column for source in sources for column in source.factors]
        for line, columns in (("columns", inputs), ("ignore", self.ignore), ("convert", converted)):
            for column in columns:
                if column not in found:
                    raise RecipeError(f"tasks.{line}: no table has a column {column!r}; correct or delete it")
        for line, mapping in (("rename", self.rename), ("convert", self.convert)):
            for site, own in mapping.items():
                if isinstance(own, Mapping) and site not in sites:
                    raise RecipeError(f"tasks.{line}: no site {site!r}; the sites are {listed(sorted(sites))}")

    def _check_converted(self, columns: Sequence[Column]) -> None:
        plain = {name for name, factor in self.convert.items() if not isinstance(factor, Mapping)}
        for column in plain.union(*(own for own in self.convert.values() if isinstance(own, Mapping))):
            if column != self.target and not any(c.name == column and c.kind == "numeric" for c in columns):
                raise RecipeError(f"tasks.convert: {column!r} is no numeric column; correct or delete the line")

    def _spec(self, sources: Sequence[Source]) -> TaskSpec:
        frames = [(source.path, source.frame) for source in sources]
        taken = {self.task, self.site, self.target}
        columns = check_columns(self.columns, taken) if self.columns else infer_columns(frames, taken)
        self._check_converted(columns)
        labels = [(path, column_of(frame, self.target)) for path, frame in frames]
        kind = self.target_kind or ("classification" if self.classes else infer_kind(labels, self.target))
        if kind == "regression":
            own = (self.unit, (), self.transform, self.scaling, self.centre, self.spread)
            return TaskSpec(Target(self.target, "regression", *own), columns)
        classes = self.classes or infer_classes(labels, self.target)
        return TaskSpec(Target(self.target, "classification", self.unit, classes), columns)


def _find(name: str, data: Path | None) -> Path:
    """Return where a recipe's file lies."""
    tried = [Path(name)] if Path(name).is_absolute() else [*([data / name] if data else []), Path(name)]
    for path in tried:
        if path.is_file():
            return path
    raise DataError(
        f"{name}: no such file (looked for {', '.join(map(str, tried))}); correct the name, or say with --data in "
        f"which folder it lies"
    )
