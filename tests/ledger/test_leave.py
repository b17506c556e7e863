"""What a run survives that happens to its consortium or to its folder: a member who leaves, a journal that is lost."""

import pytest

from commonprior.errors import LedgerError
from commonprior.ledger.audit import audit
from commonprior.ledger.client import Contracts
from commonprior.training import start

from .test_public_rounds import chain_of, place_of


def test_attack_a_member_who_leaves_in_the_middle_stops_nobody(make_recipe, run_of):
    training = run_of(make_recipe(dropouts=1))
    training.coordinator.step(training.engine)
    place, run = place_of(training)
    contracts = Contracts(chain_of(training), place.addresses)
    contracts.write(training.agents[3].identity, "Quorum", "leave")
    training.coordinator.step(training.engine)
    assert contracts.standing(run).rounds == 2
    assert audit(training.run.path).entered == 2


def test_a_lost_journal_does_not_take_the_chain_with_it(make_recipe, run_of):
    training = run_of(make_recipe())
    training.coordinator.step(training.engine)
    before = training.run.chain.read_bytes()
    training.run.journal.unlink()
    with pytest.raises(LedgerError, match="is missing, though .*chain.cbor holds a run that began; restore it"):
        start(training.recipe, training.run.path)
    assert training.run.chain.read_bytes() == before
