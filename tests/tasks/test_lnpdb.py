"""LNPDB: the sentence without the data; with it, its studies, sizes and encoding."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commonprior.errors import DataError, RecipeError
from commonprior.task import standardise
from commonprior.tasks._encode import parse
from commonprior.tasks.lnpdb import Lnpdb

DATA = os.environ.get("COMMONPRIOR_DATA", "")
real = pytest.mark.skipif(
    not (Path(DATA) / "lnpdb").is_dir() or not DATA, reason="COMMONPRIOR_DATA names no folder with lnpdb/lnpdb.parquet"
)


def study(name, n, organ="in_vitro", lipid="CCN"):
    """Rows as the tidy file has them."""
    return pd.DataFrame(
        {
            "task_id": f"{name}|HeLa|{organ}",
            "site_id": name,
            "IL_SMILES": [lipid + "C" * (i % 7) for i in range(n)],
            "delivery_z": np.linspace(-1, 2, n),
            "IL_to_nucleicacid_massratio": 10.0,
            "IL_molratio": 35.0 + np.arange(n) % 3,
            "HL_molratio": 16.0,
            "CHL_molratio": 46.5,
            "PEG_molratio": 2.5,
            "Dose_ug_nucleicacid": 0.1,
            "HL_name": "DOPE",
            "CHL_name": "Cholesterol",
            "PEG_name": ["Unknown", "", *["DMG-PEG2000"] * (n - 2)],
            "Aqueous_buffer": "citrate",
            "Dialysis_buffer": "None",
            "Mixing_method": "handmixed",
            "Model_type": "HeLa",
            "Model_target": organ,
            "Route_of_administration": "in_vitro",
            "Cargo": "mRNA",
            "Cargo_type": "FLuc",
        }
    )


@pytest.fixture
def small(tmp_path):
    frame = pd.concat(
        [
            *(study(f"S_{i}", 45) for i in range(3)),
            study("S_0", 30, "liver"),
            study("V_1", 30),
            study("V_1", 5, "liver"),
            study("T_1", 50),
        ]
    )
    frame.to_parquet(tmp_path / "lnpdb.parquet")
    return tmp_path


def test_without_the_data_one_sentence_says_where_it_is():
    with pytest.raises(
        DataError,
        match=r"lnpdb\.parquet: no such file; .*all_data_metadata\.csv .*github\.com/evancollins1/LNPDB at commit "
        r"b9ea9d822aeaca4d817db00f264df37468433421 .*--data or COMMONPRIOR_DATA",
    ):
        Lnpdb().load(None)


def test_the_sentence_names_the_folder_that_was_searched(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path / "lnpdb" / "lnpdb.parquet")):
        Lnpdb().load(tmp_path)


def test_studies_are_sites_and_small_assays_are_left_out(small):
    family = Lnpdb(valid_sites=("V_1",), test_sites=("T_1",)).load(small)
    sizes = [{site: [p.size for p in pools] for site, pools in fold.items()} for fold in family[1:4]]
    assert sizes == [{"S_0": [45], "S_1": [45], "S_2": [45]}, {"V_1": [30]}, {"T_1": [50]}]
    assert family.spec == Lnpdb().spec()
    assert "Spearman" in family.note
    pool = family.train["S_1"][0]
    x = pool.rows.take(pool.index, pool.size)
    peg = [column.name for column in family.spec.columns].index("PEG_name")
    assert x.present[:3, peg].tolist() == [0, 0, 1]
    assert np.delete(x.present, peg, axis=1).all()
    np.testing.assert_allclose(
        x.values[:3, :6], [[0, (35 + i - 40) / 10, 0.1, 0.65, 1 / 3, 0] for i in range(3)], atol=1e-6
    )
    nested = small / "lnpdb"
    nested.mkdir()
    (small / "lnpdb.parquet").rename(nested / "lnpdb.parquet")
    assert Lnpdb(valid_sites=("V_1",), test_sites=("T_1",)).load(small).spec == family.spec


def test_bad_fields_and_files(small):
    with pytest.raises(RecipeError, match=r"tasks\.min_train_rows: 1; expected at least 2"):
        Lnpdb(min_train_rows=1)
    with pytest.raises(RecipeError, match=r"at least one study each"):
        Lnpdb(test_sites=())
    with pytest.raises(RecipeError, match=r"tasks\.valid_sites: no site 'KW_2014'; the sites are 'S_0', 'S_1'"):
        Lnpdb().load(small)
    frame = pd.read_parquet(small / "lnpdb.parquet").drop(columns="Cargo")
    frame.to_parquet(small / "lnpdb.parquet")
    with pytest.raises(DataError, match=r"lnpdb\.parquet: no column 'Cargo'; it has 'task_id'"):
        Lnpdb().load(small)


@real
def test_the_real_table():
    family = Lnpdb().load(Path(DATA))
    assert [sum(map(len, fold.values())) for fold in family[1:4]] == [30, 5, 7]
    assert set(family.test) == {"BL_2023", "LM_2019", "SL_2020", "ZC_2023"}
    assert set(family.valid) == {"KW_2014", "NC_2024", "RG_2023", "SX_2025"}
    assert sum(p.size for fold in family[1:4] for pools in fold.values() for p in pools) == 17522
    pool = next(p for p in family.test["LM_2019"] if p.size == 1080)
    task, _ = standardise(pool.episode(np.random.default_rng(0), 16, 64), family.spec.target)
    assert [leaf.shape for leaf in task.support.x] == [(16, e.shape[1]) for e in family.spec.example()]
    assert abs(task.support.y.mean()) < 1e-6
    assert task.support.x.counts.sum(1).min() > 10


@real
def test_no_two_names_in_the_real_table_collide():
    frame = pd.read_parquet(Path(DATA) / "lnpdb" / "lnpdb.parquet")
    for column in Lnpdb().spec().columns:
        if column.kind == "categorical":
            known = sorted(set(frame[column.name]) - {"", "Unknown"})
            codes = parse(pd.DataFrame({column.name: known}), [column], "lnpdb.parquet").values
            assert len(np.unique(codes, axis=0)) == len(known), column.name
