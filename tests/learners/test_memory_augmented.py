"""What a memory holds, what it loses, and what does not fit it."""

import jax
import numpy as np
import pytest

from commonprior.errors import ModelError, RecipeError
from commonprior.learners.memory_augmented import MemoryAugmented
from commonprior.networks.mlp import Mlp
from commonprior.sampling import learning_key
from commonprior.task import Batch, Target, TaskSpec

LINES = TaskSpec(Target(scaling="public"), shape=(2,))
KEY = learning_key(0)
LEARNER = MemoryAugmented(Mlp((6,), "tanh"), features=4, slots=6, lasting=2)
PRIOR = LEARNER.init(LINES, KEY)


def batch(n, seed=0, x=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).astype(np.float32) if x is None else x
    return Batch(x, x.sum(1), np.ones(n, np.float32))


def named(keys):
    return {tuple(key) for key in np.round(np.asarray(keys, np.float64), 4).tolist()}


def keys_in(memory):
    return named(np.asarray(memory.keys)[np.asarray(memory.usage) > 0])


def keys_of(samples):
    return named(LEARNER.network.apply(PRIOR.params, samples.x))


def test_each_sample_has_a_slot_of_its_own_and_padding_has_none():
    samples = batch(5)
    samples.mask[2] = 0
    memory = LEARNER.adapt(PRIOR, samples, KEY)
    assert keys_in(memory) == keys_of(jax.tree.map(lambda leaf: leaf[[0, 1, 3, 4]], samples))
    assert (memory.usage[4:] == 0).all()


def test_the_least_recently_used_is_lost_first():
    memory = LEARNER.adapt(PRIOR, batch(2, 1), KEY)
    memory = LEARNER.adapt(PRIOR, batch(4, 2), KEY, memory)
    full = LEARNER.adapt(PRIOR, batch(2, 3), KEY, memory)
    assert keys_in(memory) == keys_of(batch(2, 1)) | keys_of(batch(4, 2))
    assert keys_in(full) == keys_of(batch(4, 2)) | keys_of(batch(2, 3))


def test_what_new_samples_are_like_stays():
    sharp = PRIOR._replace(params={**PRIOR.params, "reading/sharpness": np.full(1, 4.0, np.float32)})
    memory = LEARNER.adapt(sharp, batch(6), KEY)
    first = batch(1, x=batch(6).x[:1])  # the first slot, which a memory of equal usage would lose first
    memory = LEARNER.adapt(sharp, first, KEY, memory)
    same = np.isclose(memory.keys, LEARNER.network.apply(sharp.params, first.x), atol=1e-5).all(1)
    assert same[0]
    assert same.sum() == 2
    assert len(keys_in(memory)) == 5


def test_a_memory_never_grows():
    memory = None
    for seed in range(4):
        memory = LEARNER.adapt(PRIOR, batch(5, seed), KEY, memory)
        assert memory.keys.shape == memory.values.shape == (6, 4)
    assert np.isfinite(LEARNER.predict(PRIOR, memory, batch(3).x, KEY).mean).all()


def test_the_prior_itself_is_read_where_nothing_was_written():
    nothing = batch(3)._replace(mask=np.zeros(3))
    asked = batch(4, 1).x
    first = LEARNER.predict(PRIOR, LEARNER.adapt(PRIOR, nothing, KEY), asked, KEY)
    other = PRIOR._replace(params={**PRIOR.params, "lasting/values": PRIOR.params["lasting/values"] + 1})
    second = LEARNER.predict(other, LEARNER.adapt(other, nothing, KEY), asked, KEY)
    assert np.abs(first.mean - second.mean).max() > 1e-3


def test_a_support_that_is_larger_than_the_memory_is_refused():
    with pytest.raises(ModelError, match="a support of 7 rows for a memory of 6 slots; set slots = 7"):
        LEARNER.adapt(PRIOR, batch(7), KEY)


@pytest.mark.parametrize(("field", "value"), [("slots", 0), ("lasting", 0), ("reads", 0), ("decay", 1.0)])
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = {value}"):
        MemoryAugmented(LEARNER.network, **{field: value})
