"""Numbers from formulas, molecules and categories."""

import hashlib
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.errors import DataError, RecipeError
from commonprior.task import Column
from commonprior.tasks._columns import completed
from commonprior.tasks._encode import featurise, fit, parse, scale
from commonprior.tasks._fingerprint import morgan, reader
from commonprior.tasks._formula import ELEMENTS, composition


def atoms(formula):
    return {ELEMENTS[slot]: pytest.approx(fraction) for slot, fraction in composition(formula).items()}


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("NaCl", {"Na": 0.5, "Cl": 0.5}),
        ("CO", {"C": 0.5, "O": 0.5}),
        ("Co", {"Co": 1}),
        ("Fe2O3", {"Fe": 0.4, "O": 0.6}),
        ("Fe₂O₃", {"Fe": 0.4, "O": 0.6}),
        (" Fe2 O3 ", {"Fe": 0.4, "O": 0.6}),
        ("Ca(OH)2", {"Ca": 0.2, "O": 0.4, "H": 0.4}),
        ("K4[Fe(CN)6]", {"K": 4 / 17, "Fe": 1 / 17, "C": 6 / 17, "N": 6 / 17}),
        ("Li0.5Fe.5", {"Li": 0.5, "Fe": 0.5}),
        ("La0.7{Sr0.2Ca0.1}MnO3", {"La": 0.14, "Sr": 0.04, "Ca": 0.02, "Mn": 0.2, "O": 0.6}),
        ("CuSO4·5H2O", {"Cu": 1 / 21, "S": 1 / 21, "O": 9 / 21, "H": 10 / 21}),
        ("CuSO4*5H2O", {"Cu": 1 / 21, "S": 1 / 21, "O": 9 / 21, "H": 10 / 21}),
        ("Fe2O3H0", {"Fe": 0.4, "O": 0.6}),
    ],
)
def test_formulas(formula, expected):
    assert atoms(formula) == expected


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("Xx2", "'Xx' is not an element"),
        ("D2O", "'D' is not an element"),
        ("Fe3-xO4", "'-' has no place"),
        ("fe2o3", "'f' has no place"),
        ("Ca(OH", "'\\(' is never closed"),
        ("CaOH)2", "'\\)' closes no bracket"),
        ("(Ca]2", "'\\]' closes no bracket"),
        ("2", "names no element"),
        ("CuSO4·", "names no element"),
        ("H0", "add up to 0"),
        ("H" + "9" * 400, "add up to inf"),
    ],
)
def test_formulas_refused(formula, reason):
    with pytest.raises(ValueError, match=reason):
        composition(formula)


@given(st.text("CHONFeab()[]{}.0123456789·*- ", max_size=25))
def test_any_formula_is_fractions_or_a_reason(formula):
    try:
        fractions = composition(formula)
    except ValueError:
        return
    assert sum(fractions.values()) == pytest.approx(1)
    assert all(0 < fraction <= 1 and 0 <= slot < 103 for slot, fraction in fractions.items())


def test_fingerprints_count_and_do_not_depend_on_the_spelling():
    read = morgan(1024)
    assert read("CCO") == read("OCC")
    assert read("CCCCCC") != read("CCCCC")
    assert sum(read("CCCCCC").values()) > sum(read("CCCCC").values())
    assert all(0 <= slot < 64 for slot in morgan(64)("CCOC(=O)c1ccccc1"))


def test_a_mixed_fingerprint_tells_roles_and_distances_apart():
    half = lambda counts: {slot for slot in counts if slot < 64}  # noqa: E731
    roles = lambda counts: {slot: n for slot, n in counts.items() if 64 <= slot < 96}  # noqa: E731
    pairs = lambda counts: {slot: n for slot, n in counts.items() if slot >= 96}  # noqa: E731
    read = reader("mixed", 128)
    chlorine, bromine = read("Clc1ccccc1"), read("Brc1ccccc1")
    assert half(chlorine) != half(bromine)
    assert roles(chlorine) == roles(bromine)  # both are halogens
    ortho, para = read("Oc1ccccc1N"), read("Oc1ccc(N)cc1")
    assert pairs(ortho) != pairs(para)
    assert all(0 <= slot < 128 for slot in ortho)


def test_phosphorus_of_disputed_valence_is_read_and_carbon_of_five_bonds_is_not():
    assert sum(morgan(1024)("C[PH](=O)(=O)O").values()) > 0
    with pytest.raises(ValueError, match="valence for atom # 1 C, 5"):
        morgan(1024)("CC(C)(C)(C)C")


@pytest.mark.parametrize("smiles", ["C(", "hello", "c1ccc1x", "C1CC", "[", "c1cccc1"])
def test_smiles_refused(smiles, capfd):
    with pytest.raises(ValueError, match=r"cannot read it|kekulize"):
        morgan(1024)(smiles)
    assert capfd.readouterr() == ("", "")


def test_equal_counts_are_one_row_and_each_text_is_read_once(monkeypatch):
    read = []

    def composition_(text):
        read.append(text)
        return {0: float(len(text))}

    monkeypatch.setattr("commonprior.tasks._encode.composition", composition_)
    text = np.array(["ab", "", "cd", "ab", "abc"], object)
    table, which = featurise(completed(Column("f", "formula")), [("x", pd.RangeIndex(5), text)] * 2)
    assert read == ["ab", "cd", "abc"]
    assert table.shape == (3, 103)
    assert [w.tolist() for w in which] == [[1, 0, 1, 1, 2]] * 2
    assert table.toarray()[:, 0].tolist() == [0, 2, 3]


def categories(words, column):
    frame = pd.DataFrame({column.name: words})
    return parse(frame, [column], "t.csv").values


def test_declared_categories_are_one_hot():
    column = completed(Column("cell", "categorical", categories=("A", "B", "C")))
    assert column.slots == 3
    np.testing.assert_array_equal(
        categories(["B", " C ", "", "A"], column), [[0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    )


def test_undeclared_categories_are_hashed_by_name_alone():
    column = completed(Column("cell", "categorical"))
    values = categories(["HeLa", "A549", "HeLa"], column)
    for row, word in zip(values, [b"HeLa", b"A549"], strict=False):
        digest = hashlib.sha256(b"cell=" + word).digest()
        assert row[int.from_bytes(digest[:8], "big") % 16] == (1 if digest[8] & 1 else -1)
    assert (np.abs(values).sum(1) == 1).all()
    assert {*values[0], *values[1]} == {-1, 0, 1}
    np.testing.assert_array_equal(values[0], values[2])
    np.testing.assert_array_equal(categories(["never seen before", "HeLa"], column)[1], values[0])
    other = categories(["HeLa"], completed(Column("cell line", "categorical")))
    assert not np.array_equal(other[0], values[0])


def test_whole_numbers_are_one_category_however_they_are_stored():
    column = completed(Column("batch", "categorical"))
    expected = categories(["3", "12"], column)
    for words in ([3, 12], [3.0, 12.0], pd.array([3, 12], dtype="Int64")):
        np.testing.assert_array_equal(categories(words, column), expected)


@pytest.mark.parametrize(
    ("cells", "scaled"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0], (np.arange(5) - 2) * 1.349 / 2),
        ([7.0, 7.0, 7.0, 7.0, 12.0], [0, 0, 0, 0, 5 / np.sqrt(5)]),
        ([7.0, 7.0, 7.0], [0, 0, 0]),
        ([0.1 + 0.2, 0.3, 0.3], [0, 0, 0]),
        ([7.0], [0]),
        ([np.nan, np.nan], [0, 0]),
        ([np.nan, 1.0, 3.0], [0, -1.349, 1.349]),
    ],
)
def test_a_site_scales_by_median_and_interquartile_range(cells, scaled):
    columns = [Column("dose")]
    parsed = parse(pd.DataFrame({"dose": cells}), columns, "t.csv")
    scale(parsed, columns, np.arange(len(cells)), fit(parsed.numbers, columns))
    np.testing.assert_allclose(parsed.values[:, 0], scaled, rtol=1e-6, atol=1e-12)


def test_one_slip_of_a_unit_is_clipped():
    columns = [Column("dose")]
    parsed = parse(pd.DataFrame({"dose": [0.0, 1, 2, 3, 4, 5, 6, 1e20, -1e20]}), columns, "t.csv")
    scale(parsed, columns, np.arange(9), fit(parsed.numbers, columns))
    assert parsed.values[-2:, 0].tolist() == [10, -10]
    assert np.abs(parsed.values[:-2]).max() < 2


def test_transforms():
    columns = [Column("a", transform="log10"), Column("b", transform="signed_log"), Column("c")]
    parsed = parse(pd.DataFrame({"a": [0.01, 100], "b": [-99, 0], "c": [1, None]}), columns, "t.csv")
    np.testing.assert_allclose(parsed.numbers, [[-2, -2, 1], [2, 0, np.nan]])


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (Column("a", centre=1.0), "centre and spread go together"),
        (Column("a", centre=1.0, spread=0.0), "spread above 0"),
        (Column("a", centre=float("nan"), spread=1.0), "spread above 0"),
        (Column("a", slots=3), "slots = 3; a numeric column takes 1"),
        (Column("a", slots=0), "slots = 0"),
        (Column("a", "formula", slots=50), "takes 103"),
        (Column("a", "smiles", transform="log10"), "are for numeric columns"),
        (Column("a", "smiles", categories=("x",)), "categories are for categorical"),
        (Column("a", "categorical", categories=("x", "x")), "each named once"),
        (Column(" "), "has no name"),
    ],
)
def test_columns_refused(column, sentence):
    with pytest.raises(RecipeError, match=sentence):
        completed(column)


def test_without_rdkit_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(DataError, match=r"pip install commonprior\[chem\]"):
        morgan(1024)
