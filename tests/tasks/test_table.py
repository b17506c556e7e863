"""Tasks from tables: what a recipe says of its columns, units, sites and folds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commonprior.task import Column
from commonprior.tasks.table import Table


def rows(sites=4, tasks=3, n=6):
    """A table of `sites` × `tasks` assays: a number, a category, a target."""
    return pd.DataFrame(
        [
            {"lab": f"lab{s}", "assay": f"assay{t}", "dose": 10.0**i, "cell": ("A", "B")[i % 2], "y": float(i + s)}
            for s in range(sites)
            for t in range(tasks)
            for i in range(n)
        ]
    )


def write(folder: Path, **tables):
    for name, frame in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False)


def everything(pool):
    """All rows of a pool, in the table's order."""
    return pool.rows.take(pool.index, pool.size)


def test_a_table_becomes_tasks_by_site(tmp_path):
    write(tmp_path, assays=rows())
    family = Table("y", task="assay", site="lab", file="assays.csv").load(tmp_path)
    folds = [family.train, family.valid, family.test]
    assert [sorted(fold) for fold in folds] == [["lab0", "lab1", "lab2", "lab3"]] * 3, "a handful of labs all train"
    assert [[len(pools) for pools in fold.values()] for fold in folds] == [[1] * 4] * 3
    for lab in family.train:
        held = sorted(pool.name for fold in folds for pool in fold[lab])
        assert held == ["assay0", "assay1", "assay2"], "each task is in exactly one fold"
    assert family.spec.columns == (Column("dose"), Column("cell", "categorical", slots=16))
    assert (family.spec.target.kind, family.spec.target.name) == ("regression", "y")
    assert "simulation" in family.note
    pool = next(iter(family.train.values()))[0]
    x = everything(pool)
    assert [leaf.shape for leaf in x] == [(6, leaf.shape[1]) for leaf in family.spec.example()]
    assert all(leaf.dtype == np.float32 for leaf in x)


def test_csv_and_parquet_mean_the_same(tmp_path):
    frame = rows()
    frame.loc[3, "dose"] = np.nan
    frame.loc[5, "cell"] = None
    write(tmp_path, a=frame)
    frame.to_parquet(tmp_path / "a.parquet")
    one = Table("y", task="assay", site="lab", file="a.csv").load(tmp_path)
    two = Table("y", task="assay", site="lab", file="a.parquet").load(tmp_path)
    assert one.spec == two.spec
    for site, pools in one.train.items():
        for p, q in zip(pools, two.train[site], strict=True):
            np.testing.assert_array_equal(p.y, q.y)
            for a, b in zip(everything(p), everything(q), strict=True):
                np.testing.assert_array_equal(a, b)


def test_missing_is_masked_and_never_imputed(tmp_path):
    frame = rows(sites=1, tasks=1)
    frame["dose"] = [5.0, np.nan, 7.0, 8.0, np.nan, 10.0]
    frame["cell"] = ["A", "B", None, "A", "B", "A"]
    write(tmp_path, a=frame.drop(columns="lab"))
    family = Table("y", task="assay", file="a.csv").load(tmp_path)
    x = everything(family.train["a"][0])
    np.testing.assert_array_equal(x.present, [[1, 1], [0, 1], [1, 0], [1, 1], [0, 1], [1, 1]])
    assert (x.values[[1, 4], 0] == 0).all()
    assert (x.values[2, 1:] == 0).all()
    assert (np.abs(x.values[[0, 1, 3, 4, 5], 1:]).sum(1) == 1).all()


def test_each_site_scales_by_its_own_rows(tmp_path):
    a, b = rows(sites=1, tasks=2), rows(sites=1, tasks=2)
    b["dose"] = b["dose"] * 1000 + 5
    write(tmp_path, a=a.drop(columns="lab"), b=b.drop(columns="lab"))
    family = Table("y", task="assay", files={"a": "a.csv", "b": "b.csv"}, test_fraction=0, valid_fraction=0).load(
        tmp_path
    )
    for p, q in zip(family.train["a"], family.train["b"], strict=True):
        np.testing.assert_allclose(everything(p).values, everything(q).values, atol=1e-5)
    dose = np.concatenate([everything(p).values[:, 0] for p in family.train["a"]])
    assert np.median(dose) == pytest.approx(0)
    q1, q3 = np.quantile(a["dose"], (0.25, 0.75))
    np.testing.assert_allclose(
        dose, np.clip((a["dose"] - a["dose"].median()) / ((q3 - q1) / 1.349), -10, 10), rtol=1e-5
    )


def test_sites_of_one_file_do_not_share_a_scale(tmp_path):
    frame = rows(sites=2, tasks=1)
    frame.loc[frame["lab"] == "lab1", "dose"] *= 1000
    write(tmp_path, a=frame.sample(frac=1, random_state=0))
    family = Table("y", task="assay", site="lab", file="a.csv").load(tmp_path)
    one, two = (np.sort(everything(family.train[lab][0]).values[:, 0]) for lab in ("lab0", "lab1"))
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_rows_of_one_molecule_share_a_group_however_it_is_spelled(tmp_path):
    frame = pd.DataFrame({"smiles": ["CCO", "CCC", "OCC", "CCN"], "y": [1.0, 2, 3, 4]})
    write(tmp_path, a=frame)
    groups = Table("y", file="a.csv").load(tmp_path).train["a"][0].groups
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3


def test_public_constants_scale_the_transformed_number_alike_everywhere(tmp_path):
    write(tmp_path, a=rows(sites=2, tasks=1))
    columns = (Column("dose", transform="log10", centre=2.0, spread=0.5),)
    family = Table("y", task="assay", site="lab", file="a.csv", columns=columns).load(tmp_path)
    for pools in family.train.values():
        np.testing.assert_allclose(everything(pools[0]).values[:, 0], (np.arange(6) - 2.0) / 0.5)


def test_a_constant_column_becomes_zero_yet_present(tmp_path):
    frame = rows(sites=1, tasks=1)
    frame["dose"] = 0.1 + 0.2
    write(tmp_path, a=frame)
    x = everything(Table("y", task="assay", site="lab", file="a.csv").load(tmp_path).train["lab0"][0])
    assert (x.values[:, 0] == 0).all()
    assert (x.present[:, 0] == 1).all()


def test_a_site_without_a_column_takes_part(tmp_path):
    a, b = rows(sites=1), rows(sites=1).drop(columns="dose")
    write(tmp_path, a=a.drop(columns="lab"), b=b.drop(columns="lab"))
    family = Table("y", task="assay", files={"a": "a.csv", "b": "b.csv"}).load(tmp_path)
    x, y = everything(family.train["a"][0]), everything(family.train["b"][0])
    assert x.values.shape == y.values.shape
    assert (x.present[:, 0] == 1).all()
    assert (y.present == [0, 1]).all()
    assert (y.values[:, 0] == 0).all()


def test_names_and_units_are_mapped_for_all_and_by_site(tmp_path):
    a = rows(sites=1, tasks=1).drop(columns="lab")
    b = a.rename(columns={"dose": "Dose (mg)", "y": "activity %"})
    b["Dose (mg)"] /= 1000
    b["activity %"] *= 100
    write(tmp_path, a=a.rename(columns={"assay": "Assay"}), b=b.rename(columns={"assay": "Assay"}))
    family = Table(
        "y",
        task="assay",
        files={"a": "a.csv", "b": "b.csv"},
        columns=(Column("dose", unit="µg", centre=0.0, spread=1e5),),
        rename={"Assay": "assay", "b": {"Dose (mg)": "dose", "activity %": "y"}},
        convert={"b": {"dose": 1000.0, "y": 0.01}},
    ).load(tmp_path)
    p, q = family.train["a"][0], family.train["b"][0]
    np.testing.assert_allclose(everything(p).values, everything(q).values)
    np.testing.assert_allclose(p.y, q.y)


def test_one_file_may_hold_a_unit_for_each_site(tmp_path):
    frame = rows(sites=2, tasks=1)
    frame.loc[frame["lab"] == "lab1", "dose"] /= 1000
    write(tmp_path, a=frame)
    family = Table(
        "y",
        task="assay",
        site="lab",
        file="a.csv",
        columns=(Column("dose", centre=0.0, spread=1e4),),
        convert={"dose": 1.0, "lab1": {"dose": 1000.0}},
    ).load(tmp_path)
    np.testing.assert_allclose(
        everything(family.train["lab0"][0]).values, everything(family.train["lab1"][0]).values, rtol=1e-6
    )


def test_listed_sites_are_held_out_whole(tmp_path):
    write(tmp_path, a=rows(sites=5))
    table = Table("y", task="assay", site="lab", file="a.csv", valid_sites=("lab3",), test_sites=("lab1", "lab4"))
    family = table.load(tmp_path)
    assert (set(family.train), set(family.valid), set(family.test)) == ({"lab0", "lab2"}, {"lab3"}, {"lab1", "lab4"})


def test_one_site_holds_out_tasks(tmp_path):
    write(tmp_path, a=rows(sites=1, tasks=10))
    table = Table("y", task="assay", site="lab", file="a.csv", valid_fraction=0.1, test_fraction=0.2)
    folds = [{p.name for p in fold["lab0"]} for fold in table.load(tmp_path)[1:4]]
    assert [len(fold) for fold in folds] == [7, 1, 2]
    assert len(set.union(*folds)) == 10
    shuffled = rows(sites=1, tasks=10).sample(frac=1, random_state=1)
    write(tmp_path, a=shuffled)
    assert [{p.name for p in fold["lab0"]} for fold in table.load(tmp_path)[1:4]] == folds
    other = Table("y", task="assay", site="lab", file="a.csv", valid_fraction=0.1, test_fraction=0.2, seed=1)
    assert [{p.name for p in fold["lab0"]} for fold in other.load(tmp_path)[1:4]] != folds


def test_a_task_name_may_recur_at_another_site(tmp_path):
    write(tmp_path, a=rows(sites=2, tasks=1))
    family = Table("y", task="assay", site="lab", file="a.csv").load(tmp_path)
    assert {site: [p.name for p in pools] for site, pools in family.train.items()} == {
        "lab0": ["assay0"],
        "lab1": ["assay0"],
    }


@pytest.mark.parametrize(
    ("labels", "kind", "classes"),
    [
        ([0, 1, 0, 1, 1, 0], "classification", ("0", "1")),
        ([True, False, True, False, True, False], "classification", ("0", "1")),
        (["yes", "no", "yes", "no", "no", "yes"], "classification", ("no", "yes")),
        ([0, 1, 2, 0, 1, 2], "regression", ()),
        ([0.0, 0.5, 1.0, 0.5, 0.1, 0.2], "regression", ()),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_kind_of_target_is_inferred(tmp_path, labels, kind, classes, suffix):
    frame = rows(sites=1, tasks=1).assign(y=labels)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    family = Table("y", task="assay", site="lab", file=f"a.{suffix}").load(tmp_path)
    assert (family.spec.target.kind, family.spec.target.classes) == (kind, classes)


def test_said_classes_keep_their_order(tmp_path):
    write(tmp_path, a=rows(sites=1, tasks=1).assign(y=[2, 10, 2, 10, 1, 1]))
    table = Table("y", task="assay", site="lab", file="a.csv", target_kind="classification")
    family = table.load(tmp_path)
    assert family.spec.target.classes == ("1", "2", "10")
    assert family.train["lab0"][0].y.tolist() == [1, 2, 1, 2, 0, 0]
    family = Table("y", task="assay", site="lab", file="a.csv", classes=("10", "2", "1")).load(tmp_path)
    assert family.train["lab0"][0].y.tolist() == [1, 0, 1, 0, 2, 2]


def test_the_target_may_be_a_logarithm(tmp_path):
    frame = rows(sites=1, tasks=1).assign(y=[1, 10, 100, 1000, 10, 1])
    write(tmp_path, a=frame)
    family = Table("y", task="assay", site="lab", file="a.csv", transform="log10").load(tmp_path)
    np.testing.assert_allclose(family.train["lab0"][0].y, [0, 1, 2, 3, 1, 0])
    assert family.spec.target.transform == "log10"


def test_molecules_and_formulas_become_counts_in_column_order(tmp_path):
    frame = pd.DataFrame(
        {
            "lab": "x",
            "core_formula": ["Fe2O3", "", "ZnO", "Fe2O3"],
            "dose": [1, 2, 3, 4],
            "ligand_smiles": ["CCO", "CCC", "CCO", ""],
            "y": [1.0, 2.5, 3, 4],
        }
    )
    write(tmp_path, a=frame)
    family = Table("y", site="lab", file="a.csv").load(tmp_path)
    assert [(c.kind, c.slots) for c in family.spec.columns] == [("formula", 103), ("numeric", 1), ("smiles", 1024)]
    x = everything(family.train["x"][0])
    assert x.counts.shape == (4, 103 + 1024)
    np.testing.assert_allclose(x.counts[0, [7, 25]], [0.6, 0.4])
    assert (x.counts[1, :103] == 0).all()
    assert (x.counts[3, 103:] == 0).all()
    np.testing.assert_array_equal(x.counts[0, 103:], x.counts[2, 103:])
    assert x.counts[0, 103:].sum() > 3
    assert x.present.tolist() == [[1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 0]]


def test_small_tasks_are_left_out_only_when_told_and_then_counted(tmp_path):
    frame = rows(sites=1, tasks=3)
    lonely = frame.iloc[[0]].assign(assay="lonely")
    same = frame.iloc[:3].assign(assay="same", dose=1.0, cell="A")
    write(tmp_path, a=pd.concat([frame, lonely, same]))
    family = Table("y", task="assay", site="lab", file="a.csv", drop_small_tasks=True).load(tmp_path)
    kept = {p.name for fold in family[1:4] for pools in fold.values() for p in pools}
    assert kept == {"assay0", "assay1", "assay2"}
    assert "2 tasks left out: 1 with fewer than 2 rows, 1 with the same inputs in every row" in family.note


def test_a_recipe_finds_its_file_by_folder_or_by_itself(tmp_path, monkeypatch):
    write(tmp_path, a=rows(sites=1, tasks=1))
    monkeypatch.chdir(tmp_path)
    table = Table("y", task="assay", site="lab", file="a.csv")
    (tmp_path / "other").mkdir()
    for data in (None, tmp_path, tmp_path / "other"):
        assert table.load(data).train["lab0"][0].size == 6
    assert Table("y", task="assay", site="lab", file=str(tmp_path / "a.csv")).load(Path("/")).train["lab0"][0].size == 6
