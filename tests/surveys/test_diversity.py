"""Directions counted by hand, and by a federation whose tasks are alike, or are not."""

import jax
import numpy as np
import pytest

from commonprior.learners.dkt import Dkt
from commonprior.learners.ensemble import Ensemble
from commonprior.learners.in_context import InContext
from commonprior.learners.population import Population
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior
from commonprior.privacy.discrete_gaussian import DiscreteGaussian
from commonprior.recipe import Recipe, Schedule
from commonprior.sampling import generator, learning_key
from commonprior.site.policy import Policy
from commonprior.sums.masked import Masked
from commonprior.surveys.conduct import conduct
from commonprior.surveys.diversity import Diversity
from commonprior.task import Batch, Column, Rows, Target, Task, TaskSpec
from commonprior.tasks import Family

GP = Dkt(Mlp((8,)), terms=("values",))
SPEC = TaskSpec(Target(scaling="public"), shape=(1,))


class Waves:
    """A pool of one noisy curve: of all curves one, two, or any phase."""

    def __init__(self, name, phase):
        self.name, self.size, self._phase, self._sign = name, 10_000, abs(phase), -1.0 if phase < 0 else 1.0

    def episode(self, rng, shots, queries):
        x = rng.uniform(-3, 3, (shots + queries, 1)).astype(np.float32)
        y = (self._sign * np.sin(x[:, 0] + self._phase) + 0.1 * rng.normal(size=len(x))).astype(np.float32)
        mask = np.ones(len(x), np.float32)
        return Task(*(Batch(x[s], y[s], mask[s]) for s in (slice(shots), slice(shots, None))))


def family(phases):
    pools = {f"site {i}": [Waves(f"{i}/{j}", phases(i * 8 + j)) for j in range(8)] for i in range(4)}
    return Family(SPEC, pools, {}, {})


def asked(phases, tmp_path):
    survey = Diversity(GP)
    recipe = Recipe(
        None, survey, DiscreteGaussian(clip=1.0, per="site"), Masked(),
        Schedule(rounds=1, tasks_per_site=8, shots=8, queries=60), policy=Policy(minimum_cohort=2),
    )  # fmt: skip
    return survey.directions(conduct(recipe, tmp_path / "survey", family(phases))[0])


@pytest.mark.parametrize(
    ("phases", "least", "most", "alike"),
    [
        (lambda i: 0.0, 1.0, 1.2, True),
        (lambda i: 1e-9 * (-1) ** i, 1.0, 1.2, False),
        (lambda i: i * np.pi / 2 * (i % 2), 1.5, 2.3, False),
        (lambda i: i * 0.7, 1.7, 2.6, False),
    ],
    ids=["one curve", "one curve, or its opposite", "two curves", "any phase: a sine and a cosine"],
)
def test_a_federation_counts_the_directions_of_its_curves(phases, least, most, alike, tmp_path, monkeypatch):
    monkeypatch.setattr(Recipe, "table", lambda self: {"of": "tests"})
    monkeypatch.setattr("commonprior.runfolder.to_toml", lambda recipe: 'of = "tests"')
    got = asked(phases, tmp_path)
    assert least <= got.effective_rank <= most
    assert got.alike == alike
    assert (got.common > 0.9) if alike else (got.common < 0.7)
    assert ("go either way along it" in got.sentence) == (most < 1.5 and not alike)
    assert f"{got.effective_rank:.1f} directions" in got.sentence


def test_small_noisy_supports_do_not_look_like_many_directions():
    """The product of two independent supports: noise alone has no second moment."""
    survey, rng = Diversity(GP, features=12), generator(0)
    prior = survey.init(SPEC, learning_key(0))

    def noise(m):
        x = rng.uniform(-3, 3, (m, 40, 1)).astype(np.float32)
        y = rng.normal(size=(m, 40)).astype(np.float32)
        mask = np.ones_like(y)
        return Task(*(Batch(x[:, s], y[:, s], mask[:, s]) for s in (slice(8), slice(8, None))))

    answers = np.stack([survey.answer(prior, noise(16)) for _ in range(12)])
    spread = answers.std(0, ddof=1) / np.sqrt(12)
    assert (np.abs(answers.mean(0)) < 4.5 * spread).all()


def test_answers_have_norm_at_most_one():
    survey, rng = Diversity(GP, features=12), generator(1)
    prior = survey.about(LearnedPrior(GP, GP.init(SPEC, learning_key(0)), SPEC))
    x = rng.normal(size=(4, 20, 1)).astype(np.float32)
    y = 1e4 * rng.normal(size=(4, 20)).astype(np.float32)
    task = Task(*(Batch(x[:, s], y[:, s], np.ones_like(y[:, s])) for s in (slice(8), slice(8, None))))
    assert 0 < np.linalg.norm(survey.answer(prior, task)) <= 1


def test_effective_rank_of_known_spectra():
    survey = Diversity(GP, features=4)

    def rank(values):
        rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
        moment = rotation @ np.diag(values) @ rotation.T
        prior, answer = survey.init(SPEC, learning_key(0)), np.append(moment[np.triu_indices(4)], np.zeros(4))
        return survey.directions(survey.apply(prior, answer, None)).effective_rank

    assert rank([0.1, 0, 0, 0]) == pytest.approx(1, abs=1e-3)
    assert rank([0.1, 0.1, 0.1, 0.1]) == pytest.approx(4, rel=1e-4)
    assert rank([0.3, 0.1, 0, 0]) == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)), rel=1e-3)


@pytest.mark.parametrize("learner", [InContext(), Ensemble(InContext(), 2), Population(Mlp((8,)), members=4)])
def test_a_prior_that_is_more_than_parameters_is_asked_about_too(learner):
    spec = TaskSpec(Target(scaling="public"), columns=(Column("x", "numeric"),))
    survey, prior = Diversity(learner, features=6), learner.init(spec, learning_key(0))
    x = generator(0).normal(size=(2, 20, 1)).astype(np.float32)
    rows = Rows(x, np.ones_like(x), np.zeros((2, 20, 0), np.float32))
    y = x[..., 0]
    task = Task(*(jax.tree.map(lambda leaf, s=s: leaf[:, s], Batch(rows, y, np.ones_like(y)))
                  for s in (slice(8), slice(8, None))))  # fmt: skip
    assert np.isfinite(survey.answer(survey.about(LearnedPrior(learner, prior, spec)), task)).all()
