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
from commonprior.training import start, train, train_rounds

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
    spent = Purse(run, recipe).spent(1e-5)
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
    train_rounds(training)
    assert Purse(training.run.path, recipe).spent(recipe.budget.delta) == pytest.approx(true)


def with_policy(run, **rules):
    file = RunFolder(run).site("site-2") / "policy.toml"
    write_policy(dataclasses.replace(read_policy(file), **rules), file)


def ask(run, recipe):
    purse = Purse(run, recipe)
    return purse, lambda: purse.ask("diversity", Diversity(recipe.learner), 1, recipe.tasks.load(None))


def test_a_site_s_own_rules_hold_in_a_survey(tmp_path):
    recipe, run = trained(tmp_path, 20.0)
    purse, asking = ask(run, recipe)
    spent, copy = purse.spent(1e-5), RunFolder(run / "surveys" / "diversity").site("site-2") / "policy.toml"
    with_policy(run, maximum_epsilon=spent / 2)
    with pytest.raises(BudgetExhausted, match="site-2: the next release would bring"):
        asking()
    with_policy(run, maximum_epsilon=spent + 5.0, minimum_noise=9.0)
    with pytest.raises(RunError, match=r"site-2 wants noise of at least 9"):
        asking()
    assert read_policy(copy).maximum_epsilon == pytest.approx(5.0)


def test_attack_a_survey_at_a_delta_at_which_nothing_seems_spent(tmp_path):
    """A site's own limit holds at its own delta, in what training cost as in what surveys do."""
    (tmp_path / "waves.toml").write_text(WAVES.format(epsilon="20.0, delta = 0.2"))
    recipe = read_recipe(tmp_path / "waves.toml")
    train(recipe, tmp_path / "run", None)
    purse, asking = ask(tmp_path / "run", recipe)
    assert purse.spent(0.2) < 0.1 < 0.5 < purse.spent(1e-5), "the weak measure would find next to nothing spent"
    with_policy(tmp_path / "run", maximum_epsilon=purse.spent(1e-5) + 0.01)
    with pytest.raises(BudgetExhausted, match="site-2: the next release would bring"):
        asking()
    often = dataclasses.replace(recipe, budget=Budget(epsilon=20.0, delta=0.6))
    with pytest.raises(BudgetExhausted, match=r"at delta 6e-01; nothing is left"):
        ask(tmp_path / "run", often)[1]()


def test_one_site_whose_budget_is_spent_does_not_end_everybody_s_survey(tmp_path):
    (tmp_path / "waves.toml").write_text(
        WAVES.format(epsilon=20.0).replace("rounds = 2", "dropouts = 1, rounds = 2").replace("= 4 }}", "= 4 }}")
    )
    recipe = read_recipe(tmp_path / "waves.toml")
    train(recipe, tmp_path / "run", None)
    with_policy(tmp_path / "run", maximum_epsilon=1e-3)
    ask(tmp_path / "run", recipe)[1]()


def test_a_survey_follows_a_mechanism_that_has_moved(tmp_path):
    moving = 'per = "site", adaptive = { quantile = 0.5 }, sparsity = { keep = 0.5 }'
    (tmp_path / "waves.toml").write_text(WAVES.format(epsilon=40.0).replace('per = "site"', moving))
    recipe = read_recipe(tmp_path / "waves.toml")
    train(recipe, tmp_path / "run", None)
    survey(tmp_path / "run", None, Console(file=io.StringIO()), None)


def test_without_noise_there_is_no_budget(tmp_path):
    (tmp_path / "waves.toml").write_text(WAVES.format(epsilon=0.0).replace("noise = 8.0", "noise = 0.0"))
    recipe = read_recipe(tmp_path / "waves.toml")
    train(dataclasses.replace(recipe, schedule=Schedule(1, 2, 4, 6)), tmp_path / "run", None)
    assert Purse(tmp_path / "run", recipe).total() == "no differential privacy (no noise)"
