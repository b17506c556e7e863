"""Suggestions against closed forms, brute force and what a scientist would expect."""

import numpy as np
import pytest
from scipy import stats

from commonprior.errors import InputError, ModelError
from commonprior.learners.dkt import Dkt
from commonprior.learners.maml import Maml
from commonprior.networks.mlp import Mlp
from commonprior.predictor import LearnedPrior
from commonprior.sampling import generator, learning_key
from commonprior.suggestion import expected_improvement, pick, suggest
from commonprior.task import Batch, Gaussian, Target, TaskSpec

LINE = TaskSpec(Target(scaling="public"), shape=(1,))
CLASSES = TaskSpec(Target(kind="classification", classes=("a", "b")), shape=(1,))
GP, NET = Dkt(Mlp((8,)), terms=("values",)), Maml(Mlp((8,)))
KEY = learning_key(0, "suggest")


def learned(learner=GP, spec=LINE):
    return LearnedPrior(learner, learner.init(spec, KEY), spec)


def batch(x, y, kind=np.float32):
    return Batch(np.array(x, np.float32)[:, None], np.array(y, kind), np.ones(len(y), np.float32))


SUPPORT = batch([-1.0, 0.0, 1.0], [0.0, 0.5, 1.5])
CANDIDATES = np.linspace(-3, 3, 13, dtype=np.float32)[:, None]


@pytest.mark.parametrize("maximise", [True, False])
def test_expected_improvement_is_that_of_a_million_draws(maximise):
    prediction = Gaussian(np.array([0.0, 1.0, -2.0]), np.array([1.0, 0.25, 4.0]))
    draws = stats.norm.rvs(prediction.mean, np.sqrt(prediction.variance), (10**6, 3), random_state=0)
    gain = draws - 0.5 if maximise else 0.5 - draws
    expected = np.maximum(gain, 0)
    got = expected_improvement(prediction, 0.5, maximise)
    np.testing.assert_allclose(got, expected.mean(0), atol=5 * expected.std(0).max() / 1000)


def test_information_is_what_conditioning_on_each_candidate_gains():
    """A Gaussian process's variances do not depend on labels: condition on any, compare the entropies by hand."""
    prior = learned()
    got = suggest(prior, SUPPORT, CANDIDATES, KEY).information

    def entropy(support):
        adapted = prior.learner.adapt(prior.prior, support, KEY)
        variance = np.asarray(prior.learner.predict(prior.prior, adapted, CANDIDATES, KEY).variance, float)
        return stats.norm.entropy(scale=np.sqrt(variance)).mean()

    after = [entropy(batch([*SUPPORT.x[:, 0], x], [*SUPPORT.y, 7.0])) for x in CANDIDATES[:, 0]]
    np.testing.assert_allclose(got, entropy(SUPPORT) - np.array(after), atol=1e-4)
    assert got.max() > 2 * abs(got.min()), "some candidates must tell much more than others"


def test_far_from_all_samples_there_is_more_to_learn():
    information = suggest(learned(), SUPPORT, CANDIDATES, KEY).information
    assert np.abs(CANDIDATES[np.argmax(information), 0]) > 1.4
    assert np.abs(CANDIDATES[np.argmin(information), 0]) <= 1


def test_improvement_looks_up_or_down():
    up, down = (suggest(learned(), SUPPORT, CANDIDATES, KEY, maximise=m).improvement for m in (True, False))
    assert CANDIDATES[up.argmax(), 0] > 0 > CANDIDATES[down.argmax(), 0]


def test_units_of_labels_change_no_choice():
    spec = TaskSpec(Target(), shape=(1,))
    prior = learned(spec=spec)
    kelvin = SUPPORT._replace(y=SUPPORT.y * 40 + 300)
    a, b = (suggest(prior, s, CANDIDATES, KEY) for s in (SUPPORT, kelvin))
    np.testing.assert_allclose(b.improvement, 40 * a.improvement, rtol=1e-3)
    np.testing.assert_allclose(b.information, a.information, atol=1e-5)


@pytest.mark.parametrize("aim", ["improvement", "information"])
def test_a_batch_has_no_candidate_twice_and_begins_with_the_best(aim):
    prior = learned()
    chosen = pick(prior, SUPPORT, CANDIDATES, KEY, 4, aim)
    assert len(set(chosen)) == 4
    assert chosen[0] == np.argmax(getattr(suggest(prior, SUPPORT, CANDIDATES, KEY), aim))


def test_a_batch_spreads_where_the_single_best_ones_are_neighbours():
    near = np.array([[2.9], [2.95], [3.0], [-3.0]], np.float32)
    alone = np.argsort(-suggest(learned(), SUPPORT, near, KEY).information)[:2]
    assert set(alone) <= {0, 1, 2}
    assert 3 in pick(learned(), SUPPORT, near, KEY, 2, "information")


def test_any_learner_suggests_also_between_classes():
    support = batch([-1, 1, 0.5], [0, 1, 1], np.int32)
    judged = suggest(learned(NET, CLASSES), support, CANDIDATES, KEY)
    assert judged.improvement is None
    assert np.isfinite(judged.information).all()
    assert np.ptp(judged.information) > 0
    assert len(pick(learned(GP, CLASSES), support, CANDIDATES, KEY, 3, "information")) == 3


def test_many_candidates_are_judged_as_few():
    """More than one chunk, and more than the reference: the last chunk is shorter."""
    rng = generator(0)
    many = rng.normal(size=(300, 1)).astype(np.float32)
    judged = suggest(learned(), SUPPORT, many, KEY, information=False)
    few = suggest(learned(), SUPPORT, many[:7], KEY, information=False)
    np.testing.assert_allclose(judged.improvement[:7], few.improvement, rtol=1e-4)
    assert judged.information is None


def test_padding_changes_nothing():
    padded = Batch(*(np.concatenate([leaf, 9 * np.ones_like(leaf[:2])]) for leaf in SUPPORT[:2]),
                   np.array([1, 1, 1, 0, 0], np.float32))  # fmt: skip
    for a, b in zip(*(suggest(learned(), s, CANDIDATES, KEY)[1:] for s in (SUPPORT, padded)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: suggest(learned(), SUPPORT._replace(mask=np.zeros(3)), CANDIDATES, KEY), "at least one labelled"),
        (lambda: suggest(learned(), SUPPORT, CANDIDATES[:0], KEY), "one candidate"),
        (lambda: pick(learned(), SUPPORT, CANDIDATES, KEY, 14, "improvement"), "count = 14: expected 1 to 13"),
        (lambda: pick(learned(spec=CLASSES), batch([0], [0], np.int32), CANDIDATES, KEY, 2, "improvement"), "classes"),
        (lambda: suggest(learned(), SUPPORT, np.zeros((2, 3), np.float32), KEY), "samples of shape"),
    ],
)
def test_what_cannot_be_judged_is_refused(bad, words):
    with pytest.raises((InputError, ModelError), match=words):
        bad()


def test_a_learner_that_is_as_sure_everywhere_chooses_nothing_by_information():
    with pytest.raises(InputError, match="information is alike for all candidates: the learner says one variance"):
        pick(learned(NET), SUPPORT, CANDIDATES, KEY, 2, "information")
    assert len(pick(learned(NET), SUPPORT, CANDIDATES, KEY, 2, "improvement")) == 2


def test_a_prediction_without_any_doubt_promises_nothing_or_its_lead():
    sure = Gaussian(np.array([1.0, 2.0, 0.0]), np.zeros(3))
    np.testing.assert_array_equal(expected_improvement(sure, 1.0, True), [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(expected_improvement(sure, 1.0, False), [0.0, 0.0, 1.0])
