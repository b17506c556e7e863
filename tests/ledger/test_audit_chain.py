"""What an audit finds in a chain: beside a journal, and alone with no file at all."""

import dataclasses
import shutil

import pytest

from commonprior.appendlog import AppendLog
from commonprior.ballot import Place
from commonprior.canonical import decode, digest
from commonprior.entry import family_of, opening_ballot, round_ballot
from commonprior.errors import InputError, JournalError, LedgerError
from commonprior.identity import Identity
from commonprior.ledger.audit import audit, audit_chain
from commonprior.ledger.client import Contracts, Terms
from commonprior.ledger.contract import artefact
from commonprior.ledger.embedded import CHAIN, GAS, Embedded
from commonprior.ledger.journal import Journal
from commonprior.ledger.transaction import Transaction

from .test_audit import shorten
from .test_book import NOBODY

ROUNDS = 3


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run of three rounds."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def opening_of(run):
    """The run's opening and its place."""
    opening = Journal(run / "journal.cbor").opening
    return opening, Place.read(opening.ledger, len(opening.roster))


def accounts_of(run):
    """Every site's own keys, as a simulation keeps them, seat by seat."""
    return [Identity.load(folder / "identity.json") for folder in sorted((run / "sites").iterdir())]


def changed_block(run, number, change):
    """Write the chain's file anew with one block changed."""
    blocks = [dict(decode(record)) for record in AppendLog(run / "chain.cbor")]
    change(blocks[number])
    (run / "chain.cbor").unlink()
    log = AppendLog(run / "chain.cbor")
    for block in blocks:
        log.append(block)


# The chain beside the journal.


def test_a_chain_that_is_missing_short_or_torn_is_found(run):
    blocks = run / "chain.cbor"
    whole = blocks.read_bytes()
    shorten(blocks, 1)
    assert audit(run).entered == ROUNDS - 1, "as where a coordinator was stopped in between"
    shorten(blocks, 1)
    with pytest.raises(JournalError, match="the ledger holds 2 records of this run, its journal 4"):
        audit(run)
    blocks.write_bytes(whole[:-5])
    with pytest.raises(JournalError, match=r"chain.cbor: block 10 is torn after byte \d+"):
        audit(run)
    blocks.unlink()
    with pytest.raises(JournalError, match="chain.cbor: is missing, though the record names an embedded ledger"):
        audit(run)


def test_the_chain_of_another_run_is_found(run, make_recipe, run_of):
    other = run_of(make_recipe(), "other")
    shutil.copy(other.run.chain, run / "chain.cbor")
    with pytest.raises(LedgerError, match=r"no contract at 0x[0-9a-f]{40} on chain \d+: expected Token"):
        audit(run)


@pytest.mark.parametrize(("change", "words"), [
    (lambda b: b.update(time=b["time"] + 1), "block 9 does not have the hash that the file names"),
    (lambda b: b.update(time=1), "block 9 is not later than the one before it"),
    (lambda b: b.update(hash=bytes(32)), "block 9 does not have the hash that the file names"),
    (lambda b: b.update(transaction=b["transaction"][:-1] + bytes([b["transaction"][-1] ^ 1])), "block 9"),
], ids=["time", "first", "hash", "signature"])  # fmt: skip
def test_a_changed_block_is_found(change, words, run):
    changed_block(run, 8, change)
    with pytest.raises(JournalError, match=words):
        audit(run)


def forged(run, function, *values):
    """Append a block with the coordinator's transaction, whatever the contract makes of it; its hash is made up."""
    _, place = opening_of(run)
    coordinator, chain = Identity.load(run / "coordinator" / "identity.json"), Embedded(run / "chain.cbor")
    data = artefact("Rounds").functions[function].encode(values)
    raw = Transaction(CHAIN, chain.nonce(coordinator.address), 0, 0, GAS, place.addresses[3], data).sign(coordinator)
    AppendLog(run / "chain.cbor").append({"transaction": raw, "time": chain.head().time + 1, "hash": bytes(32)})


def last_call(run):
    """What the newest transaction of a run's chain calls."""
    return artefact("Rounds").call_of(Embedded(run / "chain.cbor").transactions[-1].data)


def test_attack_a_record_entered_twice(run):
    """The same block again has a nonce that is used; the same call in a new one, the contract refuses."""
    function, values = last_call(run)
    AppendLog(run / "chain.cbor").append(decode(list(AppendLog(run / "chain.cbor"))[-1]))
    with pytest.raises(JournalError, match="block 11 does not hold: nonce 9 of [0-9a-f]+, expected 10"):
        audit(run)
    shorten(run / "chain.cbor", 1)
    forged(run, function, *values)
    with pytest.raises(JournalError, match="block 11 does not hold: its contract refuses it: Q: "):
        audit(run)


# A chain alone.


def test_a_chain_alone_holds_what_the_folder_does(run, tmp_path):
    opening, place = opening_of(run)
    expected = audit(run)
    blocks = shutil.copy(run / "chain.cbor", tmp_path / "alone.cbor")
    shutil.rmtree(run)
    verdict = audit_chain(Embedded(blocks), place.addresses, digest(opening.encode()), [opening.roster[1].key])
    assert verdict == dataclasses.replace(expected, recomputed=0, resummed=0)
    with pytest.raises(JournalError, match="record 0 does not hold: the trusted key .* is not in the roster"):
        audit_chain(Embedded(blocks), place.addresses, digest(opening.encode()), [bytes(32)])
    with pytest.raises(InputError, match=f"chain {CHAIN} holds no run (00){{32}}: name the hash of a run's opening"):
        audit_chain(Embedded(blocks), place.addresses, bytes(32))


LIES = {
    "epsilon": ({"epsilon": 0.5}, "it says epsilon 0.5, but inf is spent"),
    "history": ({"previous": bytes(32)}, "it does not follow the entry before it"),
    "base": ({"base": bytes(32)}, "a ballot of no account of the run"),
    "round": ({"round": 5}, "a ballot of no account of the run"),
    "survivors": ({"survivors": (0, 1)}, "2 contributors, expected at least 4"),
    "commitments": ({"commitments": (bytes(32),) * 4}, "whose updates are summed: signed by 0 sites"),
}


@pytest.mark.parametrize("what", LIES)
def test_attack_a_record_that_every_account_agreed_to_and_no_audit_does(what, run):
    """All members collude: the contract counts their ballots, and whoever reads the chain sees what they agreed to."""
    change, words = LIES[what]
    opening, place = opening_of(run)
    name, entry = digest(opening.encode()), Journal(run / "journal.cbor").last_round
    shorten(run / "chain.cbor", 1)
    chain = Embedded(run / "chain.cbor")
    lie = dataclasses.replace(entry, **change)
    asked = dataclasses.replace(round_ballot(name, lie), round=entry.round, base=entry.base).digest(place.counter)
    votes = [(who.address, who.sign_digest(asked)) for who in accounts_of(run)]
    contracts = Contracts(chain, place.addresses)
    contracts.record(accounts_of(run)[0], name, entry.attempt, lie.prior, lie.encode(), votes)
    assert contracts.standing(name).rounds == ROUNDS
    with pytest.raises(JournalError, match=f"record 3 does not hold: .*{words}"):
        audit_chain(chain, place.addresses, name)
    with pytest.raises(JournalError, match="record 3 of the ledger is not entry 3 of the journal"):
        audit(run)


def test_a_consortium_has_many_runs_and_each_is_audited_by_itself(run):
    """A second run in the same contracts, by the same members: what is found of one is not the other's."""
    opening, place = opening_of(run)
    chain = Embedded(run / "chain.cbor")
    second = dataclasses.replace(opening, run=bytes(16))
    name, contracts, who = digest(second.encode()), Contracts(chain, place.addresses), accounts_of(run)
    asked = opening_ballot(second).digest(place.counter)
    contracts.begin(who[0], family_of(second), second.recipe_hash, second.prior, second.encode(), Terms(), NOBODY,
                    [(w.address, w.sign_digest(asked)) for w in who])  # fmt: skip
    assert audit_chain(chain, place.addresses, name).rounds == 0
    assert audit_chain(chain, place.addresses, digest(opening.encode())).rounds == ROUNDS
    assert audit(run).entered == ROUNDS
