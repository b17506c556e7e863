"""A search goes on where it was left, keeps what failed, and ends with a recipe that trains."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commonprior.errors import InputError, ModelError, RunError
from commonprior.learners.dkt import Dkt
from commonprior.networks.mlp import Mlp
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe, Schedule, read_recipe
from commonprior.site.policy import Policy
from commonprior.sums.masked import Masked
from commonprior.tasks.sinusoid import Sinusoid
from commonprior.tuning.space import changed, space_from
from commonprior.tuning.trials import Search, train_and_judge, tune

RECIPE = Recipe(
    Sinusoid(sites=3), Dkt(Mlp((8,)), features=4), DiscreteGaussian(clip=1.0, per="site"), Masked(),
    Schedule(rounds=2, tasks_per_site=2, shots=4, queries=4), policy=Policy(minimum_cohort=2),
)  # fmt: skip
SPACE = space_from({"learner.server.rate": {"low": 1e-4, "high": 1.0, "log": True},
                    "schedule.shots": {"low": 3, "high": 6, "integer": True}})  # fmt: skip


def judge(recipe):
    if recipe.schedule.shots == 6:
        raise ModelError("six is too many")
    return abs(np.log10(recipe.learner.server.rate) + 2), -1.0


def go(folder, count, seen=None, earlier=(), metric="nll"):
    search = Search(folder, SPACE, metric)
    return tune(RECIPE, None, search, earlier, count, lambda n, trial: None if seen is None else seen.append(n), judge)


def test_killed_and_gone_on_is_the_same_search(tmp_path):
    go(tmp_path / "whole", 7)
    seen = []
    go(tmp_path / "parts", 4, seen)
    go(tmp_path / "parts", 7, seen)
    assert seen == [1, 2, 3, 4, 5, 6, 7]

    def settings(name):
        return [json.loads(line)["settings"] for line in (tmp_path / name / "trials.jsonl").read_text().splitlines()]

    assert settings("parts") == settings("whole")


def test_the_best_settings_end_in_a_recipe(tmp_path):
    best = go(tmp_path, 8)
    assert read_recipe(tmp_path / "best.toml") == changed(RECIPE, best.settings)
    values = [t.value for t in Search(tmp_path, SPACE, "nll").trials() if t.value is not None]
    assert best.value == min(values)


def test_a_failed_trial_is_kept_with_its_reason_and_never_the_best(tmp_path):
    six = space_from({"schedule.shots": {"choices": [5, 6]}})
    search = Search(tmp_path, six, "nll")
    tune(RECIPE, None, search, (), 2, lambda n, trial: None, judge)
    errors = {t.settings["schedule.shots"]: t.error for t in search.trials()}
    assert errors == {5: "", 6: "six is too many"}
    assert search.best().settings == {"schedule.shots": 5}
    with pytest.raises(InputError, match="all 2 settings of the space have been tried"):
        tune(RECIPE, None, search, (), 3, lambda n, trial: None, judge)


def test_an_earlier_search_gives_the_first_guess(tmp_path):
    go(tmp_path / "earlier", 14)
    best = go(tmp_path / "next", 1, earlier=[Search(tmp_path / "earlier", SPACE, "nll")])
    assert best.value < 0.6


def test_a_real_trial_trains_and_is_judged_on_validation_tasks():
    family = RECIPE.tasks.load(None)
    value, epsilon = train_and_judge(RECIPE, family, "nll")
    longer, _ = train_and_judge(replace(RECIPE, schedule=replace(RECIPE.schedule, rounds=25)), family, "nll")
    assert longer < value
    assert epsilon == -1.0
    with pytest.raises(InputError, match="judged by coverage_90, nll, r2"):
        train_and_judge(RECIPE, family, "accuracy")


def test_bad_input_is_refused_before_anything_is_tried(tmp_path):
    with pytest.raises(InputError, match="--trials 0"):
        go(tmp_path / "a", 0)
    with pytest.raises(InputError, match="--metric 'luck'"):
        go(tmp_path / "a", 1, metric="luck")
    assert not (tmp_path / "a").exists()
    (tmp_path / "trials.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match="not a search's trials"):
        go(tmp_path, 1)
    other = Search(tmp_path / "other", space_from({"schedule.shots": {"low": 1, "high": 2}}), "nll")
    go(tmp_path / "b", 2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "trials.jsonl").write_text((tmp_path / "b" / "trials.jsonl").read_text())
    with pytest.raises(InputError, match="expected \\['schedule.shots'\\]"):
        go(tmp_path / "c", 1, earlier=[other])


def test_recipes_of_examples_can_be_tuned():
    recipe = read_recipe(Path(__file__).parents[2] / "examples" / "lnpdb.toml")
    assert changed(recipe, {"learner.server.rate": 0.5}).learner.server.rate == 0.5
