"""The record holds or the first entry that does not is named."""

import dataclasses
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commonprior.appendlog import AppendLog
from commonprior.canonical import decode
from commonprior.entry import make_record, read_ballots, read_entry, read_record, statement_of
from commonprior.errors import CommonPriorError, JournalError
from commonprior.identity import Identity
from commonprior.ledger.audit import audit
from commonprior.ledger.journal import Journal
from commonprior.prior import load_prior, save_prior
from commonprior.session import Member


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run of three rounds."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def rewrite(run, change):
    """Write the journal anew, each (number, entry, signatures) passed through `change`; the ballots stay."""
    path = run / "journal.cbor"
    records = list(AppendLog(path))
    path.unlink()
    log = AppendLog(path)
    for number, record in enumerate(records):
        data, signatures = read_record(record)
        changed = change(number, read_entry(data), signatures)
        if changed is not None:
            ballots = () if changed[0].encode() != data and number == 0 else read_ballots(record)
            log.append(make_record(changed[0].encode(), changed[1], ballots))


def shorten(path, count):
    """Leave out the last records of an append-only file."""
    records = [decode(record) for record in AppendLog(path)]
    path.unlink()
    log = AppendLog(path)
    for record in records[:-count]:
        log.append(record)


def test_a_whole_run_holds_and_every_prior_is_recomputed(run):
    verdict = audit(run)
    assert (verdict.rounds, verdict.recomputed, verdict.entered) == (3, 3, 3)
    assert verdict.sites == ("carbon-lab", "compound-lab", "layered-lab", "silicon-lab")
    assert verdict.epsilon == -1


def test_what_an_outsider_knows_catches_a_short_or_a_new_record(run):
    head = audit(run).head
    audit(run, expect_head=head)
    rewrite(run, lambda n, e, s: (e, s) if n < 3 else None)
    (run / "prior.safetensors").unlink()
    with pytest.raises(JournalError, match="the ledger holds 4 records of this run, its journal 3"):
        audit(run)
    shorten(run / "chain.cbor", 1)
    assert audit(run).rounds == 2
    with pytest.raises(JournalError, match="ends at .* after round 2, expected head .*: it was cut short"):
        audit(run, expect_head=head)
    with pytest.raises(JournalError, match="entry 0 does not hold: the trusted key .* is not in the roster"):
        audit(run, trust=[Identity.generate().key])


@pytest.mark.parametrize(("number", "change", "words"), [
    (1, lambda e: dataclasses.replace(e, prior=bytes(32)), "signed by 0 sites, expected 4"),
    (2, lambda e: dataclasses.replace(e, round=5), "round 5 follows round 1"),
    (2, lambda e: dataclasses.replace(e, previous=bytes(32)), "does not follow the entry before"),
    (2, lambda e: dataclasses.replace(e, base=bytes(32)), "does not start from the prior before"),
    (3, lambda e: dataclasses.replace(e, survivors=(0, 1)), "2 contributors, expected at least 4"),
    (3, lambda e: dataclasses.replace(e, epsilon=0.5), "signed by 0 sites"),
    (3, lambda e: dataclasses.replace(e, commitments=(bytes(32),) * 4), "whose updates are summed: signed by 0 sites"),
    (3, lambda e: dataclasses.replace(e, consistency=()), "whose updates are summed: signed by 0 sites"),
    (0, lambda e: dataclasses.replace(e, recipe={**e.recipe, "x": 1}), "not signed by carbon-lab"),
    (0, lambda e: dataclasses.replace(e, coordinator=bytes(32)), "not signed by carbon-lab"),
], ids=range(10))  # fmt: skip
def test_an_edited_entry_is_named(number, change, words, run):
    rewrite(run, lambda n, e, s: (change(e) if n == number else e, s))
    with pytest.raises(JournalError, match=rf"journal.cbor: entry {number} does not hold: .*{words}"):
        audit(run)


def test_swapped_dropped_and_repeated_entries_are_found(run):
    records = list(AppendLog(run / "journal.cbor"))
    for order, bad in (([0, 2, 1, 3], 1), ([0, 1, 3], 2), ([0, 1, 1, 2, 3], 2), ([1, 2, 3], 0), ([0, 0, 1], 1)):
        (run / "journal.cbor").unlink()
        log = AppendLog(run / "journal.cbor")
        for i in order:
            log.append(make_record(*read_record(records[i]), read_ballots(records[i])))
        with pytest.raises(JournalError, match=f"entry {bad} does not hold"):
            audit(run)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(place, bit, run, finished_run):
    data = bytearray((finished_run / "journal.cbor").read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    (run / "journal.cbor").write_bytes(data)
    with pytest.raises(CommonPriorError):
        audit(run)


def test_a_sum_or_a_prior_that_was_exchanged_is_found(run):
    total = run / "sums" / "000002.bin"
    original = total.read_bytes()
    total.write_bytes(bytes(len(original)))
    with pytest.raises(JournalError, match="entry 2 does not hold: .*000002.bin is not the sum"):
        audit(run)
    total.unlink()
    assert audit(run).recomputed == 1, "without a sum the chain still holds, but nothing after it is recomputed"
    total.write_bytes(original)
    first = run / "checkpoints" / "000000.safetensors"
    changed = load_prior(first)
    save_prior(changed._replace(params={k: v + np.float32(1) for k, v in changed.params.items()}), first)
    with pytest.raises(JournalError, match="is not the prior that the sites started from"):
        audit(run)


def test_the_final_prior_is_checked(run):
    prior = load_prior(run / "prior.safetensors")
    save_prior(
        prior._replace(params={k: v * np.float32(2) for k, v in prior.params.items()}), run / "prior.safetensors"
    )
    with pytest.raises(JournalError, match="is not the prior that entry 3 names"):
        audit(run)


def test_a_torn_record_is_named(run):
    path = run / "journal.cbor"
    os.truncate(path, path.stat().st_size - 5)
    with pytest.raises(JournalError, match="entry 3 is torn"):
        audit(run)


def test_a_record_signed_anew_by_others_needs_an_outsider(run, finished_run):
    """All keys replaced and everything signed again: whole by itself, and caught by one trusted key."""
    mine = [Identity.generate() for _ in range(4)]
    members = tuple(Member(f"lab-{i}", k.key) for i, k in enumerate(mine))
    trusted = Journal(finished_run / "journal.cbor").opening.roster[0].key

    def resign(number, entry, signatures):
        if number > 0:
            return None
        entry = dataclasses.replace(entry, roster=members, ledger={})
        statement = statement_of(entry.encode())
        return entry, tuple((i, k.sign(statement)) for i, k in enumerate(mine))

    rewrite(run, resign)
    (run / "prior.safetensors").unlink()
    assert audit(run).rounds == 0
    with pytest.raises(JournalError, match="signed anew by others"):
        audit(run, trust=[trusted])


def test_another_process_gets_the_same_prior_from_the_same_sums(run, tmp_path):
    """`apply` is canonical: no state of this process, no compiled program, no thread count enters the hash."""
    code = "import sys;from commonprior.ledger.audit import audit;from pathlib import Path;" \
           "v=audit(Path(sys.argv[1]));print(v.prior.hex(), v.recomputed)"  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7", "NPY_DISABLE_CPU_FEATURES": "AVX2"}
    out = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True,
                         env=environment)  # fmt: skip
    assert out.stdout.split() == [audit(run).prior.hex(), "3"]
