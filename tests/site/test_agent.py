"""What a site refuses, and what it writes before anything leaves."""

import dataclasses
import re

import numpy as np
import pytest

from commonprior.aggregation import Summed, new_prior
from commonprior.canonical import decode, digest
from commonprior.errors import BudgetExhausted, InputError, ProtocolError, RunError
from commonprior.frame import open_frame, seal
from commonprior.identity import Identity
from commonprior.learners.ensemble import Ensemble
from commonprior.learners.maml import Maml
from commonprior.learners.online import Online
from commonprior.networks.mlp import Mlp
from commonprior.prior import Prior
from commonprior.recipe import Budget
from commonprior.round import Conversation, Failed
from commonprior.session import COORDINATOR
from commonprior.site import Context
from commonprior.site.memory import SiteLog
from commonprior.site.policy import Policy, read_policy, write_policy
from commonprior.sums.plain import Plain
from commonprior.training import start, train_rounds


def failed(training, number=1):
    outcome = training.coordinator._attempt(training.engine, number)
    assert isinstance(outcome, Failed)
    return outcome


@pytest.mark.parametrize(("policy", "words"), [
    (Policy(minimum_cohort=5), "wants 5 sites that it trusts"),
    (Policy(maximum_clip=1.0), "allows a clip of at most 1.0, the round has 10.0"),
    (Policy(minimum_noise=0.5), "wants noise of at least 0.5, the round has 0.0"),
    (Policy(learners=("dkt",)), "does not allow the learner maml, only dkt"),
    (Policy(networks=("conv1d",)), "does not allow the network mlp"),
], ids=lambda x: x if isinstance(x, str) else "")  # fmt: skip
def test_a_policy_refuses_before_the_run_begins(policy, words, make_recipe, run_of):
    with pytest.raises(RunError, match=f"0 of 4 sites joined. lab-0: lab-0 {words}"):
        run_of(make_recipe(policy=policy))


def test_an_insecure_sum_is_refused_unless_a_site_says_otherwise(make_recipe, run_of):
    with pytest.raises(RunError, match="takes part in secure sums only: not a secure sum"):
        run_of(make_recipe(sum=Plain()))


def test_only_identities_that_a_site_trusts_count(make_recipe, run_of):
    """Sybils: a coordinator fills the cohort with keys of its own; the site counts those it knows."""
    training = run_of(make_recipe(dropouts=1))
    wary = training.agents[0]
    wary.trusted = frozenset([wary.identity.key, training.agents[1].identity.key])
    outcome = training.coordinator._attempt(training.engine, 1)
    assert not isinstance(outcome, Failed)
    assert 0 not in outcome.entry.survivors


def test_colluders_are_taken_off_the_cohort(make_recipe, run_of):
    recipe = make_recipe()
    schedule = dataclasses.replace(recipe.schedule, colluders=2)
    with pytest.raises(RunError, match="2 assumed colluders taken off; here are 2"):
        run_of(dataclasses.replace(recipe, schedule=schedule))


def test_a_policy_file_round_trips_and_refuses_unknown_fields(tmp_path):
    path = tmp_path / "policy.toml"
    write_policy(Policy(minimum_cohort=4, learners=("maml",)), path)
    assert read_policy(path) == Policy(minimum_cohort=4, learners=("maml",))
    path.write_text("minimum_cohorts = 4")
    with pytest.raises(Exception, match="policy.toml: minimum_cohorts: unknown field; did you mean 'minimum_cohort'"):
        read_policy(path)
    path.write_text("minimum_cohort = 1")
    with pytest.raises(Exception, match="a sum of one hides nothing"):
        read_policy(path)


def test_spend_is_on_the_disk_before_the_sealed_bytes_leave(make_recipe, run_of):
    training = run_of(make_recipe(noise=2.0))
    agent = training.agents[0]
    seen = []
    original = agent.receive

    def spy(frame):
        before = len(SiteLog(training.run.site(agent.name))._of("spent"))
        answers = original(frame)
        after = len(SiteLog(training.run.site(agent.name))._of("spent"))
        seen.extend((before, after, decode(decode(answer)[0])[1]) for answer in answers)
        return answers

    training.engine.engine.engine = dataclasses.replace(
        training.engine.engine.engine, endpoints={**training.engine.engine.engine.endpoints, 0: spy})  # fmt: skip
    training.coordinator.step(training.engine)
    assert [phase for before, after, phase in seen if after > before] == ["masked"]
    assert "masked" in {phase for _, _, phase in seen}


def test_a_site_stops_at_its_own_budget_whatever_the_recipe_says(make_recipe, run_of):
    training = run_of(make_recipe(noise=3.0, rounds=50, policy=Policy(maximum_epsilon=4.0)))
    stopped = train_rounds(training)
    assert "over the budget of epsilon 4" in stopped
    done = training.coordinator.rounds_done
    assert 1 <= done < 50
    spent = training.agents[0].log.spent_so_far("site")
    assert spent.epsilon(1e-5) <= 4.0
    assert not training.agents[0].log._of("spent", done + 1)


def test_a_run_stops_before_it_would_overspend_and_says_what_is_left(make_recipe, run_of):
    training = run_of(make_recipe(noise=3.0, rounds=50, budget=Budget(epsilon=4.0)))
    stopped = train_rounds(training)
    assert "the run ends after" in stopped
    assert "left" in stopped
    assert 0 < training.coordinator.figures().epsilon <= 4.0
    with pytest.raises(BudgetExhausted, match="epsilon 0 at delta .* is spent of a budget of 0.1"):
        train_rounds(run_of(make_recipe(noise=3.0, budget=Budget(epsilon=0.1)), "poor"))


def test_a_restarted_site_counts_as_dropped_in_that_attempt(make_recipe, run_of, tmp_path):
    recipe = make_recipe(dropouts=1)
    training = run_of(recipe)
    agent = training.agents[2]
    restarted = []

    def forget(frame):
        answers = agent.receive(frame)
        if agent.log.last_attempt(1) == 0 and not restarted:
            agent._attempt = None  # what a restart leaves: the log, and no secrets
            restarted.append(True)
        return answers

    carrier = training.engine.engine
    carrier.engine = dataclasses.replace(carrier.engine, endpoints={**carrier.engine.endpoints, 2: forget})
    training.coordinator.step(training.engine)
    survivors = training.coordinator._journal.last_round.survivors
    assert survivors == (0, 1, 3)


def test_a_noiseless_retry_needs_the_identical_contributors(make_recipe, run_of):
    """Two sums over sets that differ by one site show that site's update: sites refuse to sign the second."""
    training = run_of(make_recipe(dropouts=1), lost=lambda seat, phase, count: phase == "unmask")
    first = failed(training)
    assert "unmask" in first.reason
    carrier = training.engine.engine
    carrier.lost = lambda seat, phase, count: seat == 3 and phase in ("invite", "keys")
    training.coordinator._agreed = lambda number: None  # a coordinator that does not keep to it
    second = failed(training)
    assert "consistency" in second.reason
    carrier.lost = lambda seat, phase, count: False
    third = training.coordinator._attempt(training.engine, 1)
    assert third.entry.survivors == (0, 1, 2, 3)


def test_a_noisy_retry_may_have_others_and_is_charged_again(make_recipe, run_of):
    training = run_of(make_recipe(noise=2.0, dropouts=1), lost=lambda seat, phase, count: phase == "unmask")
    failed(training)
    once = training.agents[0].log.spent_so_far("site").epsilon(1e-5)
    carrier = training.engine.engine
    carrier.lost = lambda seat, phase, count: seat == 3
    outcome = training.coordinator._attempt(training.engine, 1)
    assert outcome.entry.survivors == (0, 1, 2)
    assert training.agents[0].log.spent_so_far("site").epsilon(1e-5) > once
    assert outcome.entry.epsilon > once * 0.99


def test_a_coordinator_that_shows_different_priors_gets_no_sum(make_recipe, run_of):
    """Model inconsistency (Pasquini et al. 2022): the base prior is in the session, the session in every key."""
    training = run_of(make_recipe())
    carrier = training.engine.engine
    other = dataclasses.replace(carrier.engine)
    original = training.agents[1].receive
    elsewhere = run_of(make_recipe(), "elsewhere")
    carrier.engine = dataclasses.replace(other, endpoints={
        **other.endpoints, 1: lambda frame: original(frame) and elsewhere.agents[1].receive(frame)})  # fmt: skip
    outcome = failed(training)
    assert "expected at least 4" in outcome.reason


def test_a_site_knows_its_coordinator_its_roster_and_its_history(make_recipe, run_of):
    training = run_of(make_recipe())
    training.coordinator.step(training.engine)
    agent, journal = training.agents[0], training.coordinator._journal
    session = training.coordinator._session(2, 0, journal.opening.run, journal.head)
    stranger = Identity.generate()
    body = {"session": dataclasses.asdict(session), "prior": training.coordinator.prior.encode(),
            "record": journal.last_record}  # fmt: skip

    def ask(session, identity, **changes):
        talk = Conversation(training.engine, session, identity, 1.0, [0])
        frames = talk.to_all("invite", {**body, "session": dataclasses.asdict(session), **changes})
        talk.hold("invite", {0: frames[0]}, lambda seat, frame: None)
        return talk.refusals.get(0, "")

    own = training.coordinator._identity
    assert agent.receive(b"garbage") == []
    assert ask(dataclasses.replace(session, coordinator=stranger.key), stranger) == ""
    assert agent.log.last_attempt(2) == -1, "a stranger's invitation is no invitation"
    assert "hash that the session names" in ask(session, own, prior=elsewhere_prior(training))
    assert "do not belong together" in ask(dataclasses.replace(session, base=bytes(32)), own)
    assert "do not belong together" in ask(dataclasses.replace(session, head=bytes(32)), own)
    assert "another recipe" in ask(dataclasses.replace(session, recipe=bytes(32)), own)
    assert "length or encoding" in ask(dataclasses.replace(session, length=session.length + 1), own)
    first = next(iter(journal._log))
    past = dataclasses.replace(session, round=1, head=journal.entries[1].previous, base=journal.opening.prior)
    training.coordinator.step(training.engine)
    assert "gone on from round 1" in ask(past, own, record=first)


def elsewhere_prior(training):
    prior = training.coordinator.prior
    return prior._replace(params={k: v + 1 for k, v in prior.params.items()}).encode()


def ask_for_the_loss_of_many_priors(training, monkeypatch, forget=False):
    """Return the priors that lab-1 judges by its own tasks, and what it says, when it is shown four totals."""
    wary = training.agents[1]
    wary.policy, asked, told = dataclasses.replace(wary.policy, worst_loss=1.0), [], []
    wary.contributor.loss = lambda context, prior: asked.append(prior) or float(len(asked))
    agree = Conversation.agree

    def many(talk, phase, body, entry, seats):
        if phase == "acknowledge":
            attempt = wary._attempt
            session = attempt.session
            for seed in range(4):
                attempt.judged = b"" if forget else attempt.judged
                total = np.random.default_rng(seed).integers(-9, 9, session.length)
                words = total.astype(session.encoding.word).tobytes()
                summed = Summed(total[None], attempt.release, (4,))
                new, _ = new_prior(wary.terms.learner, attempt.mechanism, wary.terms.sum.grouping, attempt.prior,
                                   session.encoding, summed)  # fmt: skip
                other = dataclasses.replace(entry, sum=digest(words), prior=new.hash())
                frame = seal(talk._coordinator, session, phase, COORDINATOR, 1,
                             {"total": words, "entry": other.encode()})  # fmt: skip
                told.extend(open_frame(answer, session, COORDINATOR).body for answer in wary.receive(frame))
        return agree(talk, phase, body, entry, seats)

    monkeypatch.setattr(Conversation, "agree", many)
    training.coordinator._attempt(training.engine, 1)
    return asked, told


def test_attack_asking_for_the_loss_of_many_priors_succeeds_where_a_site_forgets_what_it_judged(
    make_recipe, run_of, monkeypatch
):
    asked, told = ask_for_the_loss_of_many_priors(run_of(make_recipe()), monkeypatch, forget=True)
    assert len(asked) == 8, "four answers about private tasks"
    assert all("own tasks lose more" in answer for answer in told)


def test_attack_asking_for_the_loss_of_many_priors(make_recipe, run_of, monkeypatch):
    """Under a masked sum a coordinator may say any total: each would have been one answer about private tasks."""
    asked, told = ask_for_the_loss_of_many_priors(run_of(make_recipe()), monkeypatch)
    assert len(asked) == 2, "the old prior and one new one"
    assert "own tasks lose more" in told[0]
    assert all("has judged another outcome of this attempt, and judges one" in answer for answer in told[1:])


def test_a_site_that_judges_by_its_own_tasks_takes_part_in_no_noised_round(make_recipe, run_of):
    with pytest.raises(RunError, match=r"worst_loss = 1.2.*which no noise hides and no epsilon counts"):
        run_of(make_recipe(noise=1.0, policy=Policy(worst_loss=1.2)))


@pytest.mark.parametrize("learner", [Ensemble(Maml(Mlp((4,))), 2), Online(Ensemble(Maml(Mlp((4,))), 2))])
def test_a_policy_looks_into_what_a_learner_is_made_of(learner, make_recipe, run_of):
    with pytest.raises(RunError, match="does not allow the network mlp"):
        run_of(make_recipe(learner=learner, policy=Policy(networks=("conv1d",))), "networks")
    own = "online" if isinstance(learner, Online) else "ensemble"
    with pytest.raises(RunError, match="does not allow the learner maml"):
        run_of(make_recipe(learner=learner, policy=Policy(learners=(own, "ensemble"))), "learners")


def test_a_prior_at_which_a_learner_fails_is_refused_in_a_sentence(make_recipe, run_of):
    training = run_of(make_recipe())
    agent = training.agents[1]

    def fails(*_):
        raise KeyError("step -6")

    agent.contributor.contribute = fails
    assert "lab-1 cannot work with its own tasks from this prior" in failed(training).refusals[1]


def test_a_rolled_back_site_is_brought_up_to_date_by_its_peers_signatures(make_recipe, run_of, tmp_path):
    """A site restored from an old backup: it lacks rounds, but their record carries a threshold of signatures."""
    recipe = make_recipe(rounds=3)
    training = run_of(recipe)
    backup = (training.run.site("lab-0") / "log.cbor").read_bytes()
    training.coordinator.step(training.engine)
    (training.run.site("lab-0") / "log.cbor").write_bytes(backup)
    again = start(recipe, training.run.path)
    train_rounds(again)
    assert again.coordinator.rounds_done == 3


def test_a_site_judges_the_aggregate_by_its_own_tasks(make_recipe, run_of):
    training = run_of(make_recipe())
    wary = training.agents[1]
    wary.policy = dataclasses.replace(wary.policy, worst_loss=1.0)
    losses = iter([1.0, 1.5, 1.5, 1.0])
    wary.contributor.loss = lambda context, prior: next(losses)
    refusal = failed(training).refusals[1]
    assert refusal == "lab-1's own tasks lose more under the new prior than its worst_loss allows"
    training.coordinator.step(training.engine)
    assert training.coordinator.rounds_done == 1
    with pytest.raises(InputError, match="worst_loss = 0.5: expected at least 1"):
        Policy(worst_loss=0.5)


@pytest.mark.parametrize(("change", "words"), [
    (lambda v: v * np.nan, "the prior's {} holds numbers that are not finite"),
    (lambda v: np.concatenate([v.ravel(), [1.0]]).astype(np.float32), "the prior's {} has shape"),
    (lambda v: None, "the prior's {} has shape nothing"),
], ids=["nan", "a shape", "missing"])  # fmt: skip
def test_a_first_prior_that_no_learner_made_is_refused_in_a_sentence(change, words, make_recipe, run_of):
    recipe = make_recipe()
    training = run_of(recipe)
    whole = training.coordinator.prior
    name = sorted(whole.params)[0]
    params = {k: change(v) if k == name else v for k, v in whole.params.items()}
    prior = Prior({k: v for k, v in params.items() if v is not None}, whole.state)
    context = Context(training.coordinator._session(1, 0, b"", b""), prior, training.coordinator._release(), 0)
    with pytest.raises(ProtocolError, match=re.escape(words.format(name))):
        training.agents[0].contributor.contribute(context, recipe.mechanism, {})
