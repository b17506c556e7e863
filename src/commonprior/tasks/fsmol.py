"""FS-Mol: is a molecule active in an assay? Few-shot learning on assays of ChEMBL (Stanley et al. 2021).

Stanley et al., "FS-Mol: a few-shot learning dataset of molecules", NeurIPS 2021 Datasets and Benchmarks. A task is one
assay; a site is the protein super-family of its target, since the source names no laboratories.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, final

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from commonprior.errors import DataError, RecipeError
from commonprior.task import Column, Target, TaskSpec
from commonprior.tasks import Family, TaskSource
from commonprior.tasks._cells import column_of, listed
from commonprior.tasks._columns import completed
from commonprior.tasks._encode import Encoded
from commonprior.tasks._fsmol_fingerprints import fingerprints
from commonprior.tasks._pool import TablePool

_COMMIT = "ec58f4fbc8402f7642d23fdee1d6904652902ea1"

_ROWS = ("task", "smiles", "label", "log_regression")
_TASKS = ("task", "fold", "n", "site", "regression_ok")


@final
@dataclass(frozen=True)
class Fsmol(TaskSource):
    """Activity of a molecule in an assay, few-shot, from its `fingerprint` of `slots` counts.

    `target`: the class that the assay's own threshold gives, or the number (`log_regression`, 9 - log10 of the raw
    value; for percent assays it has no unit and its sign is reversed), then only of assays on which published
    regressions are scored. Assays of fewer than `min_train_rows` rows, and sites of fewer than `min_tasks` assays,
    train nothing. The folds are the official ones: `load` reads those to train and to choose on, never the test fold,
    which `fold` reads for whoever evaluates.
    """

    target: Literal["classification", "regression"] = "classification"
    slots: int = 2048
    fingerprint: Literal["morgan", "mixed"] = "morgan"
    min_train_rows: int = 32
    min_tasks: int = 1

    def __post_init__(self) -> None:
        if self.slots < 2:
            raise RecipeError(f"tasks.slots: {self.slots}; expected at least 2, usually 2048")
        if self.fingerprint == "mixed" and self.slots % 4:
            raise RecipeError(f"tasks.slots: {self.slots}; a mixed fingerprint takes a multiple of 4, usually 4096")
        if self.min_train_rows < 2:
            raise RecipeError(f"tasks.min_train_rows: {self.min_train_rows}; expected at least 2")
        if self.min_tasks < 1:
            raise RecipeError(f"tasks.min_tasks: {self.min_tasks}; expected at least 1")

    def spec(self) -> TaskSpec:
        """Return what every assay has in common; no data is needed for it."""
        target = (
            Target("label", "classification", classes=("inactive", "active"))
            if self.target == "classification"
            else Target("log_regression", "regression", unit="-log10 of molar value, or of percent")
        )
        molecule = Column("smiles", "smiles", slots=self.slots, fingerprint=self.fingerprint)
        return TaskSpec(target, (completed(molecule),))

    def load(self, data: Path | None) -> Family:
        """Return the assays of each super-family, from `data`/fsmol or `data`: train.parquet, valid.parquet."""
        folder = _find(data)
        train = {
            site: [pool for pool in pools if pool.size >= self.min_train_rows]
            for site, pools in self.fold(folder / "train.parquet").items()
        }
        train = {site: pools for site, pools in train.items() if len(pools) >= max(self.min_tasks, 1)}
        if not train:
            raise DataError(f"{folder / 'train.parquet'}: no site has {self.min_tasks} assays of "
                            f"{self.min_train_rows} rows; lower tasks.min_tasks or tasks.min_train_rows")  # fmt: skip
        return Family(
            self.spec(), train, self.fold(folder / "valid.parquet"), {},
            f"FS-Mol, {len(train)} protein super-families as sites from one file: a simulation, in which the sites are "
            f"not apart; the test fold is not read",
        )  # fmt: skip

    def fold(self, path: Path) -> dict[str, list[TablePool]]:
        """Return the assays of one fold's file, by site, in order of name; tasks.parquet lies beside it.

        The rows of an assay stay in the file's order: with it, the published supports can be drawn again.
        """
        frame, tasks = _table(path, _ROWS), _table(path.with_name("tasks.parquet"), _TASKS)
        if any(column_of(frame, name).isna().any() for name in ("task", "smiles", "label")):
            raise DataError(f"{path}: a row without task, SMILES or label; restore the file")
        smiles = column_of(frame, "smiles").astype("category").cat
        where = smiles.codes.to_numpy()
        kind = (self.fingerprint, self.slots)
        counts = fingerprints(smiles.categories.tolist(), kind, path.read_bytes(), str(path))
        return _pools(frame, tasks, _encoded(counts), where, self.target, str(path))


def _pools(
    frame: pd.DataFrame, tasks: pd.DataFrame, rows: Encoded, where: np.ndarray, target: str, path: str
) -> dict[str, list[TablePool]]:
    codes, names = pd.factorize(column_of(frame, "task").astype(str).to_numpy(object), sort=True)
    known = dict(zip(column_of(tasks, "task"), zip(column_of(tasks, "site"), column_of(tasks, "regression_ok"))))
    missing = [name for name in names if name not in known]
    if missing:
        raise DataError(f"{path}: tasks.parquet beside it has no line for {listed(missing)}; take both from one place")
    regression = target == "regression"
    cells = column_of(frame, "log_regression" if regression else "label")
    y = cells.to_numpy(np.float32 if regression else np.int32)
    order = np.argsort(codes, kind="stable")
    found: dict[str, list[TablePool]] = {}
    for name, index in zip(names, np.split(order, np.flatnonzero(np.diff(codes[order])) + 1), strict=True):
        site, scored = known[name]
        if regression and not (scored and np.isfinite(y[index]).all()):
            continue
        _, groups = np.unique(where[index], return_inverse=True)
        pool = TablePool(name, rows, where[index], y[index], groups, 0 if regression else 2)
        found.setdefault(str(site), []).append(pool)
    return dict(sorted(found.items()))


def _encoded(counts: csr_array) -> Encoded:
    """Return one row a molecule; row 0 of the counts, the unknown molecule, is nobody's."""
    n = cast(tuple[int, int], counts.shape)[0] - 1
    which = np.arange(1, n + 1, dtype=np.int32)[:, None]
    return Encoded(np.zeros((n, 0), np.float32), np.ones((n, 1), bool), (counts,), which)


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such file; name the folder that holds it")
    try:
        return pd.read_parquet(path, columns=list(columns))
    except Exception as error:
        raise DataError(f"{path}: not FS-Mol's table of {listed(columns)}: {str(error).splitlines()[0]}") from None


def _find(data: Path | None) -> Path:
    for folder in (data / "fsmol", data) if data else ():
        if (folder / "train.parquet").is_file() and (folder / "tasks.parquet").is_file():
            return folder
    raise DataError(
        f"{'fsmol/train.parquet' if data is None else data / 'fsmol' / 'train.parquet'}: no such file; make train, "
        f"valid and tasks.parquet from datasets/ of github.com/microsoft/FS-Mol at commit {_COMMIT} (task, smiles, "
        f"label, log_regression; one line a task with its site) and name their folder with --data or COMMONPRIOR_DATA"
    )
