from dataclasses import dataclass

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from sklearn import metrics

from commonprior.errors import DataError, ModelError
from commonprior.evaluation import compare, draws, score, summary
from commonprior.predictor import Predictor
from commonprior.task import Batch, Categorical, Gaussian, Task


@dataclass(frozen=True)
class Noisy:
    """y = slope · x + noise."""

    name: str
    slope: float = 1.0
    size: int = 60

    def episode(self, rng: np.random.Generator, shots: int, queries: int) -> Task:
        def batch(n: int) -> Batch:
            x = rng.normal(size=(n, 1)).astype(np.float32)
            y = (self.slope * x[:, 0] + rng.normal(size=n)).astype(np.float32)
            return Batch(x, y, np.ones(n, np.float32))

        return Task(batch(shots), batch(queries))


class Fixed(Predictor):
    """Predicts `factor` · x + the support's mean, and a little of its key's noise."""

    def __init__(self, factor: float, jitter: float = 0.0):
        self.factor, self.jitter, self.seen = factor, jitter, []

    def adapt(self, supports, keys):
        self.seen += [s.tobytes() for s in np.asarray(supports.x)]
        return np.asarray(supports.y).mean(1)

    def predict(self, adapted, x, keys):
        noise = np.array([jax.random.normal(key) for key in keys]) if self.jitter else np.zeros(len(adapted))
        mean = self.factor * x[..., 0] + (adapted + self.jitter * noise)[:, None]
        return Gaussian(mean, np.ones_like(mean))


def pools(*tasks):
    return {"lab-b": [Noisy(f"t{i}", 2.0) for i in range(tasks[0])], "lab-a": [Noisy(f"t{i}") for i in range(tasks[1])]}


def padded(rng, n, extra):
    return Batch(None, rng.normal(size=n + extra), np.r_[np.ones(n), np.zeros(extra)])


def test_regression_metrics_are_those_of_sklearn_and_scipy():
    rng = np.random.default_rng(0)
    query = padded(rng, 40, 7)
    mean, variance = query.y + rng.normal(size=47), rng.uniform(0.2, 2, 47)
    mean[40:] = np.nan
    got = score(Gaussian(mean, variance), query)
    y, m, v = query.y[:40], mean[:40], variance[:40]
    assert set(got) == {"r2", "rmse", "spearman", "nll", "coverage_90"}
    assert got["r2"] == pytest.approx(metrics.r2_score(y, m))
    assert got["rmse"] == pytest.approx(metrics.root_mean_squared_error(y, m))
    assert got["spearman"] == pytest.approx(stats.spearmanr(y, m).statistic)
    assert got["nll"] == pytest.approx(-stats.norm(m, np.sqrt(v)).logpdf(y).mean())
    low, high = stats.norm(m, np.sqrt(v)).interval(0.9)
    assert got["coverage_90"] == pytest.approx(((low <= y) & (y <= high)).mean())


def test_ties_share_their_rank():
    y, mean = np.array([1.0, 2, 2, 3, 5]), np.array([0.0, 0, 1, 1, 2])
    got = score(Gaussian(mean, np.ones(5)), Batch(None, y, np.ones(5)))
    assert got["spearman"] == pytest.approx(stats.spearmanr(y, mean).statistic)


def test_nine_in_ten_labels_lie_in_the_interval_of_whoever_knows_their_law():
    rng = np.random.default_rng(1)
    mean, variance = rng.normal(size=40000), rng.uniform(0.1, 3, 40000)
    y = rng.normal(mean, np.sqrt(variance))
    ones = np.ones(40000)
    assert score(Gaussian(mean, variance), Batch(None, y, ones))["coverage_90"] == pytest.approx(0.9, abs=0.005)
    assert score(Gaussian(mean, variance / 4), Batch(None, y, ones))["coverage_90"] < 0.65


def test_what_is_all_equal_has_no_rank_and_no_nan():
    y, flat, ones = np.arange(5.0), np.full(5, 2.0), np.ones(5)
    assert score(Gaussian(flat, ones), Batch(None, y, ones))["spearman"] == 0
    assert score(Gaussian(flat, ones), Batch(None, y, ones))["r2"] == pytest.approx(0)
    missed = score(Gaussian(y, ones), Batch(None, flat, ones))
    assert (missed["spearman"], missed["r2"]) == (0, 0)
    assert score(Gaussian(flat, ones), Batch(None, flat, ones))["r2"] == 1
    assert score(Gaussian(flat[:1], ones[:1]), Batch(None, y[:1], ones[:1]))["spearman"] == 0


def test_binary_metrics_are_those_of_sklearn():
    rng = np.random.default_rng(2)
    query = Batch(None, rng.integers(0, 2, 60), np.r_[np.ones(50), np.zeros(10)])
    logits = rng.normal(size=(60, 2)) + np.eye(2)[query.y]
    got = score(Categorical(logits), query)
    y, probability = query.y[:50], special.softmax(logits[:50], 1)
    assert set(got) == {"accuracy", "nll", "delta_auprc"}
    assert got["accuracy"] == pytest.approx(metrics.accuracy_score(y, logits[:50].argmax(1)))
    assert got["nll"] == pytest.approx(metrics.log_loss(y, probability))
    expected = metrics.average_precision_score(y, probability[:, 1]) - y.mean()
    assert got["delta_auprc"] == pytest.approx(expected)


def test_a_sure_model_still_ranks():
    y = np.array([0, 0, 1, 1])
    logits = np.c_[np.zeros(4), [800.0, 801, 802, 803]]
    assert score(Categorical(logits), Batch(None, y, np.ones(4)))["delta_auprc"] == pytest.approx(0.5)


def test_of_many_classes_those_that_occur_are_averaged():
    rng = np.random.default_rng(3)
    y, logits = np.array([0, 2] * 15), rng.normal(size=(30, 4))
    gains = [metrics.average_precision_score(y == c, special.softmax(logits, 1)[:, c]) - 0.5 for c in (0, 2)]
    assert score(Categorical(logits), Batch(None, y, np.ones(30)))["delta_auprc"] == pytest.approx(np.mean(gains))


@pytest.mark.parametrize("y", [0, 1])
def test_a_query_of_one_class_gains_nothing(y):
    logits = np.random.default_rng(4).normal(size=(8, 2))
    assert score(Categorical(logits), Batch(None, np.full(8, y), np.ones(8)))["delta_auprc"] == 0


def test_a_prediction_that_is_no_number_is_refused():
    ones = np.ones(4)
    with pytest.raises(ModelError, match="1 of 8 predicted numbers are not finite"):
        score(Gaussian(np.array([0, 1, np.nan, 2]), ones), Batch(None, ones, ones))
    with pytest.raises(ModelError, match="variance is -1"):
        score(Gaussian(ones, -ones), Batch(None, ones, ones))
    with pytest.raises(DataError, match="without a single labelled sample"):
        score(Gaussian(ones, ones), Batch(None, ones, 0 * ones))
    with pytest.raises(ModelError, match=r"broken, task lab-a/t0, support 0: 20 of 40 predicted numbers"):
        compare({"broken": Fixed(np.nan)}, draws(pools(1, 1), 5, 2, 20, 0))


def test_every_contestant_gets_the_same_supports():
    one, other = Fixed(1.0), Fixed(2.0)
    compare({"one": one, "other": other}, draws(pools(2, 1), 5, 3, 20, 0))
    assert one.seen == other.seen
    assert len(set(one.seen)) == 9


def test_a_score_does_not_depend_on_who_else_runs_or_on_memory():
    episodes = draws(pools(3, 2), 5, 2, 20, 0)
    alone = compare({"one": Fixed(1.0, 0.5)}, episodes)
    # Four episodes at a time: of ten, the last chunk holds two that the one before it held already.
    among = compare({"other": Fixed(2.0), "one": Fixed(1.0, 0.5)}, episodes, memory=4 * 300)
    among = among[among.contestant == "one"].reset_index(drop=True)
    pd.testing.assert_frame_equal(among, alone)
    assert list(alone.columns) == ["contestant", "site", "task", "support", "metric", "value"]
    assert len(alone) == 5 * 2 * 5
    assert list(summary(among)["metric"]) == ["r2", "rmse", "spearman", "nll", "coverage_90"]


def test_a_draw_depends_on_seed_site_task_shots_and_support_alone():
    def support(episodes, index):
        return episodes.draw(index).support.x.tobytes()

    episodes = draws(pools(2, 2), 5, 3, 20, 0)
    assert support(episodes, 4) == support(episodes, 4)
    fewer = draws({"lab-b": [Noisy("t1", 2.0)]}, 5, 3, 20, 0)
    assert [episodes.place(i)[0::2] for i in (9, 11)] == [("lab-b", 0), ("lab-b", 2)]
    assert support(fewer, 1) == support(episodes, 10)
    assert (episodes.keys(slice(10, 11)) == fewer.keys(slice(1, 2))).all()
    assert len({support(episodes, i) for i in range(12)}) == 12
    assert support(draws(pools(2, 2), 5, 3, 20, 1), 4) != support(episodes, 4)


def test_tasks_that_are_too_small_are_named():
    small = {"lab": [Noisy("big"), Noisy("small", size=14), Noisy("just", size=15)]}
    episodes = draws(small, 5, 2, 20, 0)
    assert episodes.skipped == ("lab/small",)
    assert [pool.name for _, pool in episodes.pools] == ["big", "just"]
    with pytest.raises(
        DataError, match=r"none of 3 tasks has the 110 samples that 100 shots need \(the largest has 60"
    ):
        draws(small, 100, 2, 20, 0)
    with pytest.raises(DataError, match="supports = 0"):
        draws(small, 5, 0, 20, 0)
    with pytest.raises(DataError, match="nobody to compare"):
        compare({}, draws(small, 5, 1, 20, 0))


def table(values):
    """values: {contestant: {task: [values of its supports]}}"""
    rows = [
        (who, "lab", task, i, "r2", value)
        for who, tasks in values.items()
        for task, supports in tasks.items()
        for i, value in enumerate(supports)
    ]
    return pd.DataFrame(rows, columns=["contestant", "site", "task", "support", "metric", "value"])


def test_a_task_counts_once_however_many_supports_it_has():
    got = summary(table({"one": {"a": [0.0, 0.0, 0.0, 0.4], "b": [0.5]}}))
    assert got["mean"].item() == pytest.approx((0.1 + 0.5) / 2)
    assert got["tasks"].item() == 2


def test_intervals_are_student_s_and_differences_are_paired():
    rng = np.random.default_rng(5)
    level, gain = rng.normal(size=12) * 10, 0.3 + 0.1 * rng.normal(size=12)
    tasks = [f"t{i}" for i in range(12)]
    got = summary(
        table({
            "ref": {t: [v] for t, v in zip(tasks, level)},
            "one": {t: [v] for t, v in zip(tasks, level + gain)},
        }),
        "ref",
    ).set_index("contestant")  # fmt: skip
    expected = stats.ttest_1samp(level + gain, 0).confidence_interval()
    assert tuple(got.loc["one", ["low", "high"]]) == pytest.approx(tuple(expected))
    paired = stats.ttest_rel(level + gain, level).confidence_interval()
    assert tuple(got.loc["one", ["difference_low", "difference_high"]]) == pytest.approx(tuple(paired))
    assert got.loc["one", "difference"] == pytest.approx(gain.mean())
    assert tuple(got.loc["ref", ["difference", "difference_low"]]) == (0, 0)


def test_differences_are_over_the_tasks_that_both_have():
    got = summary(table({"ref": {"a": [1.0], "b": [2.0]}, "one": {"b": [2.5], "c": [9.0]}}), "ref")
    row = got[got.contestant == "one"].iloc[0]
    assert (row["tasks"], row["difference"]) == (2, 0.5)
    assert np.isnan(row["difference_low"])


def test_one_task_has_no_interval_and_no_reference_no_difference():
    row = summary(table({"one": {"a": [0.2, 0.4]}})).iloc[0]
    assert row["mean"] == pytest.approx(0.3)
    assert row[["low", "high", "difference"]].isna().all()
    with pytest.raises(DataError, match="reference 'two' is not among the contestants one"):
        summary(table({"one": {"a": [0.2]}}), "two")
