import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.appendlog import AppendLog, read_records, write_whole
from commonprior.canonical import encode
from commonprior.errors import JournalError, RunError


def filled(path, n=3):
    log = AppendLog(path)
    for i in range(n):
        log.append({"i": i})
    return log


@given(st.integers(0, 40))
def test_a_torn_tail_is_cut_off_and_everything_before_it_stays(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("log") / "log"
    filled(path)
    size = path.stat().st_size
    os.truncate(path, max(size - cut, 0))
    kept = [v["i"] for v in AppendLog(path).values()]
    assert kept == list(range(len(kept)))
    assert len(kept) == (size - min(cut, size)) // (size // 3)
    again = AppendLog(path)
    again.append({"i": "new"})
    assert [v["i"] for v in AppendLog(path).values()] == [*kept, "new"]


def test_a_broken_record_is_named(tmp_path):
    path = tmp_path / "log"
    filled(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 + 4] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"log: record 1 at byte \d+ does not hold"):
        AppendLog(path)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "log"
    log = filled(path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        log.append({"i": 99})
    with pytest.raises(RunError, match="No space left on device"):
        write_whole(tmp_path / "log", b"new")
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log"]
    log.append({"i": 3})
    assert [v["i"] for v in AppendLog(path).values()] == [0, 1, 2, 3]


def test_records_are_canonical_and_counted(tmp_path):
    filled(tmp_path / "log")
    records, whole = read_records(tmp_path / "log")
    assert records == [encode({"i": i}) for i in range(3)]
    assert whole == (tmp_path / "log").stat().st_size
