"""Points of the unit cube and settings of a recipe are two ways of saying one thing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonprior.errors import RecipeError
from commonprior.recipe import read_recipe
from commonprior.tuning.space import Dimension, changed, read_space, space_from

RECIPE = Path(__file__).parents[2] / "examples" / "nanothermal.toml"
TABLE = {
    "learner.server.rate": {"low": 1e-4, "high": 0.1, "log": True},
    "learner.features": {"low": 4, "high": 64, "log": True, "integer": True},
    "learner.terms": {"choices": [["deep"], ["deep", "values"]]},
    "schedule.shots": {"low": 3, "high": 9, "integer": True},
}


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_settings_are_inside_and_come_back_as_the_same_settings(point):
    space = space_from(TABLE)
    settings = space.settings(np.array(point))
    assert 1e-4 <= settings["learner.server.rate"] <= 0.1
    assert type(settings["learner.features"]) is int
    assert 4 <= settings["learner.features"] <= 64
    assert settings["learner.terms"] in (["deep"], ["deep", "values"])
    again = space.settings(space.point(settings))
    assert again.pop("learner.server.rate") == pytest.approx(settings.pop("learner.server.rate"))
    assert again == settings


def test_a_logarithm_puts_the_middle_at_the_geometric_mean():
    assert Dimension(1e-4, 1e-2, log=True).value(np.array([0.5])) == pytest.approx(1e-3)
    assert Dimension(0, 10).value(np.array([0.5])) == 5


def test_a_recipe_changes_where_settings_say_and_nowhere_else():
    recipe = read_recipe(RECIPE)
    new = changed(recipe, {"learner.features": 7, "schedule.shots": 4})
    assert (new.learner.features, new.schedule.shots) == (7, 4)
    assert (
        changed(new, {"learner.features": recipe.learner.features, "schedule.shots": recipe.schedule.shots}) == recipe
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "names no field"),
        ({"learner": 3}, "learner: expected a table with low and high"),
        ({"a": {"low": 1, "hihg": 2}}, "hihg: unknown field; did you mean 'high'"),
        ({"a": {"low": 2.0, "high": 1.0}}, "low = 2.0 and high = 1.0"),
        ({"a": {"low": 0.0, "high": 1.0, "log": True}}, "a logarithm needs a number above 0"),
        ({"a": {"choices": [1]}}, "expected at least two"),
        ({"a": {"choices": [1, 2], "low": 1.0}}, "either choices or low and high"),
    ],
)
def test_a_bad_space_is_one_sentence(table, words):
    with pytest.raises(RecipeError, match=words):
        space_from(table)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learner.fetures": 3}, "fetures: unknown field; did you mean 'features'"),
        ({"lerner.features": 3}, "lerner.features: the recipe has no such field"),
        ({"learner.features": 0}, "features = 0: expected at least 1"),
    ],
)
def test_a_field_that_the_recipe_does_not_have_is_named(settings, words):
    with pytest.raises(RecipeError, match=words):
        changed(read_recipe(RECIPE), settings)


def test_a_space_file_is_toml(tmp_path):
    (tmp_path / "space.toml").write_text('["learner.features"]\nlow = 4\nhigh = 8\ninteger = true\n')
    ((name, dimension),) = read_space(tmp_path / "space.toml").dimensions
    assert (name, dimension.value(np.array([1.0]))) == ("learner.features", 8)
