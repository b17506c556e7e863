"""What one site of a run may do to all others' run, and what its refusals end: nothing that it alone could end."""

import dataclasses
import os

import pytest

from commonprior.canonical import decode
from commonprior.errors import BudgetExhausted, RecipeError, RunError
from commonprior.frame import seal
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe, Schedule
from commonprior.session import COORDINATOR
from commonprior.sums.grouped import Grouped
from commonprior.sums.masked import Masked
from commonprior.task import Column
from commonprior.tasks.table import Table
from commonprior.training import start, train_rounds

BAD = 4


def bad_site(training, phase, say, at=BAD, when=lambda session: True):
    """Let a site answer a phase as it likes: `say(agent, answers)` are its frames."""
    agent, inner = training.agents[at], training.engine.engine.engine
    honest = agent.receive

    def receive(frame):
        answers = list(honest(frame))
        if (
            answers
            and decode(decode(answers[0])[0])[1] == phase
            and agent._attempt is not None
            and when(agent._attempt.session)
        ):
            return say(agent, answers)
        return answers

    training.engine.engine.engine = dataclasses.replace(inner, endpoints={**inner.endpoints, at: receive})


def again(agent, answer, change):
    """Sign an answer's body anew, changed."""
    phase, body = decode(decode(answer)[0])[1], decode(decode(answer)[0])[4]
    session = agent._attempt.session
    return seal(agent.identity, session, phase, session.seat_of(agent.identity.key), COORDINATOR, change(body))


def other_keys(agent, answers):
    return [*answers, again(agent, answers[0], lambda b: {**b, "mask": b["channel"], "channel": b["mask"]})]


def spent(agent, answers):
    why = "budget: no epsilon left"
    return [*other_keys(agent, answers), seal(agent.identity, agent._attempt.session, "refuse", BAD, COORDINATOR, why)]


@pytest.mark.parametrize("say", [other_keys, spent], ids=["two sets of keys", "and its budget is spent"])
def test_attack_one_site_that_breaks_every_attempt(make_recipe, run_of, say):
    """It is named, and the round is held without it; nor does what it says of its budget end everybody's run."""
    training = run_of(make_recipe(sites=5, dropouts=1, noise=4.0))
    bad_site(training, "keys", say)
    assert train_rounds(training) == ""
    assert [BAD in entry.survivors for entry in training.coordinator._journal.entries[1:]] == [False, False]


def test_attack_one_site_that_breaks_every_attempt_succeeds_where_nobody_is_left_out(make_recipe, run_of, monkeypatch):
    training = run_of(make_recipe(sites=5, dropouts=1, noise=4.0))
    bad_site(training, "keys", other_keys)
    attempt = training.coordinator._attempt
    monkeypatch.setattr(training.coordinator, "_attempt", lambda engine, number, broke: attempt(engine, number))
    with pytest.raises(RunError, match="round 1 failed 4 times"):
        train_rounds(training)


def test_more_sites_than_may_drop_out_end_a_run_by_their_budgets(make_recipe, run_of):
    training = run_of(make_recipe(sites=5, dropouts=1, noise=4.0))
    for agent in training.agents[:2]:
        agent.policy = dataclasses.replace(agent.policy, maximum_epsilon=1e-3)
    with pytest.raises(BudgetExhausted, match=r"^lab-0: the next release would bring"):
        training.coordinator.step(training.engine)


def test_attack_a_commitment_that_nobody_could_relay(make_recipe, run_of):
    """Thousands of bytes in the place of a hash: every site would refuse them, and nobody would be named."""
    recipe = make_recipe(sites=15, dropouts=1, noise=4.0, sum=Grouped(3, Masked(), dropouts=1))
    training = run_of(recipe)
    bad_site(training, "group-commit", lambda agent, answers: [again(agent, answers[0], lambda _: os.urandom(5000))])
    assert train_rounds(training) == ""
    assert all(BAD not in entry.survivors for entry in training.coordinator._journal.entries[1:])


def test_attack_a_site_that_commits_to_a_draw_and_says_no_more(make_recipe, run_of):
    """Nobody can draw without it, and every attempt would end there: the next one is held without it."""
    training = run_of(make_recipe(sites=15, dropouts=1, noise=4.0, sum=Grouped(3, Masked(), dropouts=1)))
    bad_site(training, "group-reveal", lambda agent, answers: [])
    assert train_rounds(training) == ""
    assert all(BAD not in entry.survivors for entry in training.coordinator._journal.entries[1:])


def test_as_many_liars_as_attempts_do_not_use_them_up(make_recipe, run_of):
    training = run_of(make_recipe(sites=9, dropouts=3, noise=4.0))
    for at in (4, 5, 6):
        bad_site(training, "keys", other_keys, at, lambda session, at=at: session.attempt == at - 4)
    assert train_rounds(training) == ""


def test_attack_one_task_in_the_rows_of_all_others(tmp_path):
    """Numbers that a site scales by all of its rows carry each task into every other: no noise is sized for that."""
    rows = [f"{site},t{t},{t + row / 7},{row % 5}\n" for site in "abc" for t in range(3) for row in range(12)]
    (tmp_path / "data.csv").write_text("site,task,x,y\n" + "".join(rows))

    def recipe(column, per):
        return Recipe(
            Table("y", "task", "data.csv", site="site", columns=(column,), target_kind="regression",
                  valid_fraction=0.0, test_fraction=0.0),
            Maml(Mlp((4,))), DiscreteGaussian(1.0, 1.0, per), Masked(), Schedule(1, 2, 3, 3),
        )  # fmt: skip

    def begin(recipe, name):
        return start(recipe, tmp_path / name, family=recipe.tasks.load(tmp_path))

    own, public = Column("x"), Column("x", centre=0.0, spread=3.0)
    with pytest.raises(RecipeError, match=r'per = "task" with columns that a site scales by all of its rows \(x\)'):
        begin(recipe(own, "task"), "run")
    begin(recipe(public, "task"), "run")
    begin(recipe(own, "site"), "site")
