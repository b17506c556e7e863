"""Whole runs of public deltas: a contract averages what the sites accept, and whoever lies is left out."""

import dataclasses
import shutil

import numpy as np
import pytest

from commonprior.appendlog import AppendLog
from commonprior.ballot import Place
from commonprior.canonical import decode, digest, encode
from commonprior.defence.layers import Layers
from commonprior.entry import read_ballots
from commonprior.errors import JournalError, RecipeError, RunError
from commonprior.ledger.audit import audit, audit_chain
from commonprior.ledger.client import Contracts
from commonprior.ledger.embedded import Embedded
from commonprior.ledger.public import mean_of
from commonprior.ledger.published import read_published
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Ledger
from commonprior.round import Failed
from commonprior.site.policy import Policy
from commonprior.sums.masked import Masked
from commonprior.sums.plain import Plain
from commonprior.tasks.sinusoid import Sinusoid

INT8 = DiscreteGaussian(clip=10.0, per="site", bytes=1, bound=1.0)


@pytest.fixture
def public_recipe(make_recipe):
    def make(**parts):
        parts = {
            "sites": 6, "mechanism": INT8, "sum": Plain(), "ledger": Ledger(mode="public"),
            "policy": Policy(minimum_cohort=3, allow_insecure_sum=True), **parts,
        }  # fmt: skip
        return make_recipe(**parts)

    return make


def place_of(training):
    opening = training.coordinator._journal.opening
    return Place.read(opening.ledger, len(opening.roster)), digest(opening.encode())


def chain_of(training):
    return training.coordinator._book._chain


def published_of(training, number):
    place, _ = place_of(training)
    data = training.run.sum_of(number).read_bytes()
    return read_published(data, place, training.recipe.ledger.defence)


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
    from commonprior import publicround

    honest = publicround.write_published

    def forged(updates, opinions):
        return honest(updates, {seat: [-1.0] * len(updates) if seat == 1 else o for seat, o in opinions.items()})

    monkeypatch.setattr(publicround, "write_published", forged)
    outcome = training.coordinator._attempt(training.engine, 1)
    assert isinstance(outcome, Failed)
    assert "another one than this site gave" in outcome.refusals[1]


def test_attack_a_coordinator_that_leaves_out_whom_it_likes_is_refused_by_the_contract(public_recipe, run_of):
    training = run_of(public_recipe(dropouts=1))
    from commonprior import publicround

    kept = publicround._updates
    publicround._updates = lambda answers, stage: {s: u for s, u in kept(answers, stage).items() if s != 4}
    try:
        close = training.coordinator._book.stage
        training.coordinator._book.stage = lambda opening: Hasty(close(opening))
        with pytest.raises(Exception, match="R: missing"):
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
    file.write_bytes(encode({"updates": updates, "opinions": opinions}))
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
    assert published_of(training, 1).opinions == {}


def test_what_makes_no_sense_in_public_is_refused_at_once(public_recipe, run_of):
    with pytest.raises(RecipeError, match='with a secure sum: it would hide nothing; say sum.kind = "plain"'):
        public_recipe(sum=Masked())
    with pytest.raises(RecipeError, match="public deltas are int8; say mechanism.bytes = 1"):
        run_of(public_recipe(mechanism=DiscreteGaussian(clip=10.0, per="site")))
    with pytest.raises(RecipeError, match='with kind "none"'):
        Ledger(kind="none", mode="public")
    with pytest.raises(RunError, match="takes part in secure sums only"):
        run_of(public_recipe(policy=Policy(minimum_cohort=3)), "wary")
