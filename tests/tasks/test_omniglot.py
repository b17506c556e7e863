"""Omniglot's episodes: who is in them, and that nobody to be judged by was learned from."""

import os
from pathlib import Path

import numpy as np
import pytest

from commonprior.errors import DataError, RecipeError
from commonprior.tasks.omniglot import Characters, EpisodePool, Omniglot

DATA = Path(os.environ.get("COMMONPRIOR_DATA", "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "omniglot28" / "omniglot28.npz").exists(), reason="needs omniglot28 in COMMONPRIOR_DATA"
)
PEOPLE = 4


def pool(way=3, characters=5, turns=4):
    """Characters whose every drawing can be told: the first row of an image says whose it is."""
    images = np.zeros((characters, PEOPLE, 28, 28), np.uint8)
    images[:, :, 0, 0] = 10 * (1 + np.arange(characters))[:, None] + np.arange(PEOPLE)
    return EpisodePool("p", Characters(images), np.arange(characters), way, turns)


def told(x):
    """Which character, which drawing, and how it is turned: [n, 3]."""
    corners = np.stack([x[:, 0, 0], x[:, -1, 0], x[:, -1, -1], x[:, 0, -1]], 1)[..., 0]
    number = np.round(corners.max(1) * 255).astype(int)
    return np.stack([number // 10 - 1, number % 10, corners.argmax(1)], 1)


@pytest.mark.parametrize("shots", [3, 6, 7])
def test_every_class_is_one_character_turned_one_way_and_has_a_support(shots):
    for seed in range(20):
        task = pool().episode(np.random.default_rng(seed), shots, 3)
        seen, asked = told(task.support.x), told(task.query.x)
        both, labels = np.concatenate([seen, asked]), np.concatenate([task.support.y, task.query.y])
        classes = {int(y): {tuple(row) for row in both[labels == y][:, [0, 2]]} for y in range(3)}
        assert all(len(which) == 1 for which in classes.values())
        assert len(set.union(*classes.values())) == 3
        assert set(task.support.y) == {0, 1, 2}
        assert sorted(np.bincount(task.query.y)) == [1, 1, 1]
        assert np.ptp(np.bincount(task.support.y)) <= 1
        drawings = [(*row, y) for row, y in zip(both[:, :2].tolist(), labels, strict=True)]
        assert len({(c, d, y) for c, d, y in drawings}) == len(drawings), "a drawing is in support and query"


def test_turns_are_those_of_numpy():
    images = np.random.default_rng(0).integers(0, 255, (1, PEOPLE, 28, 28), dtype=np.uint8)
    task = EpisodePool("p", Characters(images), np.arange(1), 4, 4).episode(np.random.default_rng(1), 4, 0)
    possible = [np.rot90(image, turn).astype(np.float32) / 255 for image in images[0] for turn in range(4)]
    at = [next(i for i, other in enumerate(possible) if (other == x[..., 0]).all()) for x in task.support.x]
    assert sorted(i % 4 for i in at) == [0, 1, 2, 3]


@pytest.mark.parametrize(("shots", "queries", "words"), [(2, 3, "2 shots"), (9, 6, "9 shots and 6 queries")])
def test_an_episode_that_cannot_be_is_refused(shots, queries, words):
    with pytest.raises(DataError, match=f"{words}.*at least one shot a class, and no more than the 4 drawings"):
        pool().episode(np.random.default_rng(0), shots, queries)


def test_a_folder_without_the_data_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"omniglot28\.npz: no such file; say with --data"):
        Omniglot().load(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("way", 1), ("tasks", 0)])
def test_refuses_what_makes_no_sense(field, value):
    with pytest.raises(RecipeError, match=f"{field} = {value}"):
        Omniglot(**{field: value})


@needs_data
def test_the_alphabets_are_those_of_the_paper_and_none_is_in_two_folds():
    family = Omniglot(tasks=2).load(DATA)
    assert [len(fold) for fold in (family.train, family.valid, family.test)] == [25, 5, 20]
    characters = [
        {int(c) for pools in fold.values() for p in pools for c in p.characters}
        for fold in (family.train, family.valid, family.test)
    ]
    assert len(characters[0] | characters[1]) == 964
    assert len(characters[2]) == 659
    assert not (characters[0] & characters[1] | (characters[0] | characters[1]) & characters[2])
    assert {"Greek", "Hebrew", "Latin"} <= set(family.train) | set(family.valid)
    assert "Tengwar" in family.test


@needs_data
def test_mixed_episodes_draw_from_all_alphabets_of_a_fold():
    family = Omniglot(way=60, mixed=True, tasks=1).load(DATA)
    (pools,) = family.test.values()
    assert pools[0].size == 659 * 4 * 20
    task = pools[0].episode(np.random.default_rng(0), 60, 120)
    assert task.query.x.shape == (120, 28, 28, 1)
    assert 0.02 < task.query.x.mean() < 0.2


@needs_data
def test_more_classes_than_the_smallest_alphabet_has_are_refused():
    with pytest.raises(RecipeError, match="way = 60: the smallest alphabet has 56 classes"):
        Omniglot(way=60).load(DATA)
