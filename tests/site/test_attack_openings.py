"""What a coordinator may say when it opens a run: other terms than the recipe's, other names, a prior of its own."""

import dataclasses

import numpy as np
import pytest

from commonprior.accountant import spend_of
from commonprior.coordinator import Coordinator
from commonprior.errors import JournalError, LedgerError, ModelError, ProtocolError, RunError
from commonprior.identity import Identity
from commonprior.learners._server import ServerStep
from commonprior.ledger.audit import audit
from commonprior.prior import Prior
from commonprior.recipe import Budget, Ledger, Recipe, Schedule
from commonprior.round import Failed
from commonprior.runfolder import RunFolder
from commonprior.session import Member
from commonprior.simulation import simulate_sites
from commonprior.site.consent import Consent
from commonprior.site.memory import WITHHELD
from commonprior.site.policy import Policy
from commonprior.sums.ckks import Ckks
from commonprior.sums.grouped import Grouped
from commonprior.sums.masked import Masked
from commonprior.sums.paillier import Paillier
from commonprior.tasks.sinusoid import Sinusoid
from commonprior.training import start


class Lying(Recipe):
    """A recipe with another schedule or roster than it is said to have: its table and hash are those of the `true`."""

    true: Recipe

    def hash(self):
        return self.true.hash()

    def table(self):
        return self.true.table()


@pytest.fixture
def opens(tmp_path):
    """Open a run of a recipe as a coordinator that lies: with parts of another schedule, with a roster of its own."""

    def opening(recipe, roster=lambda members: members, name="lied", **schedule):
        parts = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
        lie = Lying(**{**parts, "schedule": dataclasses.replace(recipe.schedule, **schedule)})
        object.__setattr__(lie, "true", recipe)
        family, run, boss = recipe.tasks.load(None), RunFolder(tmp_path / name), Identity.generate()
        run.path.mkdir()
        agents = simulate_sites(recipe, family, run, boss)
        members = roster(tuple(Member(agent.name, agent.identity.key) for agent in agents))
        by_key = {agent.identity.key: agent for agent in agents}
        coordinator = Coordinator(lie, run, boss, members)

        class Direct:
            def exchange(self, session, phase, outbox, deadline):
                return {
                    seat: [answer for frame in frames for answer in by_key[session.roster[seat].key].receive(frame)]
                    for seat, frames in outbox.items()
                }

        coordinator.open(Direct(), family)
        return coordinator, agents, Direct()

    return opening


NONE = Ledger(kind="none")


def seven_sites():
    return Schedule(rounds=1, tasks_per_site=3, shots=5, queries=5, dropouts=1, colluders=2, attempts=1)


@pytest.mark.parametrize("lie", [{"colluders": 0}, {"dropouts": 2}, {"colluders": 1, "dropouts": 0}])
def test_attack_an_opening_with_other_dropouts_or_colluders_than_the_recipe_s(make_recipe, opens, lie):
    recipe = make_recipe(sites=9, schedule=seven_sites(), noise=4.0, ledger=NONE)
    with pytest.raises(RunError, match="lab-0 agreed to 1 dropouts and 2 colluders, not to"):
        opens(recipe, **lie)


def test_attack_an_opening_with_fewer_colluders_succeeds_where_a_site_goes_by_the_recipe_s_hash(
    make_recipe, opens, monkeypatch
):
    """The hash is the recipe's, and each site adds less noise than its two colluders ask for. An audit sees it."""
    check, noises = Consent.check_session, {}

    def believing(consent, session):
        consent.terms = dataclasses.replace(consent.terms, dropouts=session.dropouts, colluders=session.colluders)
        check(consent, session)

    monkeypatch.setattr(Consent, "check_session", believing)
    recipe = make_recipe(tasks=Sinusoid(sites=9, tasks=3), schedule=seven_sites(), noise=4.0, ledger=NONE)
    for colluders in (2, 0):
        coordinator, agents, engine = opens(recipe, name=f"run-{colluders}", colluders=colluders)
        coordinator.step(engine)
        attempt = agents[0]._attempt
        grid = attempt.mechanism._grid(attempt.release)
        noises[colluders] = grid.variance / grid.sensitivity_squared
    assert noises[0] < 0.8 * noises[2]
    with pytest.raises(JournalError, match="opened with 1 dropouts and 0 colluders, the recipe has 1 and 2"):
        audit(coordinator._run.path)


def holds_key(agent):
    return agent._attempt.machine._seat == agent._attempt.machine._holder


def swapped(members):
    """Each of the first two keys goes by the other's name."""
    first, second, *rest = members
    return (Member(second.name, first.key), Member(first.name, second.key), *rest)


@pytest.mark.parametrize("kind", [Paillier(2048, "lab-1"), Ckks("lab-1"), Masked()], ids=["paillier", "ckks", "masked"])
def test_attack_a_key_holder_s_name_on_a_colluder_s_key(make_recipe, opens, kind):
    with pytest.raises(RunError, match="lab-2 knows lab-0 by another name or key than the roster's lab-1"):
        opens(make_recipe(noise=4.0, sum=kind, ledger=NONE), swapped)


def test_attack_a_key_holder_s_name_on_a_colluder_s_key_succeeds_where_names_are_believed(
    make_recipe, opens, monkeypatch
):
    monkeypatch.setattr(Consent, "_check_names", lambda consent, session: None)
    coordinator, agents, engine = opens(make_recipe(noise=4.0, sum=Paillier(2048, "lab-1"), ledger=NONE), swapped)
    coordinator.step(engine)
    assert holds_key(agents[0]), "lab-0 reads what the recipe shows to lab-1"


@pytest.mark.parametrize(
    "kind", [Paillier(2048), Ckks(), Grouped(3, Paillier(2048))], ids=["paillier", "ckks", "groups"]
)
def test_attack_a_stranger_in_the_seat_of_the_key_holder(make_recipe, kind, run_of):
    """By any other site it would be trusted: nobody else may hold a key that opens everybody's update."""
    training = run_of(make_recipe(sites=9, noise=4.0, sum=kind, policy=Policy(), ledger=NONE))
    wary, coordinator = training.agents[1], training.coordinator
    wary.trusted = frozenset(agent.identity.key for agent in training.agents[1:])
    session = coordinator._session(1, 0, coordinator._journal.opening.run, coordinator._journal.head)
    with pytest.raises(Exception, match="lab-1 does not trust lab-0, who would hold the key"):
        wary._consent.check_session(session)
    wary.terms = dataclasses.replace(wary.terms, sum=Masked())
    wary._consent.check_session(session)


def test_one_key_may_have_two_names_in_a_site_s_own_list(make_recipe, run_of):
    training = run_of(make_recipe(ledger=NONE))
    wary, coordinator = training.agents[0], training.coordinator
    wary.names = {**wary.names, "an alias": training.agents[1].identity.key}
    wary._consent.check_session(coordinator._session(1, 0, coordinator._journal.opening.run, coordinator._journal.head))


def test_the_order_of_a_roster_does_not_say_who_holds_the_key(make_recipe, opens):
    coordinator, agents, engine = opens(make_recipe(sum=Paillier(2048), ledger=NONE), lambda members: members[::-1])
    coordinator.step(engine)
    assert [holds_key(agent) for agent in agents] == [True, False, False, False]


@pytest.mark.parametrize(("noise", "delta"), [(0.3, 0.999), (0.5, 0.9)])
def test_attack_a_delta_at_which_every_epsilon_is_small(make_recipe, run_of, noise, delta):
    """A site's own limit is measured at its own delta, whatever the recipe's budget is measured at."""
    recipe = make_recipe(noise=noise, budget=Budget(epsilon=1.0, delta=delta), policy=Policy(maximum_epsilon=1.0))
    training = run_of(recipe)
    coordinator = training.coordinator
    release = coordinator._release()
    cost = spend_of(recipe.mechanism.spends(release), "site")
    assert cost.epsilon(delta) < 1.0 < 10 < cost.epsilon(1e-5), "the weak measure would have let it pass"
    with pytest.raises(Exception, match="over the budget of epsilon 1"):
        coordinator.step(training.engine)


def crafted(training, change):
    good = training.coordinator.prior
    return Prior(good.params, change(dict(good.state)))


@pytest.mark.parametrize("change", [
    lambda state: {},
    lambda state: {k: v.ravel()[:1] if "first" in k else v for k, v in state.items()},
    lambda state: {k: np.zeros(0, np.float32) if k.endswith("step") else v for k, v in state.items()},
], ids=["no state", "a short moment", "an empty step"])  # fmt: skip
def test_attack_a_first_prior_whose_state_no_server_step_can_use(make_recipe, tmp_path, run_of, change):
    recipe = make_recipe(ledger=NONE)
    recipe = dataclasses.replace(recipe, learner=dataclasses.replace(recipe.learner, server=ServerStep("adam")))
    first = crafted(run_of(recipe), change)
    training = start(recipe, tmp_path / "bad", first=first)
    outcome = training.coordinator._attempt(training.engine, 1)
    assert isinstance(outcome, Failed)
    assert all("learner expects" in why or "none that its learner" in why for why in outcome.refusals.values())
    assert len(outcome.refusals) == 4


SECRET = "row 1 of the contributions holds inf at number 13"


@pytest.mark.parametrize("kind", [ModelError, ProtocolError, LedgerError, ValueError, AttributeError, MemoryError])
def test_attack_a_refusal_that_tells_of_private_numbers(make_recipe, run_of, kind):
    """Always the same sentence: which of them it was is a fact about the tasks, too."""
    training = run_of(make_recipe(schedule=Schedule(rounds=1, tasks_per_site=3, shots=5, queries=5, attempts=1)))
    agent = training.agents[0]

    def fails(*_):
        raise kind(SECRET)

    agent.contributor.contribute = fails
    outcome = training.coordinator._attempt(training.engine, 1)
    assert SECRET not in str(outcome)
    assert outcome.refusals[0].startswith("lab-0 cannot work with its own tasks from this prior; why stands in its own")
    assert SECRET in (training.run.site("lab-0") / WITHHELD).read_text()
