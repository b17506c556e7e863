"""A run and its ledger keep step: what the sites signed is entered, each record once, whatever is interrupted when."""

import time

import numpy as np
import pytest

from commonprior.appendlog import AppendLog
from commonprior.ballot import Ballot, Place
from commonprior.canonical import decode, digest, encode
from commonprior.entry import read_ballots, read_record
from commonprior.errors import JournalError, LedgerError, RecipeError, RunError
from commonprior.identity import signer_of
from commonprior.ledger.audit import audit
from commonprior.ledger.book import Book
from commonprior.ledger.client import Contracts
from commonprior.ledger.contract import CONTRACTS
from commonprior.ledger.embedded import CHAIN, Embedded
from commonprior.ledger.journal import Journal
from commonprior.recipe import Ledger
from commonprior.sums._unmask import Secrets
from commonprior.sums.masked import Masked
from commonprior.training import start

from .test_audit import shorten

NOBODY = bytes(20)


class Killed(BaseException):
    """The process ends here: nothing in the product catches it."""


def place_of(training):
    opening = Journal(training.run.journal).opening
    return Place.read(opening.ledger, len(opening.roster))


def registry_of(training):
    """The run's standing by its file alone, replayed by nobody but this test."""
    contracts = Contracts(Embedded(training.run.chain), place_of(training).addresses)
    return contracts.standing(digest(Journal(training.run.journal).opening.encode()))


def again(training):
    """The same command once more."""
    return start(training.recipe, training.run.path)


# Round by round.


def test_each_round_is_in_the_registry_before_the_next_one_begins(make_recipe, run_of):
    training = run_of(make_recipe(rounds=3))
    for number in range(4):
        if number:
            training.coordinator.step(training.engine)
        entry = Journal(training.run.journal).entries[-1]
        assert registry_of(training) == (number, entry.prior, NOBODY)
        assert entry.prior == training.coordinator.prior.hash()


def test_the_journal_has_a_ballot_of_every_account_on_just_what_it_says(make_recipe, run_of):
    """Each ballot is put together here from the entry's own fields, and its signer is the account in that seat."""
    training = run_of(make_recipe())
    training.coordinator.step(training.engine)
    journal, place = Journal(training.run.journal), place_of(training)
    opening, entry = journal.entries
    data = read_record(journal.last_record)[0]
    asked = Ballot(digest(opening.encode()), 1, 0, opening.prior, entry.prior, digest(data)).digest(place.counter)
    assert [(seat, signer_of(asked, s)) for seat, s in read_ballots(journal.last_record)] == [
        (seat, agent.identity.address) for seat, agent in enumerate(training.agents)
    ]
    assert entry.block == Embedded(training.run.chain).hashes[-2], "the block before the one that it was entered in"


def test_the_registry_alone_leads_from_a_family_to_its_priors(make_recipe, run_of):
    training = run_of(make_recipe())
    for _ in range(2):
        training.coordinator.step(training.engine)
    contracts = Contracts(Embedded(training.run.chain), place_of(training).addresses)
    entries = Journal(training.run.journal).entries
    run = digest(entries[0].encode())
    family, recipe, *_ = contracts.read("Registry", "runs", run)
    assert recipe == training.recipe.hash()
    assert contracts.read("Registry", "runs_of", family, 0) == run
    assert [contracts.read("Registry", "prior_of", run, n) for n in range(3)] == [e.prior for e in entries]


# Interrupted.


def test_a_run_killed_before_its_round_is_entered_catches_up(make_recipe, run_of, monkeypatch):
    training = run_of(make_recipe())
    training.coordinator.step(training.engine)

    def killed(*values):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Contracts, "record", killed)
        with pytest.raises(Killed):
            training.coordinator.step(training.engine)
    assert registry_of(training).rounds == 1
    assert audit(training.run.path).entered == 1, "the record holds, and says how much of it is in the ledger"
    assert again(training).coordinator.rounds_done == 2
    assert registry_of(training).rounds == 2
    assert audit(training.run.path).entered == 2
    assert len(list(AppendLog(training.run.chain))) == len(CONTRACTS) + 3, "each record once"


@pytest.mark.parametrize("what", ["begin", "deploy"])
def test_a_run_killed_before_it_is_begun_begins(what, make_recipe, run_of, tmp_path, monkeypatch):
    """After its opening was signed, the same one is entered; in the middle of the deployment, all is made anew."""
    original = Contracts.write if what == "begin" else Embedded.send

    def killed(self, *values):
        if what == "begin" or self.head().number == 3:
            raise Killed
        return original(self, *values)

    recipe = make_recipe()
    with monkeypatch.context() as patch:
        patch.setattr(Contracts if what == "begin" else Embedded, "write" if what == "begin" else "send", killed)
        with pytest.raises(Killed):
            run_of(recipe)
    before = Journal(tmp_path / "run" / "journal.cbor").opening
    assert (before is None) == (what == "deploy")
    training = run_of(recipe)
    assert before in (None, Journal(training.run.journal).opening)
    assert len(list(AppendLog(training.run.chain))) == len(CONTRACTS) + 1, "nothing is there twice"
    assert registry_of(training).rounds == 0
    training.coordinator.step(training.engine)
    assert audit(training.run.path).entered == 1


def test_a_chain_that_lost_its_last_block_gets_it_back_and_one_that_lost_two_is_found(make_recipe, run_of, monkeypatch):
    """The sites signed the block before each round: another one in its place, a day later, shows."""
    training = run_of(make_recipe())
    for _ in range(2):
        training.coordinator.step(training.engine)
    monkeypatch.setattr(Embedded.__init__, "__defaults__", (lambda: time.time() + 86_400,))
    shorten(training.run.chain, 1)
    again(training)
    assert audit(training.run.path).entered == 2
    shorten(training.run.chain, 2)
    again(training)
    assert registry_of(training).rounds == 2
    with pytest.raises(JournalError, match="entry 2 names another newest block than the chain had"):
        audit(training.run.path)


def test_an_old_copy_of_the_journal_is_refused(make_recipe, run_of):
    training = run_of(make_recipe())
    for _ in range(2):
        training.coordinator.step(training.engine)
    shorten(training.run.journal, 1)
    with pytest.raises(LedgerError, match="^the ledger has 2 rounds of this run, its journal 1: the journal was cut "
                       "short or is an old copy; restore it, for a round that was counted cannot be "):  # fmt: skip
        again(training)
    assert registry_of(training).rounds == 2, "and nothing was changed"


# Which ledger.


def test_too_many_dropouts_for_two_thirds_are_refused_at_the_start(make_recipe, run_of, tmp_path):
    with pytest.raises(RecipeError, match="schedule.dropouts = 2: with 5 members 3 ballots are left, and a round needs "
                       '4; allow fewer dropouts, or say kind = "none" under'):  # fmt: skip
        run_of(make_recipe(sites=5, dropouts=2))
    assert not (tmp_path / "run" / "journal.cbor").exists()
    assert len(run_of(make_recipe(sites=5, dropouts=2, ledger=Ledger(kind="none")), "without").agents) == 5


def test_a_round_goes_into_the_ledger_without_the_ballots_of_those_who_may_drop_out(make_recipe, run_of):
    training = run_of(make_recipe(dropouts=1), lost=lambda seat, phase, count: seat == 2 and phase != "enrol")
    training.coordinator.step(training.engine)
    assert [seat for seat, _ in read_ballots(Journal(training.run.journal).last_record)] == [0, 1, 3]
    assert registry_of(training).rounds == 1
    assert audit(training.run.path).entered == 1


def test_without_a_ledger_a_run_leaves_its_signed_record_alone(make_recipe, run_of):
    training = run_of(make_recipe(ledger=Ledger(kind="none")))
    training.coordinator.step(training.engine)
    journal, verdict = Journal(training.run.journal), audit(training.run.path)
    assert not training.run.chain.exists()
    assert (verdict.rounds, verdict.entered, verdict.ledger) == (1, 0, "")
    assert not any(read_ballots(record) for record in journal.records)
    assert "ledger" not in decode(read_record(journal.records[0])[0]), "the bytes that it always was"
    assert again(training).coordinator.rounds_done == 1


def test_a_site_that_agreed_to_a_ledger_refuses_a_run_without_one(make_recipe, run_of, monkeypatch):
    monkeypatch.setattr("commonprior.training.Book", lambda *parts: None)
    with pytest.raises(RunError, match="0 of 4 sites joined.*lab-0 agreed to a ledger of kind embedded, not none"):
        run_of(make_recipe())


def test_a_site_that_agreed_to_none_refuses_a_run_with_a_ledger(make_recipe, run_of, monkeypatch):
    monkeypatch.setattr("commonprior.training.open_chain", lambda ledger, run: Embedded(None))
    monkeypatch.setattr(Book, "found", lambda self, *asked: Place("embedded", "hidden", CHAIN, (NOBODY,) * 6, tuple(
        bytes([seat]) * 20 for seat in range(4))))  # fmt: skip
    with pytest.raises(RunError, match="0 of 4 sites joined.*lab-0 agreed to a ledger of kind none, not embedded"):
        run_of(make_recipe(ledger=Ledger(kind="none")))


def test_a_sum_is_audited_from_the_sealed_bytes_and_opened_seeds_that_the_run_kept(make_recipe, run_of, monkeypatch):
    training = run_of(make_recipe())
    training.coordinator.step(training.engine)
    file = training.run.sealed_of(1)
    verdict = audit(training.run.path)
    assert (verdict.rounds, verdict.resummed) == (1, 1)
    parts = decode(file.read_bytes())
    assert [digest(part) for part in parts[:4]] == list(training.coordinator._journal.last_round.commitments)
    file.write_bytes(encode([parts[1], parts[0], *parts[2:]]))
    with pytest.raises(JournalError, match="of seat 0 are not those that it committed to"):
        audit(training.run.path)
    seeds = Secrets.decode(parts[-1])
    other = seeds._replace(seeds={**seeds.seeds, 0: bytes(32)}).encode()
    file.write_bytes(encode([*parts[:-1], other]))
    with pytest.raises(JournalError, match="what is opened of seat 0 is not what it announced"):
        audit(training.run.path)
    with monkeypatch.context() as patched:
        patched.setattr(Masked, "recompute", lambda *told: np.zeros(26, np.int64))
        with pytest.raises(JournalError, match="adds up to another sum than the one that the entry names"):
            audit(training.run.path)
    file.write_bytes(b"\xff")
    with pytest.raises(JournalError, match="is not what the round's sum was made from: the CBOR item at byte 0"):
        audit(training.run.path)
    file.write_bytes(encode([1]))
    with pytest.raises(JournalError, match="is not what the round's sum was made from: expected the parts"):
        audit(training.run.path)
    file.unlink()
    assert audit(training.run.path).resummed == 0


def test_sealed_bytes_are_left_out_where_the_recipe_says_so(make_recipe, run_of):
    training = run_of(make_recipe(ledger=Ledger(archive=False)))
    training.coordinator.step(training.engine)
    assert not training.run.sealed_of(1).exists()
    assert audit(training.run.path).resummed == 0
