"""Whole runs of public deltas: a contract averages what the sites accept, and whoever lies is left out."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest

from commonprior import publicround
from commonprior.appendlog import AppendLog
from commonprior.ballot import Place
from commonprior.canonical import decode, digest, encode
from commonprior.defence.exclusion import NOBODY, Exclusion
from commonprior.defence.history import History
from commonprior.defence.layers import Layers
from commonprior.defence.roll_back import RollBack
from commonprior.defence.said import Said
from commonprior.entry import read_ballots
from commonprior.errors import JournalError, LedgerError, RecipeError, RunError
from commonprior.learners._server import ServerStep
from commonprior.learners.maml import Maml
from commonprior.ledger import onchain
from commonprior.ledger.audit import audit, audit_chain
from commonprior.ledger.client import Contracts
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.onchain import entered
from commonprior.ledger.public import mean_of
from commonprior.ledger.published import Published, read_published
from commonprior.ledger.rewards import CREDIT, fund, payouts
from commonprior.networks.mlp import Mlp
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Ledger
from commonprior.round import Failed
from commonprior.site.policy import Policy
from commonprior.site.publisher import Publisher
from commonprior.sums.masked import Masked
from commonprior.tasks.sinusoid import Sinusoid

from .conftest import INT8


def place_of(training):
    opening = training.coordinator._journal.opening
    return Place.read(opening.ledger, len(opening.roster)), digest(opening.encode())


def chain_of(training):
    return training.coordinator._book._chain


def published_of(training, number):
    place, _ = place_of(training)
    data = training.run.sum_of(number).read_bytes()
    return read_published(data, place, training.recipe.ledger.defence, None)


class Contributor:
    """A site whose integers are changed before they leave it."""

    def __init__(self, inner, change):
        self._inner, self._change = inner, change

    def contribute(self, context, mechanism, memory):
        protected = self._inner.contribute(context, mechanism, memory)
        return protected._replace(integers=self._change(protected.integers))

    def loss(self, context, prior):
        return self._inner.loss(context, prior)


def test_the_contract_averages_and_every_site_recomputes_the_prior(public_recipe, run_of):
    training = run_of(public_recipe())
    for number in (1, 2):
        training.coordinator.step(training.engine)
        published, (place, run) = published_of(training, number), place_of(training)
        chain = chain_of(training)
        contracts = Contracts(chain, place.addresses)
        said = [e for r in chain.receipts for e in contracts.events(r) if e.name == "Finalised"][-1].values
        kept = [u.delta for i, u in enumerate(published.updates) if said["taken"] >> i & 1]
        on_chain = b"".join(word.to_bytes(32, "big") for word in said["mean"])
        assert on_chain == mean_of(kept) == published.mean.tobytes()
        entry = training.coordinator._journal.last_round
        assert contracts.standing(run)[:2] == (number, entry.prior)
        assert training.coordinator.prior.hash() == entry.prior
        assert len(read_ballots(training.coordinator._journal.last_record)) == 6


def test_who_sends_the_opposite_is_accepted_by_nobody(public_recipe, run_of):
    training = run_of(public_recipe(sites=8, ledger=Ledger(mode="public", defence=Layers(liars=20))))
    agent = training.agents[3]
    agent.contributor = Contributor(agent.contributor, lambda x: np.clip(-9 * x, -127, 127))
    for _ in range(2):
        training.coordinator.step(training.engine)
        assert 3 not in training.coordinator._journal.last_round.survivors


def opposite(integers):
    return np.clip(-9 * integers, -127, 127)


@pytest.fixture
def with_a_liar(public_recipe, run_of):
    """A run whose site 3 sends the opposite, and is out once it was rejected twice."""

    def make(rounds):
        layers = Layers(liars=20, exclusion=Exclusion(after=2))
        ledger = Ledger(mode="public", defence=layers)
        training = run_of(public_recipe(sites=8, tasks=Sinusoid(sites=8), ledger=ledger, dropouts=1))
        training.agents[3].contributor = Contributor(training.agents[3].contributor, opposite)
        for _ in range(rounds):
            training.coordinator.step(training.engine)
        return training

    return make


def commitments_of(training, seat):
    """How often a site committed on the chain."""
    place, _ = place_of(training)
    events = [e for r in chain_of(training).receipts for e in Contracts(chain_of(training), place.addresses).events(r)]
    return sum(
        e.name == "Committed" and int(e.values["who"], 16) == int.from_bytes(place.accounts[seat], "big")
        for e in events
    )


def test_whoever_is_rejected_again_and_again_is_left_out_and_still_votes(with_a_liar, run_of):
    training = with_a_liar(3)
    assert commitments_of(training, 3) == 2
    assert commitments_of(training, 2) == 3
    assert [len(published_of(training, n).updates) for n in (1, 2, 3)] == [8, 8, 7]
    assert 3 in dict(read_ballots(training.coordinator._journal.last_record))
    assert audit(training.run.path).recomputed == 3
    again = run_of(training.recipe)  # from the disk
    again.coordinator.step(again.engine)
    assert len(published_of(again, 4).updates) == 7
    verdict, (place, run) = audit(again.run.path), place_of(again)
    assert (verdict.rounds, verdict.recomputed) == (4, 4)
    assert audit_chain(chain_of(again), place.addresses, run).head == verdict.head


def test_attack_a_site_that_was_left_out_commits_all_the_same(with_a_liar, monkeypatch):
    """Its coordinator asks it to: it would lose its bond."""
    training = with_a_liar(2)
    monkeypatch.setattr(publicround, "_to", lambda talk, phase, seats: talk.to_all(phase, None))
    training.coordinator.step(training.engine)
    assert commitments_of(training, 3) == 2
    assert len(published_of(training, 3).updates) == 7


def test_attack_a_coordinator_that_takes_the_update_of_one_who_is_left_out(with_a_liar, monkeypatch):
    """Together with that site: it commits, the coordinator does not check itself."""
    training = with_a_liar(2)
    told, read = publicround.history_of, publicround.read_published

    class Lenient(History):
        def excluded(self, layers):
            return frozenset()

    monkeypatch.setattr(publicround, "history_of", lambda *arguments: Lenient(*told(*arguments)))
    monkeypatch.setattr(publicround, "read_published", lambda data, place, layers, before:
                        read(data, place, dataclasses.replace(layers, exclusion=None), None))  # fmt: skip
    monkeypatch.setattr(Publisher, "commit", lambda p: p.registry.commit(p.place, p.run, p.identity, p.delta, p._salt))
    outcome = training.coordinator._attempt(training.engine, 3)
    assert isinstance(outcome, Failed)
    assert commitments_of(training, 3) == 3
    assert len(outcome.refusals) == 8
    assert all("which is left out: it was rejected too often" in why for why in outcome.refusals.values())


@pytest.mark.parametrize("forget", [
    lambda history: History(NOBODY, history.versions),
    lambda history: history._replace(versions=()),
    lambda history: history._replace(versions=tuple(v._replace(loss=0.0) for v in history.versions)),
], ids=["the rejections", "the versions", "what they lost"])  # fmt: skip
def test_attack_a_coordinator_that_forgets_where_everyone_stood(forget, with_a_liar, monkeypatch):
    training = with_a_liar(2)
    honest = publicround.history_of
    monkeypatch.setattr(publicround, "history_of", lambda *told: forget(honest(*told)))
    outcome = training.coordinator._attempt(training.engine, 3)
    assert isinstance(outcome, Failed)
    others = [why for seat, why in outcome.refusals.items() if seat != 3]  # which refuses to commit at all
    assert len(others) == 7
    assert all("not where the round before left them" in why for why in others)


def test_attack_a_coordinator_that_shows_another_round_before(with_a_liar, monkeypatch):
    training = with_a_liar(2)
    first = training.run.sum_of(1).read_bytes()
    monkeypatch.setattr(training.coordinator, "_published", lambda: first)
    outcome = training.coordinator._attempt(training.engine, 3)
    assert isinstance(outcome, Failed)
    assert set(outcome.refusals.values()) == {"what the round before published is not what its record names"}


def test_what_the_last_round_published_is_needed_to_go_on(with_a_liar, run_of):
    training = with_a_liar(1)
    training.run.sum_of(1).write_bytes(b"")
    with pytest.raises(
        RunError, match="000001.bin: is missing or is not what the journal names, and who may take part"
    ):
        run_of(training.recipe).coordinator.step(training.engine)


@pytest.fixture
def that_gets_worse(public_recipe, run_of):
    """A run whose sites lose more and more, and go back as soon as a version is worse than one before it."""

    def make(rounds):
        layers = Layers(roll_back=RollBack(margin=0.0, rounds=1))
        training = run_of(public_recipe(tasks=Sinusoid(sites=6), ledger=Ledger(mode="public", defence=layers)))
        for agent in training.agents:
            agent.contributor = Losing(agent.contributor)
        for _ in range(rounds):
            training.coordinator.step(training.engine)
        return training

    return make


class Losing:
    """A site that loses one more each time that it is asked what it loses, whatever the prior is."""

    def __init__(self, inner, lost=0):
        self._inner, self._lost = inner, lost

    def contribute(self, context, mechanism, memory):
        return self._inner.contribute(context, mechanism, memory)

    def loss(self, context, prior):
        self._lost += context.session.round == 0  # on the tasks that are the same in every round
        return float(self._lost)


def priors_of(training):
    return [entry.prior for entry in training.coordinator._journal.entries]


def test_a_prior_that_stays_as_it_is_loses_the_same_in_every_round(public_recipe, run_of):
    """Or the best of many draws of tasks would be a measure that no later version meets."""
    stands_still = Maml(Mlp(widths=(8,)), inner_steps=1, server=ServerStep("mean", 1e-30))
    training = run_of(public_recipe(learner=stands_still, tasks=Sinusoid(sites=6)))
    for _ in range(3):
        training.coordinator.step(training.engine)
    lost = [[said.loss for _, said in sorted(published_of(training, n).said.items())] for n in (1, 2, 3)]
    assert lost[0] == lost[1] == lost[2]
    assert len(set(lost[0])) == 6
    assert [v.loss for v in published_of(training, 3).history.versions] == 2 * [sorted(lost[0])[2]]


def test_a_prior_that_got_worse_is_taken_back(that_gets_worse, run_of):
    training = that_gets_worse(2)  # round 2 finds that the first round's prior is worse than the opening's
    opening, first, second = priors_of(training)
    assert opening == second != first
    assert training.coordinator.prior.hash() == opening
    assert [len(published_of(training, n).history.versions) for n in (1, 2)] == [0, 1]
    again = run_of(training.recipe)
    for agent in again.agents:
        agent.contributor = Losing(agent.contributor, 2)
    again.coordinator.step(again.engine)
    again.coordinator.step(again.engine)
    assert priors_of(again)[3:] == [opening, opening]  # each is judged worse than the one that it equals
    verdict, (place, run) = audit(again.run.path), place_of(again)
    assert (verdict.rounds, verdict.recomputed, verdict.prior) == (4, 4, opening)
    assert audit_chain(chain_of(again), place.addresses, run).prior == opening


def test_attack_a_coordinator_that_does_not_go_back(that_gets_worse, monkeypatch):
    training = that_gets_worse(1)
    mine = Published.back

    def stubborn(self, round_, base, layers):
        return None if sys._getframe(1).f_code.co_name == "run_public_round" else mine(self, round_, base, layers)

    monkeypatch.setattr(Published, "back", stubborn)
    outcome = training.coordinator._attempt(training.engine, 2)
    assert isinstance(outcome, Failed)
    assert set(outcome.refusals.values()) == {"the entry names another prior than the one that its sum makes"}


def test_a_round_that_did_not_go_back_is_found_by_the_audit(that_gets_worse, monkeypatch):
    """Though every site signed it: all of them leave that rule out, the auditor does not."""
    training = that_gets_worse(1)
    monkeypatch.setattr(History, "back", lambda self, layers: None)
    training.coordinator.step(training.engine)
    monkeypatch.undo()
    with pytest.raises(JournalError, match="the sites' losses lead back to the prior of round 0, it names another"):
        audit(training.run.path)


def test_the_prior_to_go_back_to_must_be_there(that_gets_worse, tmp_path):
    training = that_gets_worse(1)
    training.coordinator._run.checkpoint(0).write_bytes(training.run.checkpoint(1).read_bytes())
    with pytest.raises(RunError, match="000000.safetensors: is not the prior of round 0, to which the run goes back"):
        training.coordinator.step(training.engine)


def test_attack_a_site_that_publishes_another_update_than_it_committed_to_loses_its_bond(public_recipe, run_of):
    training = run_of(public_recipe(dropouts=1))
    liar = training.agents[2]
    publisher_of = liar._publisher

    def two_faced(*arguments):
        publisher = publisher_of(*arguments)
        committed = publisher.commit

        def commit():
            committed()
            publisher.integers = -publisher.integers

        publisher.commit = commit
        return publisher

    liar._publisher = two_faced
    training.coordinator.step(training.engine)
    entry, (place, run) = training.coordinator._journal.last_round, place_of(training)
    assert 2 not in entry.survivors
    contracts, published = Contracts(chain_of(training), place.addresses), published_of(training, 1)
    before = contracts.read("Quorum", "deposits", liar.identity.address)
    votes = bytes(32)
    from eth_hash.auto import keccak

    ballots = sorted(place.accounts[seat] for seat, _ in read_ballots(training.coordinator._journal.last_record))
    for _ in ballots:
        votes = keccak(votes + (1).to_bytes(32, "big") + keccak(published.row))
    names = [u.who for u in published.updates]
    contracts.write(training.agents[0].identity, "Disputes", "forfeit", run, 1, 0, liar.identity.address, names,
                    published.taken, votes)  # fmt: skip
    assert before - contracts.read("Quorum", "deposits", liar.identity.address) == training.recipe.ledger.bond


def test_attack_a_coordinator_that_forges_a_sites_opinion_gets_no_ballot_of_it(public_recipe, run_of, monkeypatch):
    training = run_of(public_recipe())
    honest = publicround.write_published

    def forged(updates, said, history):
        lie = Said((-1.0,) * len(updates), 1.0, bytes(64))
        return honest(updates, {seat: lie if seat == 1 else one for seat, one in said.items()}, history)

    monkeypatch.setattr(publicround, "write_published", forged)
    outcome = training.coordinator._attempt(training.engine, 1)
    assert isinstance(outcome, Failed)
    assert outcome.reason == "the opinion of seat 1 is not its own, or is about other updates"


def test_attack_a_coordinator_that_leaves_out_whom_it_likes_is_refused_by_the_contract(public_recipe, run_of):
    training = run_of(public_recipe(dropouts=1))
    kept = publicround._updates
    publicround._updates = lambda answers, stage: {s: u for s, u in kept(answers, stage).items() if s != 4}
    try:
        close = training.coordinator._book.stage
        training.coordinator._book.stage = lambda opening: Hasty(close(opening))
        with pytest.raises(RunError, match="a site has shown the contract its update, which did not arrive here"):
            training.coordinator.step(training.engine)
    finally:
        publicround._updates = kept


class Hasty:
    """A stage that does not wait for those who have not published."""

    def __init__(self, stage):
        self._stage = stage

    def __getattr__(self, name):
        return getattr(self._stage, name)

    def close_reveals(self, published):
        pass


def test_a_coordinator_killed_before_the_contract_was_told_catches_up(public_recipe, run_of):
    training = run_of(public_recipe())
    training.coordinator.step(training.engine)
    path = training.run.chain
    records = [decode(record) for record in AppendLog(path)]
    path.unlink()
    log = AppendLog(path)
    for record in records[:-1]:
        log.append(record)
    again = run_of(training.recipe)
    place, run = place_of(again)
    assert Contracts(chain_of(again), place.addresses).standing(run).rounds == 1
    again.coordinator.step(again.engine)
    assert again.coordinator.rounds_done == 2


def test_an_auditor_recomputes_it_all_from_the_folder_or_from_the_chain_alone(public_recipe, run_of):
    training = run_of(public_recipe(tasks=Sinusoid(sites=6)))
    for _ in range(2):
        training.coordinator.step(training.engine)
    verdict = audit(training.run.path)
    assert (verdict.rounds, verdict.recomputed, verdict.entered) == (2, 2, 2)
    place, run = place_of(training)
    alone = audit_chain(Embedded(training.run.chain), place.addresses, run)
    assert (alone.rounds, alone.head, alone.prior) == (2, verdict.head, verdict.prior)


@pytest.mark.parametrize("change", [
    lambda updates, opinions: (updates[1:], opinions),
    lambda updates, opinions: ([[u[0], bytes(len(u[1])), u[2]] for u in updates], opinions),
    lambda updates, opinions: (updates, []),
], ids=["one update less", "other updates", "no opinions"])  # fmt: skip
def test_what_was_published_cannot_be_exchanged(change, public_recipe, run_of, tmp_path):
    training = run_of(public_recipe())
    training.coordinator.step(training.engine)
    shutil.copytree(training.run.path, tmp_path / "copy")
    file = tmp_path / "copy" / "sums" / "000001.bin"
    table = decode(file.read_bytes())
    updates, opinions = change(table["updates"], table["opinions"])
    file.write_bytes(encode({**table, "updates": updates, "opinions": opinions}))
    with pytest.raises(JournalError, match="entry 1 does not hold: .*is not what the entry names"):
        audit(tmp_path / "copy")
    file.unlink()
    with pytest.raises(JournalError, match="is missing, though public deltas are a part of the record"):
        audit(tmp_path / "copy")


def test_noise_counts_for_each_site_alone_and_silences_opinions(public_recipe, run_of):
    mechanism = dataclasses.replace(INT8, noise=1.0)
    training = run_of(public_recipe(mechanism=mechanism))
    assert training.coordinator._release().honest == 1
    training.coordinator.step(training.engine)
    assert published_of(training, 1).said == {}


def test_what_makes_no_sense_in_public_is_refused_at_once(public_recipe, run_of):
    with pytest.raises(RecipeError, match='with a secure sum: it would hide nothing; say sum.kind = "plain"'):
        public_recipe(sum=Masked())
    with pytest.raises(RecipeError, match="public deltas are int8; say mechanism.bytes = 1"):
        run_of(public_recipe(mechanism=DiscreteGaussian(clip=10.0, per="site")))
    with pytest.raises(RecipeError, match='with kind "none"'):
        Ledger(kind="none", mode="public")
    with pytest.raises(RunError, match="takes part in secure sums only"):
        run_of(public_recipe(policy=Policy(minimum_cohort=3)), "wary")


def test_a_mean_that_is_not_that_of_the_updates_is_found(with_a_liar, monkeypatch):
    """From the chain alone too: the contract is not believed, its updates are averaged again."""
    training = with_a_liar(1)
    place, run = place_of(training)
    assert len(entered(Contracts(chain_of(training), place.addresses), run)[1].deltas) == 8
    monkeypatch.setattr(onchain, "mean_of", lambda deltas: bytes(reversed(mean_of(deltas))))
    for act in (lambda: audit(training.run.path), lambda: audit_chain(chain_of(training), place.addresses, run)):
        with pytest.raises(JournalError, match="round 1: the contract's mean is not that of the updates that it was"):
            act()


def test_what_is_accepted_is_paid_for_and_what_is_not_is_not(with_a_liar):
    training = with_a_liar(3)
    place, run = place_of(training)
    contracts, opening = Contracts(chain_of(training), place.addresses), training.coordinator._journal.opening
    fund(contracts, run, training.agents[0].identity, 40 * CREDIT, 8 * CREDIT)
    rounds = payouts(contracts, opening)
    assert [len(p.contributors) for p in rounds] == [8, 8, 7]
    for payout, entry in zip(rounds, training.coordinator._journal.entries[1:], strict=True):
        shares = payout.shares(8 * CREDIT)
        assert {place.accounts.index(who) for who in shares} == set(entry.survivors)
        for agent in training.agents:
            before = contracts.read("Token", "balanceOf", agent.identity.address)
            if agent.identity.address in shares:
                payout.claim(contracts, run, agent.identity)
            paid = contracts.read("Token", "balanceOf", agent.identity.address) - before
            assert paid == shares.get(agent.identity.address, 0)
    verdict = audit(training.run.path)
    assert (verdict.funded, verdict.paid) == (40 * CREDIT, sum(sum(p.shares(8 * CREDIT).values()) for p in rounds))
    with pytest.raises(LedgerError, match="W: not a contributor"):
        rounds[0].claim(contracts, run, training.agents[3].identity)
