"""The family of `nanothermal` against what it promises, and what can be learnt from it."""

import numpy as np
import pytest

from commonprior import tasks
from commonprior.errors import RecipeError
from commonprior.plugin import load
from commonprior.task import Rows, standardise
from commonprior.tasks import TaskSource
from commonprior.tasks._nanomaterials import MATERIALS
from commonprior.tasks._phonons import Specimens, calibrate, composite, film, flake, tube, wire
from commonprior.tasks.nanothermal import COLUMNS, LABORATORIES, TARGET, NanoPool, Nanothermal


@pytest.fixture(scope="module")
def family():
    return Nanothermal().load(None)


def pools(part) -> list[NanoPool]:
    return [pool for site in part.values() for pool in site]


def first(part) -> NanoPool:
    return pools(part)[0]


def test_it_is_found_by_its_file_name():
    assert load(tasks, TaskSource, "nanothermal") is Nanothermal


def test_four_laboratories_train_and_nobody_has_the_test_or_validation_materials(family):
    def materials(part):
        return {pool.crystal.material.name for pool in pools(part)}

    assert set(family.train) == set(LABORATORIES)
    assert materials(family.test) == {"MoS2"}
    assert not materials(family.train) & (materials(family.valid) | {"MoS2"})
    by_site = [materials({site: held}) for site, held in family.train.items()]
    assert sum(map(len, by_site)) == len(set().union(*by_site))
    assert {pool.name.split()[1].rstrip(",") for pool in pools(family.test)} == set(COLUMNS[-1].categories)
    names = [pool.name for part in (family.train, family.valid, family.test) for pool in pools(part)]
    assert len(set(names)) == len(names)
    assert "simulated" in family.note


def test_rows_fit_the_spec_and_inputs_that_a_shape_lacks_are_absent(family):
    example = family.spec.example()
    absent = {"film": "2 5", "wire": "2 5", "flake": "2 5", "tube": "3 5", "composite": "2 3"}
    for pool in pools(family.train) + pools(family.test):
        for field, shape in zip(pool.rows, example):
            assert field.dtype == np.float32
            assert field.shape[1:] == shape.shape[1:]
        lacking = [int(i) for i in absent[pool.name.split()[1].rstrip(",")].split()]
        expected = np.ones(7)
        expected[lacking] = 0
        assert np.all(pool.rows.present == expected)
        assert np.all(pool.rows.values[:, lacking] == 0)
        assert np.all(pool.rows.values[:, 6:].sum(1) == 1)
        assert np.abs(pool.rows.values).max() < 3
        assert np.all(np.isfinite(pool.y))


def test_the_material_is_no_input(family):
    by_shape = {}
    for pool in pools(family.train):
        by_shape.setdefault(pool.name.split(" ", 1)[1], []).append(pool)
    one, other = by_shape["wire, as grown"][:2]
    assert np.allclose(one.rows.values.mean(0), other.rows.values.mean(0), atol=0.5)
    assert abs(one.y.mean() - other.y.mean()) > 0.2


def test_labels_are_the_truth_with_the_stated_noise(family):
    error = np.concatenate([pool.y - pool.noise_free(pool.rows) for pool in pools(family.train)])
    assert error.std() * np.log(10) == pytest.approx(0.03, rel=0.05)
    assert abs(error.mean()) < 1e-3
    for pool in pools(Nanothermal(noise=0.0).load(None).test):
        assert pool.y == pytest.approx(pool.noise_free(pool.rows), abs=1e-6)


def test_the_columns_are_what_their_names_and_units_say(family):
    crystal = calibrate(MATERIALS["MoS2"])
    shapes = {"film": film, "wire": wire, "flake": flake, "tube": tube, "composite": composite}
    around = {
        "in epoxy": (0.2, 8.3e-8),
        "in coupled epoxy": (0.2, 1e-8),
        "in silica": (1.4, 1e-8),
        "in alumina": (36.0, 5e-9),
    }
    for pool in pools(family.test):
        scaled = pool.rows.values[:, :6].astype(np.float64)
        units = {c.name: (scaled[:, i] * c.spread + c.centre, c.transform) for i, c in enumerate(COLUMNS[:-1])}
        si = {name: 10**x if transform == "log10" else x for name, (x, transform) in units.items()}
        specimens = Specimens(
            si["temperature"],
            si["size"],
            si["length"],
            si["specularity"],
            si["defect fraction"],
            0.05 if "enriched" in pool.name else 1.0,
            si["volume fraction"],
            *around.get(pool.process.name, (np.nan, np.nan)),
        )
        truth = np.log10(shapes[pool.name.split()[1].rstrip(",")](crystal, specimens))
        assert pool.noise_free(pool.rows) == pytest.approx(truth, abs=1e-9)


def test_the_truth_is_known_at_the_rows_of_a_query(family):
    pool = first(family.test)
    query = pool.episode(np.random.default_rng(0), 5, 30).query
    assert np.abs(query.y - pool.noise_free(query.x)).max() < 5 * 0.03 / np.log(10)


def test_the_same_fields_give_the_same_family_and_a_task_does_not_depend_on_the_others(family):
    again = Nanothermal(laboratories=("layered-lab",)).load(None)
    for one, other in zip(pools({"": family.train["layered-lab"]}), pools(again.train)):
        assert one.name == other.name
        assert np.array_equal(one.y, other.y)
        assert np.array_equal(one.rows.values, other.rows.values)
    assert not np.array_equal(first(Nanothermal(seed=1).load(None).test).y, first(family.test).y)


def test_another_material_can_be_held_out():
    held = Nanothermal(test_material="Si").load(None)
    assert {pool.crystal.material.name for pool in pools(held.test)} == {"Si"}
    trained = {pool.crystal.material.name for pool in pools(held.train)}
    assert "Si" not in trained
    assert "MoS2" in trained
    assert "InP" not in {p.crystal.material.name for p in pools(Nanothermal(test_material="InP").load(None).valid)}


def test_episodes_are_disjoint_and_padded(family):
    pool = first(family.test)
    task = pool.episode(np.random.default_rng(0), 5, 80)
    assert task.support.mask.tolist() == [1] * 5
    assert task.query.mask.sum() == pool.size - 5
    assert not np.any(task.query.x.values[pool.size - 5 :])
    drawn = np.concatenate([task.support.y, task.query.y[: pool.size - 5]])
    assert np.array_equal(np.sort(drawn), np.sort(pool.y))
    crowded = pool.episode(np.random.default_rng(0), 100, 10)
    assert crowded.support.mask.sum() == pool.size - 1
    assert crowded.query.mask.sum() == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"test_material": "MoS"}, "test_material.*'MoS'.*MoS2"),
        ({"laboratories": ("moon-lab",)}, "laboratories.*'moon-lab'.*silicon-lab"),
        ({"laboratories": ()}, "laboratories.*empty"),
        ({"samples_per_task": 1}, "samples_per_task: 1 .*2 or more"),
        ({"noise": 1.0}, "noise: 1.0 .*less than 1"),
        ({"noise": float("nan")}, "noise: nan "),
        ({"seed": -1}, "seed: -1 "),
    ],
)
def test_fields_that_make_no_sense_are_refused_with_the_value_and_the_cure(fields, words):
    with pytest.raises(RecipeError, match=words):
        Nanothermal(**fields)


# --- what can be learnt from it ---------------------------------------------------------------------------------------


def basis(x: Rows) -> np.ndarray:
    """Return a handful of smooth functions of the numeric inputs [n, 14]."""
    temperature, size, length, mirror, defects, fraction = np.asarray(x.values, np.float64).T[:6]
    t = np.log(1 + temperature / 2)
    columns = (t, t**2, size, size**2, t * size, length, length**2, t * length, mirror, defects, defects**2)
    return np.stack([np.ones_like(t), *columns, fraction, fraction**2], axis=1)


def transfer(source: Nanothermal) -> tuple[float, float]:
    """Return R2 (mean over tasks) and root mean square error at 5 shots of an empirical Bayes linear model."""
    simulated = source.load(None)
    weights = []
    for pool in pools(simulated.train):
        features = basis(pool.rows)
        y = (pool.y - TARGET.centre) / TARGET.spread
        weights.append(np.linalg.solve(features.T @ features + 1e-3 * np.eye(14), features.T @ y))
    mean, spread = np.mean(weights, 0), np.cov(np.transpose(weights)) + 1e-4 * np.eye(14)
    rng, explained, squares = np.random.default_rng(0), [], []
    for pool in pools(simulated.test):
        for _ in range(5):
            support, query = standardise(pool.episode(rng, 5, 40), TARGET)[0]
            features = basis(support.x)
            gain = spread @ features.T @ np.linalg.inv(features @ spread @ features.T + 4e-4 * np.eye(5))
            error = query.y - basis(query.x) @ (mean + gain @ (support.y - features @ mean))
            explained.append(1 - np.mean(error**2) / np.var(query.y))
            squares.append(np.mean(error**2))
    return float(np.mean(explained)), float(np.sqrt(np.mean(squares)))


def test_five_samples_suffice_with_all_laboratories_and_no_laboratory_does_as_well_alone():
    explained, error = transfer(Nanothermal())
    assert explained > 0.75
    for name in LABORATORIES:
        alone_explained, alone_error = transfer(Nanothermal(laboratories=(name,)))
        assert alone_explained < explained
        assert alone_error > 1.3 * error
