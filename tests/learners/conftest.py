"""What every learner promises, as checks that take a learner: `check` runs a test once for each of them.

A check sees nothing but the interface: what a contribution's numbers mean is the learner's own business.
"""

import dataclasses
import inspect
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from commonprior.predictor import LearnedPrior
from commonprior.prior import Prior
from commonprior.sampling import generator, learning_key
from commonprior.task import Batch, Categorical, Column, Gaussian, Rows, Target, Task, TaskSpec, log_likelihood

M, SHOTS, QUERIES, INPUTS, CLASSES, ROUNDS = 6, 5, 8, 3, 3, 40

LINES = TaskSpec(Target(scaling="public"), shape=(INPUTS,))
BLOBS = TaskSpec(Target(kind="classification", classes=("a", "b", "c")), shape=(INPUTS,))
TABLE = TaskSpec(
    Target(scaling="public"),
    columns=(Column("size"), Column("dose"), Column("solvent", "categorical", slots=2, categories=("water", "oil")),
             Column("molecule", "smiles", slots=6)),
)  # fmt: skip


# --- tasks ------------------------------------------------------------------------------------------------------------


def lines(rng, m=M, shots=SHOTS):
    """Hyperplanes that have most of their slope in common."""
    x = rng.normal(size=(m, shots + QUERIES, INPUTS)).astype(np.float32)
    slope = np.array([1.5, -1.0, 0.5]) + 0.3 * rng.normal(size=(m, 1, INPUTS))
    return _split(x, (x * slope).sum(-1).astype(np.float32), shots)


def blobs(rng, m=M, shots=SHOTS):
    """Classes around points that all tasks nearly agree on; the support has one of each, if it has so many."""
    y = np.concatenate([np.tile(np.arange(CLASSES), (m, 1)), rng.integers(CLASSES, size=(m, shots + QUERIES))], axis=1)
    y = y[:, : shots + QUERIES].astype(np.int32)
    centres = 2 * np.eye(CLASSES, INPUTS) + 0.2 * rng.normal(size=(m, CLASSES, INPUTS))
    x = np.take_along_axis(centres, y[..., None], 1) + 0.5 * rng.normal(size=(m, shots + QUERIES, INPUTS))
    return _split(x.astype(np.float32), y, shots)


def tables(rng, m=M, shots=SHOTS):
    """Rows with gaps, categories and counts; the label is a sum of a value and a count."""
    shape = (m, shots + QUERIES)
    present = (rng.random((*shape, 4)) > 0.2).astype(np.float32)
    numbers = rng.normal(size=(*shape, 2)) * present[..., :2]
    category = np.eye(2)[rng.integers(2, size=shape)] * present[..., 2:3]
    counts = rng.integers(0, 4, size=(*shape, 6)) * present[..., 3:]
    y = numbers[..., 0] + 0.5 * counts[..., 0] + 0.1 * rng.normal(size=shape)
    x = Rows(np.concatenate([numbers, category], -1).astype(np.float32), present, counts.astype(np.float32))
    return _split(x, y.astype(np.float32), shots)


def _split(x, y, shots):
    mask = np.ones(y.shape, np.float32)
    everything = Batch(x, y, mask)
    return Task(*(jax.tree.map(lambda a, s=s: a[:, s], everything) for s in (slice(shots), slice(shots, None))))


FAMILIES = {"lines": (LINES, lines), "blobs": (BLOBS, blobs), "tables": (TABLE, tables)}


# --- what the checks are made of --------------------------------------------------------------------------------------


def keys(n=M, *parts):
    return jax.random.split(learning_key(0, *parts), n)


def begin(learner, spec=LINES):
    return learner.init(spec, learning_key(0, "init"))


def trained(learner, family, rounds=ROUNDS):
    """Train as one site alone would, without privacy."""
    spec, draw = FAMILIES[family]
    prior, memory = begin(learner, spec), {}
    for number in range(rounds):
        tasks = draw(generator(0, "train", family, number))
        contributions, memory = learner.contribute(prior, tasks, memory, learning_key(0, "train", number))
        prior = learner.apply(prior, np.asarray(contributions.rows, np.float64).mean(0), None)
    return prior


def predictions(learner, prior, spec, tasks):
    """Adapt to every task and predict its query, under jit and vmap."""
    learned = LearnedPrior(learner, prior, spec)
    return learned.predict(learned.adapt(tasks.support, keys()), tasks.query.x, keys())


def held_out(learner, prior, family):
    spec, draw = FAMILIES[family]
    tasks = draw(generator(0, "held out", family))
    return np.asarray(jax.vmap(log_likelihood)(predictions(learner, prior, spec, tasks), tasks.query)).mean()


def padded(batch, rows, rng):
    """Add rows [m, rows, ...] that are nothing but noise, and masked."""

    def longer(leaf):
        noise = 3 * np.abs(rng.normal(size=(leaf.shape[0], rows, *leaf.shape[2:])))
        return np.concatenate([leaf, noise.astype(leaf.dtype)], axis=1)  # fmt: skip

    longer_batch = jax.tree.map(longer, batch)
    mask = np.concatenate([batch.mask, np.zeros((len(batch.mask), rows), np.float32)], axis=1)
    return longer_batch._replace(mask=mask)


def assert_close(got, expected, tolerance=2e-4):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def assert_same_bits(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def as_float64(tree):
    return jax.tree.map(lambda leaf: leaf.astype(np.float64) if leaf.dtype == np.float32 else leaf, tree)


# --- the checks -------------------------------------------------------------------------------------------------------


def a_prediction_is_a_distribution(learner):
    for family, (spec, draw) in FAMILIES.items():
        tasks = draw(generator(1, family))
        prediction = predictions(learner, begin(learner, spec), spec, tasks)
        if isinstance(prediction, Categorical):
            assert prediction.logits.shape == (M, QUERIES, CLASSES)
        else:
            assert isinstance(prediction, Gaussian)
            assert prediction.mean.shape == prediction.variance.shape == (M, QUERIES)
            assert (prediction.variance > 0).all()
        assert isinstance(prediction, Categorical) == (spec.target.kind == "classification")
        assert np.isfinite(jax.vmap(log_likelihood)(prediction, tasks.query)).all()


def one_sample_is_enough(learner):
    for spec, draw in FAMILIES.values():
        tasks = draw(generator(2), shots=1)
        prediction = predictions(learner, begin(learner, spec), spec, tasks)
        assert all(np.isfinite(leaf).all() for leaf in prediction)


def a_support_of_padding_alone_tells_nothing(learner):
    prior = begin(learner)
    tasks = lines(generator(3))
    blank = [tasks._replace(support=t.support._replace(mask=np.zeros_like(t.support.mask)))
             for t in (tasks, lines(generator(4)))]  # fmt: skip
    first, second = (predictions(learner, prior, LINES, task) for task in blank)
    assert all(np.isfinite(leaf).all() for leaf in first)
    assert_close(first, second)


def padding_changes_no_prediction(learner):
    rng = generator(5)
    for spec, draw in FAMILIES.values():
        prior, tasks = begin(learner, spec), draw(rng)
        longer = tasks._replace(support=padded(tasks.support, 3, rng))
        assert_close(predictions(learner, prior, spec, longer), predictions(learner, prior, spec, tasks))


def padding_changes_no_contribution(learner):
    rng = generator(6)
    prior, tasks, key = begin(learner), lines(generator(7)), learning_key(7)
    longer = Task(padded(tasks.support, 2, rng), padded(tasks.query, 3, rng))
    expected, got = (learner.contribute(prior, t, {}, key)[0].rows for t in (tasks, longer))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def the_order_of_the_support_does_not_matter(learner):
    for spec, draw in FAMILIES.values():
        prior, tasks = begin(learner, spec), draw(generator(8))
        order = generator(9).permutation(SHOTS)
        turned = tasks._replace(support=jax.tree.map(lambda leaf, order=order: leaf[:, order], tasks.support))
        assert_close(predictions(learner, prior, spec, turned), predictions(learner, prior, spec, tasks))


def many_tasks_at_once_are_as_each_alone(learner):
    with jax.enable_x64(True):
        prior, tasks = as_float64((begin(learner), lines(generator(10))))
        prior = Prior(dict(prior.params), dict(prior.state))

        def one(task, key):
            adapted = learner.adapt(prior, task.support, key)
            return learner.predict(prior, adapted, task.query.x, key)

        together, single = jax.jit(jax.vmap(one))(tasks, keys()), jax.jit(one)
        alone = [single(jax.tree.map(lambda leaf, i=i: leaf[i], tasks), keys()[i]) for i in range(M)]
        assert together.mean.dtype == jnp.float64
        assert_close(together, jax.tree.map(lambda *leaves: np.stack(leaves), *alone), 1e-9)


def an_earlier_adaptation_can_be_gone_on_from(learner):
    prior = trained(learner, "lines", 3)
    learned, tasks, later = LearnedPrior(learner, prior, LINES), lines(generator(11)), lines(generator(12))
    before = learned.adapt(tasks.support, keys())
    after = learned.adapt(later.support, keys(), before)
    again = learned.adapt(later.support, keys(), after)
    fresh = learned.adapt(later.support, keys())
    results = [learned.predict(state, tasks.query.x, keys()) for state in (before, after, again, fresh)]
    assert all(np.isfinite(leaf).all() for result in results for leaf in result)
    means = [result.mean for result in results]
    assert np.abs(means[1] - means[0]).max() > 1e-6, "going on learned nothing"
    assert np.abs(means[1] - means[3]).max() > 1e-6, "going on forgot what came before"


def contributions_are_as_long_as_they_say(learner):
    for spec, draw in FAMILIES.values():
        prior = begin(learner, spec)
        contributions, _ = learner.contribute(prior, draw(generator(13)), {}, learning_key(13))
        m = M if contributions.unit == "task" else 1
        assert np.shape(contributions.rows) == (m, learner.length(prior))
        assert np.isfinite(contributions.rows).all()


def the_same_key_gives_the_same_bits(learner):
    prior, tasks, key = begin(learner), lines(generator(14)), learning_key(14)
    assert_same_bits(begin(learner).params, prior.params)
    first, second = (learner.contribute(prior, tasks, {}, key)[0] for _ in range(2))
    assert first.unit == second.unit
    assert_same_bits(first.rows, second.rows)


def a_prior_keeps_its_names_and_shapes(learner):
    prior = begin(learner)
    new = trained(learner, "lines", 2)
    for before, after in zip(prior, new, strict=True):
        assert {n: (v.shape, v.dtype) for n, v in before.items()} == {n: (v.shape, v.dtype) for n, v in after.items()}
        assert all(v.dtype == np.float32 for v in after.values())
    assert Prior.decode(new.encode()).hash() == new.hash() != prior.hash()


def a_learner_is_static(learner):
    twin = dataclasses.replace(learner)
    assert twin == learner
    assert hash(twin) == hash(learner)


def improving_the_prior_improves_held_out_lines(learner):
    _improves(learner, "lines")


def improving_the_prior_improves_held_out_blobs(learner):
    _improves(learner, "blobs")


def improving_the_prior_improves_held_out_tables(learner):
    _improves(learner, "tables")


def _improves(learner, family):
    before = held_out(learner, begin(learner, FAMILIES[family][0]), family)
    after = held_out(learner, trained(learner, family), family)
    assert after > before + 0.01


CHECKS = {
    function.__name__: function
    for function in (
        a_prediction_is_a_distribution, one_sample_is_enough, a_support_of_padding_alone_tells_nothing,
        padding_changes_no_prediction, padding_changes_no_contribution, the_order_of_the_support_does_not_matter,
        many_tasks_at_once_are_as_each_alone, an_earlier_adaptation_can_be_gone_on_from,
        contributions_are_as_long_as_they_say, the_same_key_gives_the_same_bits, a_prior_keeps_its_names_and_shapes,
        a_learner_is_static, improving_the_prior_improves_held_out_lines, improving_the_prior_improves_held_out_blobs,
        improving_the_prior_improves_held_out_tables,
    )
}  # fmt: skip
ELSEWHERE = "another_process_gets_the_same_prior"


@pytest.fixture(params=[*CHECKS, ELSEWHERE])
def check(request):
    """One check of the contract: a function of a learner."""
    if request.param != ELSEWHERE:
        return CHECKS[request.param]
    apply_elsewhere = request.getfixturevalue("apply_elsewhere")

    def another_process_gets_the_same_prior(learner):
        prior = trained(learner, "lines", 2)
        mean = generator(15).normal(size=learner.length(prior)) / 7
        assert apply_elsewhere(learner, prior, mean) == learner.apply(prior, mean, None).hash().hex()

    return another_process_gets_the_same_prior


# --- another process --------------------------------------------------------------------------------------------------

_ELSEWHERE = """
import importlib.util, json, sys
import numpy as np
from commonprior.prior import Prior

def build(value):
    if isinstance(value, list):
        return tuple(map(build, value))
    if not isinstance(value, dict):
        return value
    name = value["module"]
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, value["file"])
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return getattr(sys.modules[name], value["class"])(**{k: build(v) for k, v in value["fields"].items()})

for line in sys.stdin:
    order = json.loads(line)
    prior = Prior.decode(bytes.fromhex(order["prior"]))
    mean = np.frombuffer(bytes.fromhex(order["mean"]), "<f8")
    print(build(order["learner"]).apply(prior, mean, None).hash().hex(), flush=True)
"""


@pytest.fixture(scope="session")
def apply_elsewhere():
    """A process of its own, with another hash seed, that applies a mean update and says the new prior's hash."""
    environment = {**os.environ, "PYTHONHASHSEED": "1234"}
    with subprocess.Popen(
        [sys.executable, "-c", _ELSEWHERE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:

        def apply(learner, prior, mean):
            order = {
                "learner": _plain(learner),
                "prior": prior.encode().hex(),
                "mean": mean.astype("<f8").tobytes().hex(),
            }
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield apply
        process.stdin.close()


def _plain(value):
    """Say how to build a dataclass, wherever its class is defined."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    cls = type(value)
    return {"module": cls.__module__, "file": inspect.getfile(cls), "class": cls.__name__, "fields": fields}
