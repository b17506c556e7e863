"""LNPDB: delivery of nucleic acids by lipid nanoparticles, many published studies (Collins et al. 2026).

Collins et al., "Lipid Nanoparticle Database towards structure-function modeling and data-driven design for nucleic
acid delivery", Nature Communications 2026, doi 10.1038/s41467-026-68818-1. A task is one assay of a study (cell line
or mouse, organ, route, cargo), a site is a study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from commonprior.errors import DataError, RecipeError
from commonprior.task import Column, Target, TaskSpec
from commonprior.tasks import Family, TaskSource
from commonprior.tasks._columns import completed
from commonprior.tasks._family import Source, names, pools
from commonprior.tasks._folds import Folds
from commonprior.tasks._pool import TablePool
from commonprior.tasks._read import read_frame

_COMMIT = "b9ea9d822aeaca4d817db00f264df37468433421"

_NUMERIC = (
    Column("IL_to_nucleicacid_massratio", unit="w/w", transform="log10", centre=1.0, spread=0.2),
    Column("IL_molratio", unit="mol %", centre=40.0, spread=10.0),
    Column("HL_molratio", unit="mol %", centre=15.0, spread=10.0),
    Column("CHL_molratio", unit="mol %", centre=40.0, spread=10.0),
    Column("PEG_molratio", unit="mol %", centre=2.0, spread=1.5),
    Column("Dose_ug_nucleicacid", unit="µg", transform="log10", centre=-1.0, spread=1.0),
)
"""Scaled by public constants about a usual formulation (ionisable lipid 40, helper lipid 15, sterol 40, PEG lipid 2
mol %; 10 w/w of lipid to cargo; 0.1 µg a well): a study that varies nothing must not lose where it stands."""

_CATEGORICAL = (
    Column("HL_name", "categorical", slots=32),
    Column("CHL_name", "categorical", slots=8),
    Column("PEG_name", "categorical", slots=32),
    Column("Aqueous_buffer", "categorical", slots=16),
    Column("Dialysis_buffer", "categorical", slots=8),
    Column("Mixing_method", "categorical", slots=8),
    Column("Model_type", "categorical", slots=32),
    Column("Model_target", "categorical", slots=64),
    Column("Route_of_administration", "categorical", slots=8),
    Column("Cargo", "categorical", slots=8),
    Column("Cargo_type", "categorical", slots=16),
)
"""Hashed, not declared: the next study brings another helper lipid or cell line. With these slots no two of the
names in the database collide."""


@dataclass(frozen=True)
class Lnpdb(TaskSource):
    """Delivery of a lipid nanoparticle, from its ionisable lipid and formulation, few-shot across studies.

    The default test sites are those on which the database's authors report zero-shot predictions (LiON). The target
    `delivery_z` is standardised over the whole assay by its source: its mean 0 and spread 1 leak into every support,
    so judge by rank (Spearman), or standardise by the support as `task.standardise` does, never by the raw error.
    About a fifth of the assays were read from heat maps and have fewer than 10 distinct values. `slots` is the length
    of the lipid's fingerprint; tasks of fewer rows than `min_train_rows` train nothing and of fewer than
    `min_eval_rows` judge nothing.
    """

    valid_sites: tuple[str, ...] = ("KW_2014", "NC_2024", "RG_2023", "SX_2025")
    test_sites: tuple[str, ...] = ("BL_2023", "LM_2019", "SL_2020", "ZC_2023")
    min_train_rows: int = 40
    min_eval_rows: int = 24
    min_distinct: int = 2
    slots: int = 1024

    def __post_init__(self) -> None:
        for field in ("min_train_rows", "min_eval_rows", "min_distinct"):
            if getattr(self, field) < 2:
                raise RecipeError(f"tasks.{field}: {getattr(self, field)}; expected at least 2")
        if self.slots < 2:
            raise RecipeError(f"tasks.slots: {self.slots}; expected at least 2, usually 1024")
        if not (self.valid_sites and self.test_sites):
            raise RecipeError("tasks: valid_sites and test_sites; expected at least one study each")

    def spec(self) -> TaskSpec:
        """Return what every assay has in common; no data is needed for it."""
        columns = (Column("IL_SMILES", "smiles", slots=self.slots), *_NUMERIC, *_CATEGORICAL)
        target = Target("delivery_z", "regression", unit="z-score within assay", scaling="support")
        return TaskSpec(target, tuple(completed(column) for column in columns))

    def load(self, data: Path | None) -> Family:
        """Return the assays of each study, from `data`/lnpdb/lnpdb.parquet or `data`/lnpdb.parquet."""
        path, spec = _find(data), self.spec()
        frame = read_frame(path, ["task_id", "site_id", spec.target.name, *(column.name for column in spec.columns)])
        frame["PEG_name"] = frame["PEG_name"].mask(frame["PEG_name"] == "Unknown", "")
        sites, tasks = (names(frame, column, str(path)) for column in ("site_id", "task_id"))
        found, _ = pools([Source(str(path), frame, sites, tasks, {})], spec, min_rows=2, drop_small=True)
        train, valid, test = Folds(self.valid_sites, self.test_sites, 0.0, 0.0, 0).split(found)
        return Family(
            spec,
            self._large(train, self.min_train_rows),
            self._large(valid, self.min_eval_rows),
            self._large(test, self.min_eval_rows),
            f"LNPDB, {len(found)} studies as sites from one file: a simulation, in which the sites are not apart; "
            f"delivery_z is standardised over whole assays, so compare ranks (Spearman) rather than errors",
        )

    def _large(self, tasks: Mapping[str, Sequence[TablePool]], rows: int) -> dict[str, list[TablePool]]:
        kept = {
            site: [p for p in pools_ if p.size >= rows and len(np.unique(p.y)) >= self.min_distinct]
            for site, pools_ in tasks.items()
        }
        return {site: pools_ for site, pools_ in kept.items() if pools_}


def _find(data: Path | None) -> Path:
    for path in (data / "lnpdb" / "lnpdb.parquet", data / "lnpdb.parquet") if data else ():
        if path.is_file():
            return path
    raise DataError(
        f"{'lnpdb/lnpdb.parquet' if data is None else data / 'lnpdb' / 'lnpdb.parquet'}: no such file; make it from "
        f"data/LNPDB_for_LiON/all_data_metadata.csv and all_data_extra_x.csv of github.com/evancollins1/LNPDB at "
        f"commit {_COMMIT} (rows aligned, one-hot columns folded into categories, task_id and site_id added) and name "
        f"its folder with --data or COMMONPRIOR_DATA"
    )
