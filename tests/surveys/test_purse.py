"""What the surveys of a run may spend: what its training has left, together."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from commonprior.errors import BudgetExhausted, CommonPriorError
from commonprior.ledger.journal import Journal
from commonprior.recipe import Budget, Schedule, read_recipe
from commonprior.runfolder import RunFolder
from commonprior.surveying import Purse, survey
from commonprior.surveys.diversity import Diversity
from commonprior.training import train

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


def test_without_noise_there_is_no_budget(tmp_path):
    (tmp_path / "waves.toml").write_text(WAVES.format(epsilon=0.0).replace("noise = 8.0", "noise = 0.0"))
    recipe = read_recipe(tmp_path / "waves.toml")
    train(dataclasses.replace(recipe, schedule=Schedule(1, 2, 4, 6)), tmp_path / "run", None)
    assert Purse(tmp_path / "run", recipe).total() == "no differential privacy (no noise)"
