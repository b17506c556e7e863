"""Bad tables and recipes: one sentence with the value, the place and the cure."""

import re

import pandas as pd
import pytest

from commonprior.errors import DataError, RecipeError
from commonprior.task import Column
from commonprior.tasks.table import Table

HEADER = "task,dose,cell,y\n"
GOOD = HEADER + "t,1,A,0.5\nt,2,B,1.5\nt,3,A,2.5\n"


def table(**fields):
    return Table(**{"target": "y", "task": "task", "file": "t.csv", **fields})


@pytest.mark.parametrize(
    ("text", "fields", "sentence"),
    [
        ("", {}, "t.csv: the file is empty"),
        ("\n \n", {}, "t.csv: the file is empty"),
        ("\n" + GOOD, {}, "t.csv: the first line is blank; expected a header"),
        (HEADER, {}, "t.csv: a header but no rows"),
        ("task,dose,dose,y\nt,1,2,3\n", {}, "t.csv: 2 columns are named 'dose'; rename or delete"),
        (",dose,y\nt,1,2\n", {}, "t.csv: column 1 has no name"),
        (GOOD + "t,1,A,2,9\n", {}, "t.csv: not a readable CSV (Row #5: Expected 4 columns, got 5"),
        (GOOD + "t,1\n", {}, "t.csv: not a readable CSV (Row #5: Expected 4 columns, got 2"),
        (GOOD, {"target": "z"}, "t.csv: no column 'z', the target; it has 'task', 'dose', 'cell', 'y'"),
        (GOOD, {"task": "assay"}, "t.csv: no column 'assay'; it has 'task', 'dose'"),
        (GOOD, {"site": "lab"}, "t.csv: no column 'lab'; it has 'task', 'dose'"),
        (GOOD + ",1,A,1\n", {}, "t.csv, row 5, column 'task': the cell is empty; fill it, or delete the row"),
        (GOOD + "t,1,A,\n", {}, "t.csv, row 5, column 'y': no label; fill the cell, or delete the row"),
        (GOOD + "t,1,A,NaN\n", {}, "t.csv, row 5, column 'y': no label"),
        (GOOD + "\nt,1,A,\n", {}, "t.csv, row 6, column 'y': no label"),
        (GOOD + "t,1,A,high\n", {}, "t.csv, row 5, column 'y': found 'high' among 3 numbers; correct it"),
        (GOOD + "t,1,A,inf\n", {}, "t.csv, row 5, column 'y': found 'inf', expected a finite number"),
        (GOOD + "t,1,A,-1\n", {"transform": "log10"}, "t.csv, row 5, column 'y': found '-1', which has no logarithm"),
        (GOOD + "t,ten,A,1\n", {}, "t.csv, row 5, column 'dose': found 'ten' among 3 numbers; correct it, list it in"),
        (
            GOOD + "t,ten,A,1\n",
            {"columns": (Column("dose"),)},
            "t.csv, row 5, column 'dose': found 'ten', expected a number; correct the cell, or leave it empty",
        ),
        (
            GOOD + 't,"1,5",A,1\n',
            {"columns": (Column("dose"),)},
            "t.csv, row 5, column 'dose': found '1,5', expected a number; write a decimal point",
        ),
        (GOOD + "t,-inf,A,1\n", {}, "t.csv, row 5, column 'dose': found '-inf', expected a finite number of at most"),
        (GOOD + "t,1e31,A,1\n", {}, "t.csv, row 5, column 'dose': found '1e31', expected a finite number of at most"),
        (
            GOOD + "t,0,A,1\n",
            {"columns": (Column("dose", transform="log10"),)},
            "t.csv, row 5, column 'dose': found '0', which has no logarithm",
        ),
        (
            GOOD + "t,1,C,1\n",
            {"columns": (Column("cell", "categorical", categories=("A", "B")),)},
            "t.csv, row 5, column 'cell': found 'C', expected one of 'A', 'B'; correct the cell",
        ),
        (GOOD + "u,1,A,1\n", {}, "t.csv, task 'u' of site 't': fewer than 2 rows; add rows, or leave such tasks out"),
        (GOOD, {"min_rows": 9, "drop_small_tasks": True}, "t.csv: no task is left; each has fewer than 9 rows"),
        (HEADER + "t,1,A,1\nt,1,A,2\n", {}, "t.csv, task 't' of site 't': the same inputs in every row"),
        (
            GOOD,
            {"target_kind": "classification", "classes": ("0.5", "1.5")},
            "t.csv, row 4, column 'y': found '2.5', expected one of the classes '0.5', '1.5'",
        ),
        (
            HEADER + "t,1,A,yes\nt,2,A,yes\nu,1,A,yes\nu,2,A,no\n",
            {},
            "t.csv, task 't' of site 't': rows of one class only",
        ),
        (HEADER + "t,1,A,yes\nt,2,A,yes\n", {}, "t.csv, column 'y': its labels are 'yes' alone; expected at least two"),
        (
            HEADER + "".join(f"t,{i},A,c{i}\n" for i in range(70)),
            {},
            "t.csv, column 'y': 70 distinct labels, such as 'c0'; expected at most 64 classes",
        ),
        (
            HEADER + "".join(f"t,{i},id{i},{i}\n" for i in range(40)),
            {},
            "t.csv, column 'cell': text of 40 distinct values, such as 'id0'; up to 32 would be categories; list it in "
            "`columns` or put 'cell' in `ignore`",
        ),
        (HEADER + "t,1,,1\nt,2,,2\n", {}, "t.csv, column 'cell': every cell is empty; put 'cell' in `ignore`"),
        (GOOD, {"ignore": ("dose", "cell")}, "t.csv: no column is left to learn from"),
        (GOOD, {"columns": (Column("pH"),)}, "t.csv: none of the columns 'pH' is in it; it has 'task', 'dose'"),
        (
            GOOD,
            {"columns": (Column("cell", "categorical"), Column("Dose "))},
            "t.csv: no column 'Dose ', but 'dose'; rename it to match",
        ),
        (
            "SMILES,y\nCCO,1\nCC(,2\n",
            {"task": ""},
            "t.csv, row 3, column 'SMILES': 'CC(' is no smiles: RDKit cannot read it as SMILES; correct the cell",
        ),
        (
            "formula,y\nFe2O3,1\nFe2O3-x,2\n",
            {"task": ""},
            "t.csv, row 3, column 'formula': 'Fe2O3-x' is no formula: '-' has no place in it; correct the cell",
        ),
    ],
)
def test_bad_tables(tmp_path, text, fields, sentence):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(sentence)) as refused:
        table(**fields).load(tmp_path)
    assert "\n" not in str(refused.value)


def test_bad_files(tmp_path):
    with pytest.raises(DataError, match=r"t\.csv: no such file \(looked for .*t\.csv, t\.csv\); .*--data"):
        table().load(tmp_path)
    (tmp_path / "t.csv").write_bytes(b"task,dose,y\nt,1,\xff\xfe\n")
    with pytest.raises(DataError, match=r"t\.csv, row 2: byte 0xff is no UTF-8; save the file as CSV in UTF-8"):
        table().load(tmp_path)
    (tmp_path / "t.csv").write_bytes(b"\xff\xfet\x00a\x00")
    with pytest.raises(DataError, match=r"t\.csv, row 1: byte 0xff is no UTF-8"):
        table().load(tmp_path)
    (tmp_path / "t.parquet").write_bytes(b"task,dose,y\nt,1,2\n")
    with pytest.raises(DataError, match=r"t\.parquet: not a readable Parquet file"):
        table(file="t.parquet").load(tmp_path)
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a \.xlsx file; expected a table in \.csv or \.parquet"):
        table(file="t.xlsx").load(tmp_path)


def test_a_parquet_row_is_counted_from_one(tmp_path):
    pd.DataFrame({"task": "t", "dose": [1, 2, 3], "y": [1.0, None, 2.0]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet, row 2, column 'y': no label"):
        table(file="t.parquet").load(tmp_path)


def test_a_parquet_cell_that_is_no_cell(tmp_path):
    pd.DataFrame({"task": "t", "dose": [[1], [2, 3]], "y": [1.0, 2.0]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"row 1, column 'dose': found .*ndarray"):
        table(file="t.parquet").load(tmp_path)
    pd.DataFrame({"task": "t", "dose": pd.to_datetime(["2020-01-01"] * 2), "y": [1.0, 2.0]}).to_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(DataError, match=r"row 1, column 'dose': found .*Timestamp"):
        table(file="t.parquet").load(tmp_path)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"file": ""}, "either file = '...' or files"),
        ({"files": {"a": "a.csv"}}, "either file = '...' or files"),
        ({"file": "", "files": {"a": "a.csv"}, "site": "lab"}, "tasks.site: 'lab', but `files` names the sites"),
        ({"rename": {"a": {"x": "y"}}}, "tasks.rename: by site, but the one file has one header"),
        ({"target": " "}, "tasks.target: no name"),
        ({"min_rows": 1}, "tasks.min_rows: 1; expected at least 2"),
        ({"valid_fraction": -0.1}, "valid_fraction -0.1"),
        ({"valid_fraction": 0.6, "test_fraction": 0.4}, "less than 1 together"),
        ({"target_kind": "regression", "classes": ("a", "b")}, "tasks.classes: a regression has none"),
        ({"classes": ("a",)}, "at least two classes, each once"),
        ({"classes": ("a", "a")}, "at least two classes, each once"),
        ({"spread": 0.0}, "tasks.spread: 0.0"),
        ({"columns": (Column("y"),)}, "'y' is the task, the site or the target"),
        ({"columns": (Column("a"), Column("a"))}, "'a' is listed 2 times"),
        ({"columns": (Column("a", spread=1.0),)}, "centre and spread go together"),
    ],
)
def test_bad_recipes(fields, sentence):
    with pytest.raises(RecipeError, match=re.escape(sentence)):
        table(**fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ignore": ("colour",)}, "tasks.ignore: no table has a column 'colour'"),
        ({"columns": (Column("dose"), Column("pH"))}, "tasks.columns: no table has a column 'pH'"),
        ({"convert": {"pH": 2.0}}, "tasks.convert: no table has a column 'pH'"),
        ({"convert": {"cell": 2.0}}, "tasks.convert: 'cell' is no numeric column"),
        ({"convert": {"dose": 0.0}}, "tasks.convert: 'dose' by 0.0; expected a finite factor"),
        ({"convert": {"c": {"dose": 2.0}}}, "tasks.convert: no site 'c'; the sites are 'a', 'b'"),
        ({"rename": {"c": {"dose": "Dose"}}}, "tasks.rename: no site 'c'; the sites are 'a', 'b'"),
        ({"rename": {"a": {"pH": "Dose"}}}, "tasks.rename.a: t.csv has no column 'pH'"),
        ({"test_sites": ("c",)}, "tasks.test_sites: no site 'c'; the sites are 'a', 'b'"),
        ({"test_sites": ("a",), "valid_sites": ("a",)}, "site 'a' is in valid_sites and in test_sites"),
        ({"test_sites": ("a", "b")}, "leave no site to train on"),
    ],
)
def test_lines_that_touch_nothing(tmp_path, fields, sentence):
    (tmp_path / "t.csv").write_text(GOOD)
    with pytest.raises(RecipeError, match=re.escape(sentence)):
        table(file="", files={"a": "t.csv", "b": "t.csv"}, **fields).load(tmp_path)


def test_renaming_two_columns_into_one_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    with pytest.raises(DataError, match=r"t\.csv: 2 columns are named 'dose'"):
        table(rename={"cell": "dose"}).load(tmp_path)
