"""What the surveys of a run may spend: what its training has left, together."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from commonprior.errors import BudgetExhausted, CommonPriorError, RunError
from commonprior.ledger.journal import Journal
from commonprior.recipe import Budget, Schedule, read_recipe
from commonprior.runfolder import RunFolder
from commonprior.site.policy import read_policy, write_policy
from commonprior.surveying import Purse, survey
from commonprior.surveys.diversity import Diversity
from commonprior.training import start, train

WAVES = """
tasks = {{ kind = "sinusoid", sites = 4 }}
learner = {{ kind = "dkt", features = 4, network = {{ kind = "mlp", widths = [8] }} }}
mechanism = {{ kind = "discrete_gaussian", clip = 1.0, noise = 8.0, per = "site" }}
sum = {{ kind = "masked" }}
schedule = {{ rounds = 2, tasks_per_site = 2, shots = 4, queries = 6 }}
policy = {{ minimum_cohort = 2 }}
budget = {{ epsilon = {epsilon} }}
"""


def trained(tmp_path, epsilon):
    (tmp_path / "waves.toml").write_text(WAVES.format(epsilon=epsilon))
    recipe = read_recipe(tmp_path / "waves.toml")
    train(recipe, tmp_path / "run", None)
    return recipe, tmp_path / "run"


def test_surveys_and_training_spend_from_one_budget(tmp_path):
    _, run = trained(tmp_path, 20.0)
    told = tmp_path / "told.json"
    survey(run, None, Console(file=io.StringIO()), told)
    figures = json.loads(told.read_text())
    assert "with the training" in figures["privacy"]
    assert "delta 4e-05" in figures["privacy"]
    total = float(figures["privacy"].split("epsilon ")[1].split(" ")[0])
    folders = [run, *(run / "surveys" / name for name in ("diversity", "novelty", "calibration"))]
    spent = [Journal(RunFolder(folder).journal).last_round.epsilon for folder in folders]
    assert all(cost > 0 for cost in spent)
    assert total == pytest.approx(sum(spent), rel=0.01)


def test_nothing_is_asked_where_nothing_is_left(tmp_path):
    recipe, run = trained(tmp_path, 20.0)
    spent = Purse(run, recipe)._costs[0]
    short = dataclasses.replace(recipe, budget=Budget(epsilon=spent))
    question = Diversity(recipe.learner)
    with pytest.raises(BudgetExhausted, match="have spent epsilon .* nothing is left to ask about diversity"):
        Purse(run, short).ask("diversity", question, 1, recipe.tasks.load(None))
    little = dataclasses.replace(recipe, budget=Budget(epsilon=spent + 1e-3))
    with pytest.raises(CommonPriorError):
        Purse(run, little).ask("diversity", question, 1, recipe.tasks.load(None))
    assert not (run / "surveys" / "figures.json").exists()


def test_attack_a_survey_before_the_training_has_ended(tmp_path):
    """Asked half-way, it would spend what the rounds to come spend once more."""
    (tmp_path / "waves.toml").write_text(WAVES.format(epsilon=20.0))
    recipe = read_recipe(tmp_path / "waves.toml")
    training = start(recipe, tmp_path / "run")
    with pytest.raises(RunError, match="no round is finished yet"):
        Purse(tmp_path / "run", recipe)
    training.coordinator.step(training.engine)
    with pytest.raises(RunError, match="1 of 2 rounds are done; let the training end first"):
        Purse(tmp_path / "run", recipe)


def test_attempts_that_came_to_nothing_are_counted(tmp_path, run_of):
    (tmp_path / "waves.toml").write_text(WAVES.format(epsilon=20.0))
    recipe = read_recipe(tmp_path / "waves.toml")
    recipe = dataclasses.replace(recipe, schedule=dataclasses.replace(recipe.schedule, rounds=1, attempts=2))
    training = run_of(recipe, lost=lambda seat, phase, count: phase == "unmask")
    for _ in range(2):
        with pytest.raises(RunError, match="failed 2 times"):
            training.coordinator.step(training.engine)
    training.engine.engine.lost = lambda seat, phase, count: False
    training.coordinator.step(training.engine)
    true = training.agents[0].log.spent_so_far("site").epsilon(recipe.budget.delta)
    assert len(training.agents[0].log._of("spent")) == 5
    assert Purse(training.run.path, recipe)._costs == [pytest.approx(true)]


def test_a_site_s_own_rules_hold_in_a_survey(tmp_path):
    recipe, run = trained(tmp_path, 20.0)
    purse = Purse(run, recipe)
    file = RunFolder(run).site("site-2") / "policy.toml"
    spent = purse._costs[0]
    write_policy(dataclasses.replace(read_policy(file), maximum_epsilon=spent / 2), file)
    with pytest.raises(BudgetExhausted, match=r"site-2 allows an epsilon of .*nothing is left to ask about"):
        purse.ask("diversity", Diversity(recipe.learner), 1, recipe.tasks.load(None))
    write_policy(dataclasses.replace(read_policy(file), maximum_epsilon=spent + 5.0, minimum_noise=9.0), file)
    with pytest.raises(RunError, match=r"site-2 wants noise of at least 9"):
        purse.ask("diversity", Diversity(recipe.learner), 1, recipe.tasks.load(None))
    copied = read_policy(RunFolder(run / "surveys" / "diversity").site("site-2") / "policy.toml")
    assert copied.maximum_epsilon == pytest.approx(5.0)


def test_without_noise_there_is_no_budget(tmp_path):
    (tmp_path / "waves.toml").write_text(WAVES.format(epsilon=0.0).replace("noise = 8.0", "noise = 0.0"))
    recipe = read_recipe(tmp_path / "waves.toml")
    train(dataclasses.replace(recipe, schedule=Schedule(1, 2, 4, 6)), tmp_path / "run", None)
    assert Purse(tmp_path / "run", recipe).total() == "no differential privacy (no noise)"
