"""What a coordinator that lies about the ledger, or keeps two of them, can do to the sites of a run: each carried out.

Each attack fails against our agent, and succeeds against a weaker one where a check of ours is what stops it.
"""

import dataclasses
import os
import shutil

import pytest
from eth_hash.auto import keccak

from commonprior.appendlog import AppendLog
from commonprior.ballot import Ballot
from commonprior.canonical import digest
from commonprior.entry import make_record, read_ballots, read_record, round_ballot
from commonprior.errors import JournalError, LedgerError, RunError
from commonprior.identity import Identity
from commonprior.ledger.audit import audit
from commonprior.ledger.book import Book, ChainRegistry, votes_of
from commonprior.ledger.client import Contracts, Terms, opening_ballot
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.journal import Journal
from commonprior.round import Conversation
from commonprior.site.agent import Agent
from commonprior.training import start

from .test_audit import rewrite
from .test_book import place_of, registry_of

# Another prior than the registry's.


@dataclasses.dataclass
class Says:
    """A registry that gives an answer of its own."""

    real: ChainRegistry
    answer: object

    def check(self, place):
        self.real.check(place)

    def newest(self):
        return self.real.newest()

    def head(self, place, run):
        return self.answer


@pytest.mark.parametrize(("answer", "words"), [
    (None, "but the registry's newest is nothing"),
    ((1, bytes(32)), "but the registry's newest is 0{16}… of round 1"),
    ((2, bytes(32)), "but the registry's newest is 0{16}… of round 2"),
])  # fmt: skip
def test_attack_a_prior_that_is_not_the_registry_s(answer, words, make_recipe, run_of):
    training = run_of(make_recipe())
    training.coordinator.step(training.engine)
    for agent in training.agents:
        agent.registry = Says(agent.registry, answer)
    with pytest.raises(RunError, match=f"round 2 failed 3 times.*lab-0 is to start round 2 from prior.*{words}"):
        training.coordinator.step(training.engine)


def test_a_site_whose_own_node_lies_is_left_out_and_the_others_go_on(make_recipe, run_of):
    training = run_of(make_recipe(dropouts=1))
    training.agents[1].registry = Says(training.agents[1].registry, None)
    training.coordinator.step(training.engine)
    assert Journal(training.run.journal).last_round.survivors == (0, 2, 3)
    assert registry_of(training).rounds == 1


def all_put_back(make_recipe, run_of, folder):
    """Two rounds, and everything, the sites' logs too, as it was after the first one."""
    training = run_of(make_recipe(noise=1.0))
    training.coordinator.step(training.engine)
    shutil.copytree(training.run.path, folder)
    training.coordinator.step(training.engine)
    return training, start(training.recipe, folder)


def test_attack_everyone_restored_from_an_old_backup(make_recipe, run_of, tmp_path):
    """Nobody remembers round 2 but the registry, where it lies elsewhere."""
    training, old = all_put_back(make_recipe, run_of, tmp_path / "old")
    for agent in old.agents:
        agent.registry = ChainRegistry(Embedded(training.run.chain))
    with pytest.raises(RunError, match="lab-0 is to start round 2 .* but the registry's newest is .* of round 2"):
        old.coordinator.step(old.engine)


def test_attack_everyone_restored_from_an_old_backup_succeeds_where_the_ledger_is_in_it_too(
    make_recipe, run_of, tmp_path
):
    """An embedded chain in the run's folder is as old as the folder: two histories, each whole by itself."""
    training, old = all_put_back(make_recipe, run_of, tmp_path / "old")
    old.coordinator.step(old.engine)
    first, second = audit(training.run.path), audit(old.run.path)
    assert first.rounds == second.rounds == 2
    assert first.prior != second.prior
    with pytest.raises(JournalError, match="expected head .*: it was cut short, or it is another history"):
        audit(old.run.path, expect_head=first.head)


# Two ballots in one attempt.


def asked_twice(training):
    """Have one attempt's sites sign two entries; return both with their ballots, and who refused the second."""
    coordinator, opening = training.coordinator, Journal(training.run.journal).opening
    poll = coordinator._book.poll(opening)
    outcome = coordinator._attempt(training.engine, 1)
    second = dataclasses.replace(outcome.entry, epsilon=0.25)
    talk = Conversation(training.engine, second.session(opening), coordinator._identity, 60.0, range(4))
    ballot = round_ballot(poll.run, second)
    ballots = talk.agree("acknowledge", {"total": outcome.total}, second, (ballot, poll.place)).ballots
    return (round_ballot(poll.run, outcome.entry), outcome.ballots), (ballot, ballots), talk.refusals


def test_attack_two_entries_in_one_attempt(make_recipe, run_of):
    (_, first), (_, second), refusals = asked_twice(run_of(make_recipe()))
    assert len(first) == 4
    assert second == ()
    assert set(refusals) == {0, 1, 2, 3}
    assert refusals[0] == ("lab-0 signed another outcome of round 1, attempt 0: two ballots in one attempt are a fault")


def test_attack_two_entries_in_one_attempt_succeeds_where_sites_forget_and_is_proved(make_recipe, run_of, monkeypatch):
    """Whoever has both ballots shows them to the contract. A run of hidden deltas has no bond to take: it is on the
    record, and costs nothing.
    """
    training = run_of(make_recipe())
    contracts = Contracts(training.coordinator._book._chain, place_of(training).addresses)
    monkeypatch.setattr(Agent, "_finish", lambda self, finished, protected: None)
    (one, first), (two, second), refusals = asked_twice(training)
    assert (len(second), refusals) == (4, {})
    for seat in range(4):
        guilty, finder = training.agents[seat].identity.address, training.agents[(seat + 1) % 4].identity
        show = (one.question, two.question, [first[seat][1], second[seat][1]], keccak(b""), keccak(b""))
        said = contracts.events(contracts.write(finder, "Disputes", "equivocation", *show))
        found = next(e for e in said if e.name == "Equivocated").values
        assert (found["who"], found["amount"]) == (f"0x{guilty.hex()}", 0)
        with pytest.raises(LedgerError, match="^D: twice$"):
            contracts.write(finder, "Disputes", "equivocation", *show)


def test_an_honest_second_attempt_is_no_second_ballot(make_recipe, run_of):
    training = run_of(make_recipe(noise=1.0))
    coordinator, run = training.coordinator, digest(Journal(training.run.journal).opening.encode())
    one, two = (coordinator._attempt(training.engine, 1) for _ in range(2))
    assert (one.entry.attempt, two.entry.attempt, len(two.ballots)) == (0, 1, 4)
    contracts = Contracts(coordinator._book._chain, place_of(training).addresses)
    show = [round_ballot(run, outcome.entry).question for outcome in (one, two)]
    with pytest.raises(LedgerError, match="^D: same$"):
        contracts.write(training.agents[0].identity, "Disputes", "equivocation", *show,
                        [one.ballots[1][1], two.ballots[1][1]], keccak(b""), keccak(b""))  # fmt: skip


# Ballots that are dropped or forged.


def spoilt(how, votes, ballot, place, stranger):
    """A round's votes as a coordinator may want them."""
    forged = stranger.sign_digest(ballot.digest(place.counter))
    return {
        "dropped": votes[:2], "twice": [*votes[:2], votes[0]],
        "forged": [*votes[:3], (votes[3][0], forged)], "of a stranger": [*votes, (stranger.address, forged)],
    }[how]  # fmt: skip


@pytest.mark.parametrize(("how", "contract", "record"), [
    ("dropped", "R: two thirds", "2 of 4 members cast their ballots, expected two thirds"),
    ("twice", "Q: order", "its ballots are not in the order of their seats, each once"),
    ("forged", "Q: order|Q: no vote", "the ballot of seat 3 is not its account's"),
    ("of a stranger", "Q: order|Q: no vote", "the ballot of seat 4 is not its account's"),
])  # fmt: skip
def test_attack_ballots_dropped_or_forged(how, contract, record, make_recipe, run_of, monkeypatch):
    """The contract does not take them, and an audit of the journal says whose they are not."""
    training, stranger = run_of(make_recipe()), Identity.generate()
    place = place_of(training)
    with monkeypatch.context() as patch:
        patch.setattr(Contracts, "record", lambda *values: None)
        training.coordinator.step(training.engine)
    journal = Journal(training.run.journal)
    entry, run = journal.last_round, digest(journal.opening.encode())
    votes = spoilt(how, votes_of(journal.last_record, place), round_ballot(run, entry), place, stranger)
    contracts = Contracts(training.coordinator._book._chain, place.addresses)
    with pytest.raises(LedgerError, match=f"^({contract})$"):
        contracts.record(training.coordinator._identity, run, 0, entry.prior, entry.encode(), votes)
    assert contracts.standing(run).rounds == 0

    seats = {account: seat for seat, account in enumerate((*place.accounts, stranger.address))}
    records = journal.records
    training.run.journal.unlink()
    log = AppendLog(training.run.journal)
    log.append(make_record(*read_record(records[0]), read_ballots(records[0])))
    log.append(make_record(*read_record(records[1]), tuple((seats[who], s) for who, s in votes)))
    with pytest.raises(JournalError, match=f"entry 1 does not hold: {record}"):
        audit(training.run.path)


def test_attack_ballots_for_one_entry_used_for_another(make_recipe, run_of, monkeypatch):
    training = run_of(make_recipe())
    with monkeypatch.context() as patch:
        patch.setattr(Contracts, "record", lambda *values: None)
        training.coordinator.step(training.engine)
    journal, place = Journal(training.run.journal), place_of(training)
    entry, run = dataclasses.replace(journal.last_round, epsilon=0.25), digest(journal.opening.encode())
    contracts = Contracts(training.coordinator._book._chain, place.addresses)
    for said in ((0, entry.prior, entry.encode()), (1, entry.prior, journal.last_round.encode()),
                 (0, bytes(32), journal.last_round.encode())):  # fmt: skip
        with pytest.raises(LedgerError, match=r"^(Q: no vote|Q: order)$"):
            contracts.record(training.coordinator._identity, run, *said, votes_of(journal.last_record, place))
    rewrite(training.run.path, lambda number, e, s: (entry if number else e, s))
    with pytest.raises(JournalError, match="entry 1 does not hold: the entry: signed by 0 sites"):
        audit(training.run.path)


# Another place than the consortium's.


def lie(monkeypatch, change):
    """Have the coordinator name another place in the opening than the one that it founded."""
    found = Book.found
    monkeypatch.setattr(Book, "found", lambda self, *asked: change(self, found(self, *asked)))


def deployed(book, members):
    """A consortium of the coordinator's choice on the run's chain."""
    return Contracts.deploy(book._chain, Identity.generate(), members)


def at(place, number, address):
    """A place with another contract in it."""
    addresses = list(place.addresses)
    addresses[number] = address
    return dataclasses.replace(place, addresses=tuple(addresses))


STRANGERS = tuple(os.urandom(20) for _ in range(8))
LIES = {
    "a stranger's account": (
        lambda book, p: dataclasses.replace(p, accounts=(*p.accounts[:2], STRANGERS[0], p.accounts[3])),
        r"lab-0: 0x[0-9a-f]{40} has no vote in the consortium.*lab-2: lab-2's account is 0x.*, the opening names 0x",
    ),
    "a member less and a stranger more": (
        lambda book, p: dataclasses.replace(
            p, addresses=deployed(book, [*p.accounts[:3], STRANGERS[0]]).addresses,
            accounts=(*p.accounts[:3], STRANGERS[0])),
        "lab-3: lab-3's account is 0x.*, the opening names 0x",
    ),
    "extra members": (
        lambda book, p: dataclasses.replace(p, addresses=deployed(book, [*p.accounts, *STRANGERS]).addresses),
        "lab-0: 12 members have a vote in the consortium, 4 of them are in this run",
    ),
    "no contract": (lambda book, p: at(p, 3, STRANGERS[0]), "lab-0: no contract at 0x.*: expected Rounds"),
    "another contract": (
        lambda book, p: at(p, 3, p.addresses[1]), "lab-0: the contract at 0x.* is not this version's Rounds"),
    "contracts of two consortia": (
        lambda book, p: at(p, 1, deployed(book, STRANGERS).addresses[1]), "lab-0: the .* belongs to another Quorum"),
    "another chain": (
        lambda book, p: dataclasses.replace(p, chain=1), "lab-0: the run is recorded on chain 1, this site asks chain"),
    "another kind": (
        lambda book, p: dataclasses.replace(p, kind="rpc"), "lab-0 agreed to a ledger of kind embedded, not rpc"),
}  # fmt: skip


@pytest.mark.parametrize("what", LIES)
def test_attack_another_place_than_the_consortium_s(what, make_recipe, run_of, monkeypatch):
    change, words = LIES[what]
    lie(monkeypatch, change)
    with pytest.raises(RunError, match=f"of 4 sites joined.*{words}"):
        run_of(make_recipe())


def test_attack_extra_members_succeeds_where_sites_do_not_count_them(make_recipe, run_of, monkeypatch):
    """Eight votes that are the coordinator's outweigh four sites: it enters what no site has signed."""
    sybils = [Identity.generate() for _ in range(8)]
    accounts = [s.address for s in sybils]
    lie(
        monkeypatch,
        lambda book, p: dataclasses.replace(p, addresses=deployed(book, [*p.accounts, *accounts]).addresses),
    )
    monkeypatch.setattr(ChainRegistry, "check", lambda self, place: None)
    monkeypatch.setattr(Book, "catch_up", lambda self, journal: True)
    training = run_of(make_recipe())
    opening, place = Journal(training.run.journal).opening, place_of(training)
    contracts, data = Contracts(training.coordinator._book._chain, place.addresses), opening.encode()

    def votes(ballot):
        return [(s.address, s.sign_digest(ballot.digest(place.counter))) for s in sybils]

    family, recipe = bytes(32), opening.recipe_hash
    begun = opening_ballot(family, recipe, opening.prior, data, Terms(), bytes(20))
    contracts.begin(sybils[0], family, recipe, opening.prior, data, Terms(), bytes(20), votes(begun))
    made = Ballot(digest(data), 1, 0, opening.prior, b"\1" * 32, digest(b"made up"))
    contracts.record(sybils[0], digest(data), 0, b"\1" * 32, b"made up", votes(made))
    assert contracts.standing(digest(data))[:2] == (1, b"\1" * 32)
