"""A whole round of a fleet, from recipe to audit; and sums that cannot be held, refused before anybody enrols."""

import pytest

from commonprior.errors import InputError
from commonprior.ledger.audit import audit
from commonprior.prior import flatten
from commonprior.recipe import Schedule
from commonprior.site.agent import Agent
from commonprior.site.policy import Policy
from commonprior.sums.committee import Committee
from commonprior.sums.grouped import Grouped
from commonprior.sums.masked import Masked
from commonprior.sums.paillier import Paillier
from commonprior.sums.plain import Plain
from commonprior.training import train_rounds
from doubles import Gateway, PaperPrior, PaperTarget

FLEET = Schedule(rounds=1, tasks_per_site=3, shots=5, queries=5, dropouts=5, colluders=4, attempts=2)


def test_fifty_two_sites_make_the_prior_that_a_plain_sum_makes_and_an_auditor_follows(make_recipe, run_of):
    """Five of them go silent once their packets are dealt; none of them is counted."""

    def lost(seat, phase, count):
        return seat in (3, 9, 30, 31, 51) and phase in ("masked", "values", "consistency", "unmask", "acknowledge")

    runs = {}
    for name, kind, policy in (("fleet", Masked(), Policy()), ("plain", Plain(), Policy(allow_insecure_sum=True))):
        recipe = make_recipe(sites=52, schedule=FLEET, policy=policy, sum=kind, learner=PaperPrior())
        runs[name] = training = run_of(recipe, name, lost=lost)
        for site, agent in enumerate(training.agents):
            slope = 2.0 + site
            packet = PaperTarget().adapt(training.coordinator.prior, [(1.0, slope), (-2.0, -2 * slope)])
            agent.contributor = Gateway([packet])
        train_rounds(training)
    fleet, plain = (training.coordinator.prior for training in runs.values())
    assert fleet.hash() == plain.hash()
    assert flatten(fleet.params).any()
    entry = runs["fleet"].coordinator._journal.last_round
    assert len(entry.survivors) == 47
    assert audit(runs["fleet"].run.path).rounds == 1


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (
            Masked(neighbours=1),
            "sum.neighbours = 1 of 4 sites, of whom 0 may drop out and 0 collude: expected at least",
        ),
        (Committee(5), "sum.aggregators = 5: there are 4 sites"),
        (Grouped(groups=3, of=Masked()), "sum.groups = 3 of 4 sites have 1 sites each"),
        (Paillier(key_holder="nobody"), "sum.key_holder = 'nobody' is not in the roster"),
    ],
    ids=["masked", "committee", "grouped", "paillier"],
)
def test_a_sum_that_cannot_be_held_is_refused_before_anybody_is_asked(make_recipe, run_of, monkeypatch, kind, why):
    asked = []
    monkeypatch.setattr(Agent, "receive", lambda self, data: asked.append(data) or [])
    with pytest.raises(InputError, match=why):
        run_of(make_recipe(sum=kind))
    assert asked == []
