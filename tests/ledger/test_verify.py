"""The standalone verifier on a real run's folder: it holds as the audit says, and no change of it does."""

import ast
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior import canonical, entry
from commonprior.appendlog import AppendLog
from commonprior.identity import Identity
from commonprior.ledger import verify
from commonprior.ledger.audit import audit
from commonprior.prior import load_prior, save_prior
from ledger._consortium import identity, word

SOURCE = Path(verify.__file__)
OTHER = identity("other")


def test_it_needs_nothing_but_the_standard_library():
    tree = ast.parse(SOURCE.read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names)


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run of three rounds."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def rewrite(path, change):
    """Write a file of records anew, each (number, record) passed through `change`; None leaves it out."""
    records = [canonical.decode(record) for record in AppendLog(path)]
    path.unlink()
    log = AppendLog(path)
    for number, record in enumerate(records):
        changed = change(number, record)
        if changed is not None:
            log.append(changed)


def refused(folder, words, **known):
    with pytest.raises(verify.Refused, match=words):
        verify.verify(folder, **known)


def test_a_real_run_holds_as_the_audit_says(run):
    report, verdict = verify.verify(run), audit(run)
    assert (
        (report.rounds, report.head, report.prior) == (verdict.rounds, verdict.head, verdict.prior) == (3, *report[1:3])
    )
    roster = entry.read_entry(entry.read_record(next(iter(AppendLog(run / "journal.cbor"))))[0]).roster
    verify.verify(run, trust=[roster[0].key, roster[3].key], head=report.head)
    refused(run, "trusted key .* is not in the roster", trust=[OTHER.key])
    refused(run, "expected head", head=bytes(32))


def test_it_runs_by_itself_without_any_package(run, tmp_path):
    alone = tmp_path / "alone" / "verify.py"
    alone.parent.mkdir()
    shutil.copy(SOURCE, alone)

    def call(*more):
        command = [sys.executable, "-I", "-S", str(alone), str(run), *more]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={})

    good = call("--head", verify.verify(run).head.hex())
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("holds: 3 rounds, head ")
    assert "NOT checked:\n  that each new prior is what the recipe's learner makes" in good.stdout
    assert "the EVM was not run" in good.stdout
    bad = call("--trust", "00" * 32)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.count("\n") == 1
    (run / "journal.cbor").unlink()
    assert (call().returncode, call().stdout) == (2, "")


@settings(max_examples=25, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_in_the_journal_is_found(place, bit, finished_run, tmp_path_factory):
    flip(finished_run, tmp_path_factory, "journal.cbor", place, bit)


@settings(max_examples=25, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_chain_is_found(place, bit, finished_run, tmp_path_factory):
    """But in a block's time and hash, which follow from the contracts' logs: there nothing else is changed."""
    flip(finished_run, tmp_path_factory, "chain.cbor", place, bit)


def flip(finished_run, tmp_path_factory, name, place, bit):
    folder = tmp_path_factory.mktemp("flip") / "run"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("sites", "sums"))
    file = folder / name
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    file.write_bytes(data)
    try:
        verify.verify(folder)
    except verify.Refused:
        return
    before, after = ([canonical.decode(r) for r in AppendLog(f / name)] for f in (finished_run, folder))
    assert name == "chain.cbor"
    assert [b["transaction"] for b in before] == [b["transaction"] for b in after]


def test_records_that_are_dropped_swapped_or_signed_by_others_are_found(run, finished_run):
    journal, chain = run / "journal.cbor", run / "chain.cbor"

    def fresh():
        for file in (journal, chain):
            shutil.copy(finished_run / file.name, file)

    def journal_becomes(change, words):
        fresh()
        rewrite(journal, change)
        refused(run, words)

    def chain_becomes(change, words):
        fresh()
        rewrite(chain, change)
        refused(run, words)

    def resigned(record, key):
        statement = entry.statement_of(record["entry"])
        return {**record, "signatures": [[s, key.sign(statement)] for s, _ in record["signatures"]]}

    journal_becomes(lambda n, r: None if n == 2 else r, "entry 2 does not hold: round 3, attempt 0 follows round 1")
    journal_becomes(lambda n, r: None if n == 3 else r, "prior.safetensors: is not the prior that entry 2 names")
    journal_becomes(lambda n, r: None if n == 0 else r, "entry 0 does not hold")
    journal_becomes(lambda n, r: resigned(r, OTHER) if n == 1 else r, "entry 1 .*signature of carbon-lab does not hold")
    journal_becomes(lambda n, r: {**r, "signatures": r["signatures"][:3]}, "entry 0 .*signed by 3 sites, expected 4")
    for part in ("signatures", "ballots"):

        def swapped(n, record, part=part):
            (a, one), (b, two), *rest = record[part]
            return {**record, part: [[a, two], [b, one], *rest]} if n == 2 else record

        journal_becomes(swapped, "entry 2 does not hold: the (signature|ballot)")
    journal_becomes(lambda n, r: {**r, "ballots": r["ballots"][:2]} if n == 3 else r, "entry 3 .*2 of 4 members")
    journal_becomes(lambda n, r: {**r, "ballots": r["ballots"][:3]} if n == 3 else r, "not hold what entry 3 of the")
    chain_becomes(lambda n, r: None if n == 9 else r, "entry 3 of the journal is not on the chain")
    chain_becomes(lambda n, r: None if n == 8 else r, "block 9 does not hold: nonce")
    chain_becomes(lambda n, r: {**r, "time": 1} if n == 5 else r, "block 6 .* not later")
    chain_becomes(lambda n, r: {**r, "hash": bytes(32)} if n == 6 else r, "the block that entry 1 names")
    (run / "prior.safetensors").unlink()
    chain_becomes(lambda n, r: None if n == 8 else r, "block 9 does not hold")
    journal_becomes(lambda n, r: None if n == 3 else r, "has 3 rounds of this run, its journal 2: it was cut short")
    fresh()
    rewrite(chain, lambda n, r: None if n == 9 else r)
    assert any("does not have the last entry yet" in line for line in verify.verify(run).unchecked)
    chain.unlink()
    refused(run, "chain.cbor: is missing")


def test_files_that_were_exchanged_are_found(run):
    total = run / "sums" / "000002.bin"
    original = total.read_bytes()
    total.write_bytes(bytes(len(original)))
    refused(run, "entry 2 does not hold: sums/000002.bin is not the sum")
    total.write_bytes(original)
    for file, words in (
        ("checkpoints/000000", "entry 0 .*000000.safetensors is not"),
        ("prior", "is not the prior that"),
    ):
        path = run / f"{file}.safetensors"
        prior, original = load_prior(path), path.read_bytes()
        save_prior(prior._replace(params={k: v + np.float32(1) for k, v in prior.params.items()}), path)
        refused(run, words)
        path.write_bytes(b"\xff" * 40)
        refused(run, "is not a prior's safetensors file")
        path.write_bytes(original)
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("rounds = 3", "rounds = 4"))
    refused(run, "recipe.toml is not the recipe")


def test_a_prior_has_the_hash_that_the_package_gives_it(run):
    path = run / "prior.safetensors"
    assert verify.prior_hash(path) == load_prior(path).hash()
    prior = load_prior(path).with_state({"a/b": np.zeros((0, 3), np.float32), "": np.ones((), np.float32)})
    save_prior(prior._replace(state={k: v for k, v in prior.state.items() if k}), path)
    assert verify.prior_hash(path) == load_prior(path).hash()


def test_two_ballots_of_one_account_are_reported(run):
    """The sites sign another third round than the one that is on the chain: both look whole by themselves."""
    sites = [Identity.load(next((run / "sites" / name).rglob("identity.json"))) for name in audit(run).sites]
    place = entry.read_entry(canonical.decode(next(iter(AppendLog(run / "journal.cbor"))))["entry"])
    ledger = verify.domain_of(place.ledger["chain"], place.ledger["addresses"][3])

    def other(number, record):
        if number < 3:
            return record
        changed = dataclasses.replace(entry.read_entry(record["entry"]), epsilon=0.5, prior=word("another"))
        data = changed.encode()
        run_, hashed = canonical.digest(place.encode()), canonical.digest(data)
        vote = verify.ballot(ledger, run_, 3, changed.attempt, changed.base, changed.prior, hashed)
        return {"entry": data, "signatures": [[i, s.sign(entry.statement_of(data))] for i, s in enumerate(sites)],
                "ballots": [[i, s.sign_digest(vote)] for i, s in enumerate(sites)]}  # fmt: skip

    rewrite(run / "journal.cbor", other)
    (run / "prior.safetensors").unlink()
    (run / "checkpoints" / "000003.safetensors").unlink()
    refused(run, "chain.cbor: block 10 does not hold: 0x[0-9a-f]{40} cast two different ballots in round 3, attempt 0")
