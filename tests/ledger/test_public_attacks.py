"""What a coordinator of public deltas that lies could get from sites: ballots, bonds, words that they never said."""

import dataclasses

import numpy as np
import pytest
from eth_abi.abi import encode

from commonprior import publicround
from commonprior.appendlog import AppendLog
from commonprior.canonical import decode
from commonprior.canonical import encode as pack
from commonprior.coordinator import Coordinator
from commonprior.defence.layers import Layers
from commonprior.defence.said import MOST_GAIN
from commonprior.errors import JournalError, LedgerError, ProtocolError, RunError
from commonprior.ledger import public as chain_side
from commonprior.ledger.audit import audit, audit_chain
from commonprior.ledger.book import ChainStage
from commonprior.ledger.client import Contracts
from commonprior.ledger.contract import artefact
from commonprior.ledger.public import PublicRounds
from commonprior.ledger.published import read_published
from commonprior.recipe import Ledger
from commonprior.round import Failed, Outcome
from commonprior.site import Told
from commonprior.site.memory import Finished
from commonprior.site.publisher import Publisher
from commonprior.tasks.sinusoid import Sinusoid

from .test_public_rounds import chain_of, place_of, published_of


@pytest.fixture
def unchecked(monkeypatch):
    """A coordinator that does not check itself what it publishes."""
    read = publicround.read_published
    monkeypatch.setattr(
        publicround, "read_published", lambda data, place, layers, told: read(data, place, layers, None)
    )
    monkeypatch.setattr(publicround, "require_opinions", lambda *told: None)


def two_sessions_in_one_attempt(training, monkeypatch):
    """Finish one session, lose it, and show the same updates in another one: nothing is opened or committed to."""
    coordinator, seen, kept = training.coordinator, {}, publicround._updates
    monkeypatch.setattr(publicround, "_updates", lambda answers, stage: seen.update(kept(answers, stage)) or dict(seen))
    assert isinstance(coordinator._attempt(training.engine, 1), Outcome)
    monkeypatch.setattr(ChainStage, "open", lambda self: self._contracts.current(self._run).attempt)
    monkeypatch.setattr(publicround, "_to", lambda *told: {})
    monkeypatch.setattr(publicround, "_updates", lambda answers, stage: dict(seen))
    return coordinator._attempt(training.engine, 1)


def test_attack_two_sessions_in_one_attempt_of_the_contract(public_recipe, run_of, monkeypatch):
    """Two ballots of one attempt would cost every honest site its bond."""
    second = two_sessions_in_one_attempt(run_of(public_recipe()), monkeypatch)
    assert isinstance(second, Failed)
    assert len(second.refusals) == 6
    assert all("two ballots in one attempt are a fault" in why for why in second.refusals.values())


def test_attack_two_sessions_succeeds_where_sites_look_at_their_own_attempts(public_recipe, run_of, monkeypatch):
    monkeypatch.setattr("commonprior.site.agent.Finished", lambda *fields: Finished(*fields[:4], *fields[3:4]))
    assert isinstance(two_sessions_in_one_attempt(run_of(public_recipe()), monkeypatch), Outcome)


class Many(dict):
    """Fewer than it says."""

    def __len__(self):
        return 6


def test_attack_a_round_of_one(public_recipe, run_of, monkeypatch, unchecked):
    """One site's update is all that is published, and nobody's opinion."""
    training, kept = run_of(public_recipe()), publicround._updates

    def one(answers, stage):
        return Many({s: u for s, u in kept(answers, stage).items() if s == 4})

    monkeypatch.setattr(publicround, "_updates", one)
    monkeypatch.setattr(publicround, "_said", lambda answers, shown: {})
    outcome = training.coordinator._attempt(training.engine, 1)
    assert isinstance(outcome, Failed)
    assert set(outcome.refusals.values()) == {"1 sites' updates are published, expected 6"}


def test_attack_a_site_is_left_out_and_shows_its_update_to_the_contract(public_recipe, run_of, monkeypatch):
    """Its bond would be forfeit otherwise. What merely got lost is tried again, with everybody in it."""
    training, kept, lost = run_of(public_recipe(dropouts=1)), publicround._updates, [4]

    def others(answers, stage):
        return {s: u for s, u in kept(answers, stage).items() if s not in lost}

    monkeypatch.setattr(publicround, "_updates", others)
    failed = training.coordinator._attempt(training.engine, 1)
    assert isinstance(failed, Failed)
    assert failed.reason == "a site has shown the contract its update, which did not arrive here"
    assert "leave out this site's, which it committed to and has now shown" in failed.refusals[4]
    place, run = place_of(training)
    assert Contracts(chain_of(training), place.addresses).current(run).revealed == 1
    lost.clear()
    training.coordinator.step(training.engine)
    assert len(published_of(training, 1).updates) == 6
    assert audit(training.run.path).rounds == 1


def test_attack_opinions_are_left_out(public_recipe, run_of, monkeypatch, unchecked):
    training, kept = run_of(public_recipe(sites=8, dropouts=1)), publicround._said
    monkeypatch.setattr(publicround, "_said", lambda answers, shown: dict([*kept(answers, shown).items()][:1]))
    outcome = training.coordinator._attempt(training.engine, 1)
    assert isinstance(outcome, Failed)
    assert set(outcome.refusals.values()) == {"1 opinions are published, expected 7"}
    monkeypatch.setattr(publicround, "_said", lambda answers, shown: {})
    outcome = training.coordinator._attempt(training.engine, 1)
    assert set(outcome.refusals.values()) == {"0 opinions are published, expected 7"}


@pytest.mark.parametrize("change", ["numbers", "loss", "updates", "session", "signer"])
def test_attack_an_opinion_is_moved_to_something_that_it_was_not_about(change, public_recipe, run_of):
    training = run_of(public_recipe())
    training.coordinator.step(training.engine)
    journal, (place, _) = training.coordinator._journal, place_of(training)
    session, layers = journal.last_round.session(journal.opening), training.recipe.ledger.defence
    data = training.run.sum_of(1).read_bytes()
    told = Told(read_published(data, place, layers, None).history, session, True)
    assert len(read_published(data, place, layers, told).said) == 6
    table = decode(data)
    if change == "numbers":
        table["opinions"][2][1] = [0.0] * 6
    elif change == "loss":
        table["opinions"][2][2] += 1.0
    elif change == "updates":
        table["updates"][0][1] = bytes(len(table["updates"][0][1]))
    elif change == "session":
        told = told._replace(session=dataclasses.replace(session, attempt=1))
    else:
        table["opinions"][1][3] = table["opinions"][2][3]
    with pytest.raises(ProtocolError, match="is not its own, or is about other updates"):
        read_published(pack(table), place, layers, told)


def test_attack_an_opinion_is_asked_for_twice(public_recipe, run_of, monkeypatch):
    training, asked = run_of(public_recipe()), []
    opine = Publisher.opine

    def twice(self, data):
        first = opine(self, data)
        table = decode(data)
        table["updates"][0][1] = bytes(len(table["updates"][0][1]))
        self.registry.published = lambda *told: read(*told[:2], data, *told[3:])
        with pytest.raises(ProtocolError, match="asked for an opinion on other updates than before"):
            opine(self, pack(table))
        asked.append(self.seat)
        self.registry.published = read
        return first

    read = training.agents[0].registry.published
    monkeypatch.setattr(Publisher, "opine", twice)
    training.coordinator.step(training.engine)
    assert sorted(asked) == list(range(6))


class Diverged:
    """A site whose tasks lose without bound from the second round on."""

    def __init__(self, inner):
        self._inner, self._rounds = inner, 0

    def contribute(self, *told):
        self._rounds += 1
        return self._inner.contribute(*told)

    def loss(self, context, prior):
        return np.inf if self._rounds > 1 else self._inner.loss(context, prior)


def test_a_site_that_diverged_says_so_and_stops_nobody(public_recipe, run_of):
    training = run_of(public_recipe())
    training.agents[2].contributor = Diverged(training.agents[2].contributor)
    training.coordinator.step(training.engine)
    training.coordinator.step(training.engine)
    said = published_of(training, 2).said[2]
    assert said.loss == MOST_GAIN
    assert set(said.gains) == {0.0}


def test_attack_a_member_opens_an_attempt_while_the_coordinator_rests(public_recipe, run_of):
    training = run_of(public_recipe(tasks=Sinusoid(sites=6)))
    training.coordinator.step(training.engine)
    place, run = place_of(training)
    contracts = Contracts(chain_of(training), place.addresses)
    chain_of(training).wait(contracts.current(run).opened + 4 * sum(place.terms[2:5]))
    PublicRounds(contracts, run).open(training.agents[2].identity)
    training.coordinator.step(training.engine)
    assert audit(training.run.path).rounds == 2
    assert audit_chain(chain_of(training), place.addresses, run).rounds == 2


def test_a_round_that_the_ledger_was_told_of_too_late_is_tried_anew(public_recipe, run_of, monkeypatch):
    """The coordinator is killed before the chain is told, and rests until a member opens the next attempt."""
    training = run_of(public_recipe(tasks=Sinusoid(sites=6)))
    training.coordinator.step(training.engine)
    with monkeypatch.context() as killed:
        killed.setattr(Coordinator, "_catch_up", lambda self: None)
        training.coordinator.step(training.engine)
    late = training.coordinator._journal.last_record
    place, run = place_of(training)
    contracts = Contracts(chain_of(training), place.addresses)
    chain_of(training).wait(contracts.current(run).opened + 4 * sum(place.terms[2:5]))
    PublicRounds(contracts, run).open(training.agents[2].identity)
    again = run_of(training.recipe)
    assert again.coordinator.rounds_done == 1
    assert [bytes(r) for r in AppendLog(again.run.path / "journal.aside.cbor")] == [late]
    again.coordinator.step(again.engine)
    verdict = audit(again.run.path)
    assert (verdict.rounds, verdict.recomputed, verdict.entered) == (2, 2, 2)
    assert again.coordinator._journal.last_record != late


def test_in_one_process_it_is_a_sentence(public_recipe, run_of, monkeypatch):
    training = run_of(public_recipe())
    monkeypatch.setattr(training.coordinator._book, "catch_up", lambda journal: False)
    with pytest.raises(RunError, match="run the same command again: that round is tried anew"):
        training.coordinator.step(training.engine)


def test_attack_a_folder_whose_updates_are_not_those_on_the_chain(public_recipe, run_of, monkeypatch):
    """All sites are in it: they sign for halves of what the contract averages."""
    training = run_of(
        public_recipe(tasks=Sinusoid(sites=6), ledger=Ledger(mode="public", defence=Layers(accuracy=None)))
    )
    write, finalise, true = publicround.write_published, PublicRounds.finalise, {}

    def halves(updates, said, history):
        place, _ = place_of(training)
        true.update({place.accounts[s]: u for s, u in updates.items()})
        less = {s: ((np.frombuffer(d, np.int8) // 2).tobytes(), salt) for s, (d, salt) in updates.items()}
        return write(less, said, history)

    def whole(self, sender, updates, *rest):
        return finalise(self, sender, [chain_side.Update(u.who, *true[u.who]) for u in updates], *rest)

    monkeypatch.setattr(publicround, "write_published", halves)
    monkeypatch.setattr(PublicRounds, "finalise", whole)
    monkeypatch.setattr("commonprior.ledger.book.PublicRounds.is_committed", lambda self, attempt, update: True)
    monkeypatch.setattr(Publisher, "commit", lambda p: PublicRounds(
        Contracts(chain_of(training), p.place.addresses), p.run).commit(p.identity, PublicRounds(Contracts(
            chain_of(training), p.place.addresses), p.run).attempt(), chain_side.Update(
                p.identity.address, p.delta, p._salt)))  # fmt: skip
    training.coordinator.step(training.engine)
    monkeypatch.undo()
    with pytest.raises(JournalError, match="the contract's mean is not that of the updates in the run's folder"):
        audit(training.run.path)


def test_attack_padding_that_a_contract_does_not_look_at():
    """Whoever sees the ballots may bring them, in bytes that the contract takes and a strict decoder does not."""
    rounds = artefact("Rounds")
    values = [bytes(32), 1, bytes(32), b"entry", [b"s" * 65]]
    data = bytearray(rounds.functions["record"].selector + encode(rounds.functions["record"].inputs, values))
    at = bytes(data).rindex(b"s" * 65) + 65
    data[at] = 1
    assert rounds.call_of(bytes(data)) == ("record", (bytes(32), 1, bytes(32), b"entry", (b"s" * 65,)))
    for short in (data[:40], data[: at - 10], b"".join([data[:4], b"\xff" * 400])):
        with pytest.raises(LedgerError, match="bytes are not bytes32, uint256"):
            rounds.call_of(bytes(short))
