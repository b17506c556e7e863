from dataclasses import dataclass

import jax
import numpy as np
import pytest

from commonprior.errors import DataError
from commonprior.sampling import FAR, derive_seed, generator, learning_key, sample_tasks
from commonprior.task import Batch, Target, Task


@dataclass(frozen=True)
class Marked:
    """A pool whose inputs are its number."""

    number: int
    size: int = 50

    @property
    def name(self) -> str:
        return f"task{self.number}"

    def episode(self, rng: np.random.Generator, shots: int, queries: int) -> Task:
        def batch(n: int) -> Batch:
            x = np.full((n, 1), self.number, np.float32)
            return Batch(x, rng.normal(7, 3, n).astype(np.float32), np.ones(n, np.float32))

        return Task(batch(shots), batch(queries))


def test_the_same_parts_give_the_same_stream_on_every_machine():
    assert derive_seed(7, 3, "lab", "tasks") == 3133020138778904909
    assert jax.random.key_data(learning_key(7, 3, "lab")).tolist() == [3966213072, 1384237235]
    assert generator(7, 3, "lab").integers(1 << 62) == 521223807084746276


@pytest.mark.parametrize("other", [(8, 3, "lab"), (7, 4, "lab"), (7, 3, "lob"), (3, 7, "lab"), (7, 3, "lab", "")])
def test_other_parts_give_another_stream(other):
    parts = (7, 3, "lab")
    assert derive_seed(*parts) != derive_seed(*other)
    assert generator(*parts).integers(1 << 62) != generator(*other).integers(1 << 62)
    assert (jax.random.key_data(learning_key(*parts)) != jax.random.key_data(learning_key(*other))).any()


def test_parts_do_not_run_into_each_other():
    assert derive_seed("ab", "c") != derive_seed("a", "bc")


def test_an_integer_seed_fits_63_bits():
    assert all(0 <= derive_seed(i) < 1 << 63 for i in range(64))


def test_tasks_of_a_round_are_distinct():
    pools = [Marked(i) for i in range(6)]
    seen = set()
    for i in range(20):
        drawn = sample_tasks(pools, generator(i), 4, 3, 5, Target())
        numbers = drawn.support.x[:, 0, 0]
        assert drawn.support.y.shape == (4, 3)
        assert drawn.query.y.shape == (4, 5)
        assert len(set(numbers)) == 4
        seen |= set(numbers)
    assert seen == {0, 1, 2, 3, 4, 5}


def test_a_site_with_fewer_tasks_gives_each_of_them_once():
    drawn = sample_tasks([Marked(i) for i in range(3)], generator(0), 8, 2, 2, Target())
    assert sorted(drawn.support.x[:, 0, 0]) == [0, 1, 2]


def test_labels_are_standardised_by_the_support():
    drawn = sample_tasks([Marked(0), Marked(1)], generator(0), 2, 20, 20, Target())
    np.testing.assert_allclose(drawn.support.y.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(drawn.support.y.std(1, ddof=1), 1, rtol=1e-5)
    assert (np.abs(drawn.query.y.mean(1)) > 1e-3).all()


@dataclass(frozen=True)
class LongTailed:
    """A task whose labels are nearly all alike, as metals' band gaps are."""

    name = "gaps"
    size = 100

    def episode(self, rng, shots, queries):
        def batch(y):
            return Batch(np.zeros((len(y), 1), np.float32), np.asarray(y, np.float32), np.ones(len(y), np.float32))

        return Task(batch([0.0, 0.001, 0.0, 0.0]), batch([5.0, 0.001, -7.0]))


def test_no_label_is_learned_as_thousands_of_deviations_away():
    drawn = sample_tasks([LongTailed()], generator(0), 1, 4, 3, Target())
    near = (0.001 - 0.00025) / 0.0005
    np.testing.assert_allclose(drawn.query.y, [[FAR, near, -FAR]], rtol=1e-5)
    np.testing.assert_allclose(drawn.support.y[0, 1], near, rtol=1e-5)


def test_classes_and_labels_of_public_scale_are_learned_as_they_are():
    classes = Target(kind="classification", classes=tuple(map(str, range(20))))
    for target, expected in ((classes, 17.0), (Target(scaling="public", centre=2.0, spread=0.5), 30.0)):

        class Far(LongTailed):
            def episode(self, rng, shots, queries):
                return (
                    super()
                    .episode(rng, shots, queries)
                    ._replace(query=Batch(*(np.full((1, *s), 17.0, "f4") for s in ((1,), (), ()))))
                )

        drawn = sample_tasks([Far()], generator(0), 1, 4, 1, target)
        assert drawn.query.y.item() == expected


def test_the_same_generator_draws_the_same_tasks():
    pools = [Marked(i) for i in range(6)]
    a, b = (sample_tasks(pools, generator(1), 4, 3, 5, Target()) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_cannot_be_drawn_is_one_sentence():
    with pytest.raises(DataError, match="a site without tasks cannot take part"):
        sample_tasks([], generator(0), 1, 1, 1, Target())
    with pytest.raises(DataError, match="shots = 0: expected at least 1"):
        sample_tasks([Marked(0)], generator(0), 1, 0, 1, Target())
