"""FS-Mol: folds, sites and labels of made-up files; fingerprints and their cache; with the data, its real sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fsmol as benchmark
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedShuffleSplit

from commonprior.errors import DataError, RecipeError
from commonprior.tasks import _fsmol_fingerprints as fingerprints
from commonprior.tasks._fingerprint import morgan, reader
from commonprior.tasks.fsmol import Fsmol

DATA = os.environ.get("COMMONPRIOR_DATA", "")
real = pytest.mark.skipif(
    not (Path(DATA) / "fsmol").is_dir() or not DATA, reason="COMMONPRIOR_DATA names no folder with fsmol/train.parquet"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, request):
    """A cache of this test's own, but for the real tables: those take long enough once."""
    if "real" not in request.node.name:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "commonprior" / "fingerprints"


def assay(name, n, first=0):
    """Chains and amines; the longer half is active."""
    return pd.DataFrame({
        "task": name, "smiles": ["C" * (first + i + 1) + "N" * (i % 3) for i in range(n)],
        "label": np.arange(n) >= n // 2, "log_regression": np.linspace(4, 9, n, dtype=np.float32),
    })  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    train = pd.concat([assay("T1", 40), assay("T2", 33, 5), assay("T3", 10), assay("T4", 36)])
    train.loc[train.task == "T4", "log_regression"] = np.nan
    valid = assay("V1", 30, 3)
    valid.iloc[5, 1] = valid.iloc[2, 1]
    tasks = pd.DataFrame({
        "task": ["T1", "T2", "T3", "T4", "V1"], "fold": ["train"] * 4 + ["valid"], "n": [40, 33, 10, 36, 30],
        "site": ["kinase", "kinase", "protease", "lyase", "kinase"],
        "regression_ok": [True, False, True, True, True],
    })  # fmt: skip
    for name, frame in (("train", train), ("valid", valid), ("tasks", tasks)):
        frame.to_parquet(tmp_path / f"{name}.parquet", index=False)
    return tmp_path


def sizes(fold):
    return {site: [(p.name, p.size) for p in pools] for site, pools in fold.items()}


def test_without_the_data_one_sentence_says_where_it_is(tmp_path):
    sentence = r"train\.parquet: no such file; make train, valid and tasks\.parquet from datasets/ of github\.com/micro"
    for data in (None, tmp_path):
        with pytest.raises(DataError, match=sentence):
            Fsmol().load(data)


def test_super_families_are_sites_and_the_test_fold_stays_closed(folder):
    (folder / "test.parquet").write_bytes(b"not to be opened")
    family = Fsmol().load(folder)
    assert sizes(family.train) == {"kinase": [("T1", 40), ("T2", 33)], "lyase": [("T4", 36)]}
    assert sizes(family.valid) == {"kinase": [("V1", 30)]}
    assert family.test == {}
    assert family.spec.target.classes == ("inactive", "active")
    assert sizes(Fsmol(min_tasks=2).load(folder).train) == {"kinase": [("T1", 40), ("T2", 33)]}
    with pytest.raises(DataError, match=r"no site has 3 assays of 32 rows; lower tasks\.min_tasks"):
        Fsmol(min_tasks=3).load(folder)


def test_a_pool_has_the_files_rows_in_the_files_order(folder):
    pool = Fsmol(slots=64).load(folder).valid["kinase"][0]
    frame = pd.read_parquet(folder / "valid.parquet")
    rows = pool.rows.take(pool.index, pool.size)
    read = morgan(64)
    expected = np.zeros((30, 64), np.float32)
    for row, smiles in zip(expected, frame.smiles, strict=True):
        row[list(read(smiles))] = list(read(smiles).values())
    np.testing.assert_array_equal(rows.counts, expected)
    np.testing.assert_array_equal(pool.y, frame.label)
    assert pool.groups[5] == pool.groups[2]  # one molecule, measured twice, is never support and query
    assert len(np.unique(pool.groups)) == 29
    task = pool.episode(np.random.default_rng(0), 8, 12)
    assert task.support.y.sum() == 4
    assert (task.support.x.counts.shape, task.query.x.counts.shape) == ((8, 64), (12, 64))


def test_a_mixed_fingerprint_is_made_of_three_and_read_alike_everywhere(folder):
    source = Fsmol(slots=64, fingerprint="mixed")
    pool = source.load(folder).valid["kinase"][0]
    rows = pool.rows.take(pool.index, pool.size)
    smiles = pd.read_parquet(folder / "valid.parquet").smiles.tolist()
    for row, text in zip(rows.counts, smiles, strict=True):
        assert {slot: row[slot] for slot in np.flatnonzero(row)} == reader("mixed", 64)(text)
        first = morgan(32)(text)
        assert {slot: row[slot] for slot in np.flatnonzero(row[:32])} == first
    assert rows.counts[1:, 32:48].any(1).all()  # but for methane, which has no pair
    assert rows.counts[1:, 48:].any(1).all()
    (column,) = source.spec().columns
    assert (column.fingerprint, column.slots) == ("mixed", 64)
    with pytest.raises(RecipeError, match=r"tasks\.slots: 66; a mixed fingerprint takes a multiple of 4"):
        Fsmol(slots=66, fingerprint="mixed")


def test_regressions_are_those_that_are_scored(folder):
    family = Fsmol(target="regression").load(folder)
    assert sizes(family.train) == {"kinase": [("T1", 40)]}  # T2 is not scored, T4 has rows without a number
    np.testing.assert_allclose(family.train["kinase"][0].y, np.linspace(4, 9, 40), rtol=1e-6)
    assert family.spec.target.kind == "regression"


def test_bad_fields_and_files(folder):
    for field, value in (("slots", 1), ("min_train_rows", 1), ("min_tasks", 0)):
        with pytest.raises(RecipeError, match=rf"tasks\.{field}: {value}; expected at least"):
            Fsmol(**{field: value})
    with pytest.raises(DataError, match=r"test\.parquet: no such file"):
        Fsmol().fold(folder / "test.parquet")
    frame = pd.read_parquet(folder / "train.parquet")
    frame.drop(columns="label").to_parquet(folder / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet: not FS-Mol's table of 'task', 'smiles', 'label'"):
        Fsmol().load(folder)
    frame.assign(smiles="nonsense").to_parquet(folder / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet: 'nonsense' is no molecule: RDKit cannot read it"):
        Fsmol().load(folder)


def test_an_assay_that_the_list_does_not_know(folder):
    tasks = pd.read_parquet(folder / "tasks.parquet")
    tasks[tasks.task != "V1"].to_parquet(folder / "tasks.parquet")
    with pytest.raises(DataError, match=r"tasks\.parquet beside it has no line for 'V1'"):
        Fsmol().load(folder)


KIND = ("morgan", 32)
MOLECULES = ["CCO", "c1ccccc1C(=O)N", "O[PH](=O)(=O)CC", "C[C@H](N)C(=O)O", "[Na+].[Cl-]", "Cn1cnc2c1c(=O)[nH]c(=O)n2C"]


def test_the_fast_way_to_a_fingerprint_is_the_careful_way():
    for smiles in MOLECULES:
        assert dict(fingerprints._reader(2048)(smiles)) == dict(morgan(2048)(smiles)), smiles
    with pytest.raises(ValueError, match="valence"):
        fingerprints._reader(2048)("C(C)(C)(C)(C)C")


def test_processes_and_the_cache_change_nothing(cache, monkeypatch):
    alone = fingerprints.fingerprints(MOLECULES, KIND, b"file", "x.parquet").toarray()
    assert alone.shape == (7, 32)
    assert alone[0].sum() == 0
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    monkeypatch.setattr(fingerprints, "_FEWEST", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    file.unlink()
    np.testing.assert_array_equal(fingerprints.fingerprints(MOLECULES, KIND, b"file", "x.parquet").toarray(), alone)
    assert file.read_bytes() == whole
    with pytest.raises(DataError, match=r"x\.parquet: 'nonsense' is no molecule"):
        fingerprints.fingerprints([*MOLECULES, "nonsense"], KIND, b"other", "x.parquet")

    monkeypatch.setattr(fingerprints, "_computed", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(fingerprints.fingerprints(MOLECULES, KIND, b"file", "x.parquet").toarray(), alone)


@pytest.mark.parametrize("damage", ["torn", "foreign", "pickled", "too few", "out of range"])
def test_a_cached_file_that_does_not_fit_is_computed_anew(cache, damage):
    right = fingerprints.fingerprints(MOLECULES, KIND, b"file", "x.parquet").toarray()
    (file,) = cache.iterdir()
    good = fingerprints._cached(file)
    match damage:
        case "torn":
            file.write_bytes(file.read_bytes()[:-40])
        case "foreign":
            file.write_bytes(b"something else")
        case "pickled":
            np.savez(file, slots=np.array([{}], object), amounts=good.amounts, lengths=good.lengths)
        case "too few":
            file.write_bytes(good._replace(lengths=good.lengths[:-1]).pack())
        case "out of range":
            file.write_bytes(good._replace(slots=good.slots + np.int32(32)).pack())
    np.testing.assert_array_equal(fingerprints.fingerprints(MOLECULES, KIND, b"file", "x.parquet").toarray(), right)
    assert fingerprints._cached(file).fits(len(MOLECULES), 32)


def test_other_bytes_or_slots_are_another_file_and_no_folder_is_no_error(cache, monkeypatch):
    for kind, content in (KIND, b"a"), (KIND, b"b"), (("morgan", 16), b"a"), (("mixed", 16), b"a"):
        fingerprints.fingerprints(MOLECULES, kind, content, "x.parquet")
    assert len(list(cache.iterdir())) == 4
    cache.parent.joinpath("full").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent / "full"))
    assert fingerprints.fingerprints(MOLECULES, KIND, b"a", "x.parquet").shape == (7, 32)


def test_the_published_draws():
    active = np.random.default_rng(0).random(60) < 0.4
    draws = benchmark.published_draws(active, 16)
    assert [seed for seed, _ in draws] == list(range(10))
    order = [*np.flatnonzero(active), *np.flatnonzero(~active)]
    kinds = [0] * int(active.sum()) + [1] * int((~active).sum())
    splitter = StratifiedShuffleSplit(n_splits=1, train_size=16, test_size=None, random_state=3)
    support, query = next(splitter.split(np.zeros((60, 1)), kinds))
    assert [order[i] for i in support] == draws[3][1].support.tolist()
    assert sorted(order[i] for i in query) == sorted(draws[3][1].query)
    larger = benchmark.published_draws(active, 32)
    assert set(draws[0][1].support) <= set(larger[0][1].support)
    assert benchmark.published_draws(active, 59) == []


@real
def test_the_real_tables():
    family = Fsmol().load(Path(DATA))
    assert sum(map(len, family.train.values())) == 4935
    assert sum(p.size for pools in family.train.values() for p in pools) == 412402
    assert {site: len(pools) for site, pools in family.train.items()}["kinase"] == 1199
    assert len(family.train) == 21
    assert sum(map(len, family.valid.values())) == 39
    assert len(family.valid) == 11
    positives = [sum(int(p.y.sum()) for pools in fold.values() for p in pools) for fold in (family.train, family.valid)]
    assert positives == [192847, 6508]


@real
def test_the_fast_way_reads_real_molecules_as_the_careful_way_does():
    smiles = pd.read_parquet(Path(DATA) / "fsmol" / "train.parquet", columns=["smiles"]).smiles.astype(str)
    fast, careful = fingerprints._reader(2048), morgan(2048)
    for text in [*smiles[::4001], *smiles[smiles.str.contains(r"\[PH\]", regex=True)][:5]]:
        assert dict(fast(text)) == dict(careful(text)), text


def test_the_module_is_a_program_that_reads_lines_and_writes_arrays():
    done = subprocess.run(
        [sys.executable, "-m", fingerprints.__name__, "morgan", "16", "x.parquet"],
        input=b"CCO\nCCN", capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout[:2] == b"PK"
    assert json.dumps(done.stderr.decode()) == '""'
