"""Whatever a table holds, it becomes finite arrays with consistent masks, or one sentence."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commonprior.errors import DataError, InputError
from commonprior.task import Column, Target, TaskSpec
from commonprior.tasks.table import Table, encode_rows

CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.floats(),
    st.floats(-10, 10),
    st.sampled_from(
        [pd.NA, pd.NaT, np.nan, "", " ", "NA", "None", "nan", "1e400", "-0", "1,5", "0x1f", "٣", "9" * 5000]
    ),
    st.sampled_from(["A", "B", "CCO", "Fe2O3", "yes", "no", "1", "0", "2.50"]),
    st.text(max_size=5),
    st.sampled_from([b"x", 10**400, 1j, (1, 2), [1], {}, datetime.date(2020, 1, 1), decimal.Decimal("1.5")]),
    st.sampled_from(
        [decimal.Decimal("sNaN"), decimal.Decimal("Infinity"), np.float32(1.5), np.int8(3), pd.Timestamp(0)]
    ),
)
NUMBERS = st.one_of(st.none(), st.floats(-1e30, 1e30), st.sampled_from([0.0, 1.0, 1e-320, 1e30]))
WORDS = st.sampled_from(["A", "B", "", None, "hello", "C", "CCO", "Fe", "(C)2"])
SANE = {
    "dose": NUMBERS,
    "pH": NUMBERS,
    "cell": WORDS,
    "smiles": st.sampled_from(["CCO", "C", "N", "", None]),
    "my formula": st.sampled_from(["Fe2O3", "C", "(C)2", "", None]),
}
NAMES = st.lists(st.sampled_from(["dose", "pH", "cell", "smiles", "my formula", "note"]), unique=True, max_size=4)
ODD_NAMES = st.one_of(st.sampled_from(["task", "lab", "y", "Dose", "", "task ", "a\nb"]), st.text(max_size=4))


@st.composite
def frames(draw):
    n = draw(st.one_of(st.integers(0, 16), st.just(16)))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    labels = draw(st.sampled_from([rng.normal(size=n), rng.integers(0, 2, n), rng.choice(["yes", "no"], n)]))
    frame = pd.DataFrame({"task": rng.choice(["t", "u"], n), "lab": rng.choice(["a", "b"], n), "y": labels})
    odd = draw(st.integers(0, 7)) == 0
    for name in [*draw(NAMES), *([draw(ODD_NAMES)] if odd else [])]:
        junk = draw(st.integers(0, 5)) == 0
        cells = draw(st.lists(CELLS if junk else SANE.get(name, WORDS), min_size=n, max_size=n))
        frame.insert(draw(st.integers(0, frame.shape[1])), name, pd.Series(cells, dtype=object), allow_duplicates=True)
    if draw(st.integers(0, 9)) == 0:
        frame = frame.drop(columns=frame.columns[draw(st.integers(0, frame.shape[1] - 1))])
    return frame.infer_objects() if draw(st.booleans()) else frame


def check(family):
    for fold in (family.train, family.valid, family.test):
        for pools in fold.values():
            for pool in pools:
                task = pool.episode(np.random.default_rng(0), 3, 4)
                for batch in task:
                    for leaf, example in zip(batch.x, family.spec.example(), strict=True):
                        assert np.isfinite(leaf).all()
                        assert leaf.shape[1:] == example.shape[1:]
                    assert np.isfinite(batch.y).all()
                    at = 0
                    for g, column in enumerate(family.spec.columns):
                        if column.kind in ("numeric", "categorical"):
                            assert not batch.x.values[batch.x.present[:, g] == 0, at : at + column.slots].any()
                            at += column.slots
                assert np.isin(task.support.x.present, (0, 1)).all()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(frame=frames(), drop=st.booleans(), kind=st.sampled_from(["", "regression", "classification"]))
def test_any_table_becomes_a_family_or_one_sentence(frame, drop, kind):
    table = Table("y", task="task", site="lab", file="t.csv", target_kind=kind, drop_small_tasks=drop)
    try:
        family = table.gather([("", "t.csv", frame)])
    except DataError as error:
        refusal = str(error)
    else:
        check(family)
        return
    assert "t.csv" in refusal
    assert "\n" not in refusal


SPEC = TaskSpec(
    Target("y"),
    (
        Column("dose"),
        Column("cell", "categorical", slots=16),
        Column("smiles", "smiles", slots=64),
        Column("my formula", "formula", slots=103),
    ),
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames())
def test_any_new_rows_are_encoded_or_refused(frame):
    try:
        rows = encode_rows(frame, SPEC, "new.csv")
    except DataError:
        return
    assert all(np.isfinite(leaf).all() for leaf in rows)
    assert [len(leaf) for leaf in rows] == [len(frame)] * 3


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.binary(max_size=80), st.text('task,y\n\r";\t 1A', max_size=80).map(str.encode)))
def test_any_file_is_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("junk") / "t.csv"
    path.write_bytes(data)
    try:
        Table("y", task="task", file=str(path)).load(None)
    except InputError:
        return


@pytest.mark.parametrize("cut", range(0, 900, 100))
def test_a_truncated_parquet_file_is_refused(tmp_path, cut):
    frame = pd.DataFrame({"task": "t", "dose": [1.0, 2, 3], "y": [1.0, 2.5, 3]})
    frame.to_parquet(tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data[:cut])
    with pytest.raises(DataError):
        Table("y", task="task", file="t.parquet").load(tmp_path)
