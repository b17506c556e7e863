"""What a new site does with few.csv and new.csv, by the spec of a trained run."""

import numpy as np
import pandas as pd
import pytest

from commonprior.errors import DataError
from commonprior.task import Column
from commonprior.tasks.table import Table, check_disjoint, encode_rows, fit_scaler, read_frame, read_labels

TRAINED = pd.DataFrame(
    {
        "dose": [1.0, 2, 3, 4, 5, 6],
        "pH": [5.0, 6, 7, 5, 6, 8],
        "cell": ["A", "B", "A", "B", "A", "B"],
        "smiles": ["CCO", "CCC", "CCN", "CCO", "CCCC", "C"],
        "y": [1.0, 2, 3, 5, 8, 13],
    }
)


@pytest.fixture
def family(tmp_path):
    TRAINED.to_csv(tmp_path / "trained.csv", index=False)
    return Table("y", file="trained.csv").load(tmp_path)


def test_a_site_encodes_as_the_trained_run_did(family, tmp_path):
    rows = encode_rows(read_frame(tmp_path / "trained.csv"), family.spec, "few.csv")
    pool = family.train["trained"][0]
    for ours, theirs in zip(rows, pool.rows.take(pool.index, pool.size), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(read_labels(TRAINED, family.spec, "few.csv"), pool.y)


def test_columns_are_matched_by_name_and_unseen_words_are_no_error(family):
    new = TRAINED[["cell", "y", "smiles", "dose", "pH"]].assign(extra="ignored", cell="never seen")
    rows = encode_rows(new, family.spec, "new.csv")
    assert [leaf.shape[1] for leaf in rows] == [leaf.shape[1] for leaf in family.spec.example()]
    np.testing.assert_array_equal(rows.values[:, :2], encode_rows(TRAINED, family.spec, "few.csv").values[:, :2])


def test_an_absent_column_is_unknown(family):
    rows = encode_rows(TRAINED.drop(columns=["pH", "smiles"]), family.spec, "new.csv")
    assert (rows.present == [1, 0, 1, 0]).all()
    assert not rows.values[:, 1].any()
    assert not rows.counts.any()


def test_one_scaler_serves_two_files(family):
    few, new = TRAINED.iloc[:3], TRAINED.iloc[3:]
    scaler = fit_scaler(TRAINED, family.spec, "few.csv")
    both = encode_rows(TRAINED, family.spec, "few.csv").values
    parts = [encode_rows(part, family.spec, "part.csv", scaler).values for part in (few, new)]
    np.testing.assert_array_equal(np.concatenate(parts), both)
    assert not np.array_equal(encode_rows(new, family.spec, "new.csv").values, both[3:])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dose": ["1", "2", "3", "x", "5", "6"]}, r"few\.csv, row 3, column 'dose': found 'x', expected a number"),
        ({"dose": [1, 2, np.inf, 4, 5, 6]}, r"few\.csv, row 2, column 'dose': found inf, expected a finite number"),
        ({"smiles": ["CCO", "C(", "C", "C", "C", "C"]}, r"few\.csv, row 1, column 'smiles': 'C\(' is no smiles"),
    ],
)
def test_cells_refused(family, change, sentence):
    with pytest.raises(DataError, match=sentence):
        encode_rows(TRAINED.assign(**change), family.spec, "few.csv")


def test_tables_refused(family):
    with pytest.raises(DataError, match=r"new\.csv: none of the columns 'dose', 'pH', 'cell', 'smiles' is in it"):
        encode_rows(TRAINED[["y"]], family.spec, "new.csv")
    with pytest.raises(DataError, match=r"new\.csv: no column 'pH', but 'ph '; rename it to match"):
        encode_rows(TRAINED.rename(columns={"pH": "ph "}), family.spec, "new.csv")
    with pytest.raises(DataError, match=r"new\.csv: no rows"):
        encode_rows(TRAINED.iloc[:0], family.spec, "new.csv")
    with pytest.raises(DataError, match=r"new\.csv: 2 columns are named 'pH'"):
        encode_rows(pd.concat([TRAINED, TRAINED[["pH"]]], axis=1), family.spec, "new.csv")
    with pytest.raises(DataError, match=r"few\.csv: no column 'y' with the labels; it has 'dose', 'pH'"):
        read_labels(TRAINED.drop(columns="y"), family.spec, "few.csv")
    with pytest.raises(DataError, match=r"few\.csv, row 0, column 'y': no label"):
        read_labels(TRAINED.assign(y=[None, 1, 2, 3, 4, 5]), family.spec, "few.csv")


def test_support_and_query_share_no_row(family, tmp_path):
    TRAINED.iloc[:3].to_csv(tmp_path / "few.csv", index=False)
    TRAINED.iloc[3:].to_csv(tmp_path / "new.csv", index=False)
    few, new = read_frame(tmp_path / "few.csv"), read_frame(tmp_path / "new.csv")
    check_disjoint(few, new, family.spec, "few.csv", "new.csv")
    (tmp_path / "new.csv").write_text("smiles,cell,pH,dose\nC,A,1,1\nCCC , B,6,2.00\n")
    with pytest.raises(DataError, match=r"few\.csv, row 3 and new\.csv, row 3 have the same inputs; delete one"):
        check_disjoint(few, read_frame(tmp_path / "new.csv"), family.spec, "few.csv", "new.csv")


def test_an_unknown_cell_equals_an_unknown_cell_alone(family):
    few = TRAINED.iloc[:1].assign(pH=np.nan)
    check_disjoint(few, TRAINED, family.spec, "few.csv", "new.csv")
    with pytest.raises(DataError, match=r"row 0 and new\.csv, row 0"):
        check_disjoint(few, few.drop(columns="pH"), family.spec, "few.csv", "new.csv")


def test_columns_with_public_constants_need_no_rows_to_scale(tmp_path):
    TRAINED.to_csv(tmp_path / "trained.csv", index=False)
    columns = (Column("dose", centre=3.0, spread=2.0),)
    spec = Table("y", file="trained.csv", columns=columns).load(tmp_path).spec
    assert encode_rows(TRAINED.iloc[[4]], spec, "new.csv").values.tolist() == [[1.0]]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_usual_separator(tmp_path, separator):
    text = '\ufeffdose,name\r\n1,"a\nb"\r\n\r\n2,c\r\n'.replace(",", separator)
    (tmp_path / "t.csv").write_bytes(text.encode())
    frame = read_frame(tmp_path / "t.csv")
    assert frame.to_dict("list") == {"dose": ["1", "2"], "name": ["a\nb", "c"]}
    assert frame.index.tolist() == [2, 4]
