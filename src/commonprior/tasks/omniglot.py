"""Omniglot: handwritten characters of 50 alphabets, each drawn by 20 people, as N-way K-shot episodes.

Lake, Salakhutdinov & Tenenbaum, "Human-level concept learning through probabilistic program induction" (2015). Their
split: 30 background alphabets to learn from, of which five are held out to choose by, and 20 evaluation alphabets to be
judged by. Each character turned by 90, 180 and 270 degrees is a class of its own (Santoro et al., 2016). Published
figures mostly use another split (Vinyals et al., 2016: 1,200 characters of all alphabets), which is easier.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from commonprior.errors import DataError, RecipeError
from commonprior.task import Batch, Target, Task, TaskSpec
from commonprior.tasks import Family, TaskSource

_FILE = Path("omniglot28") / "omniglot28.npz"
_SIDE, _TURNS = 28, 4
_VALID = 5


class Characters(NamedTuple):
    """Images [c, d, 28, 28] uint8 (ink is 255) of c characters by d people, which all pools share."""

    images: np.ndarray


@final
@dataclass(frozen=True, eq=False)
class EpisodePool:
    """A new episode in every draw: `way` classes out of `characters` (rows of `drawn`), each in `turns` rotations."""

    name: str
    drawn: Characters
    characters: np.ndarray
    way: int
    turns: int

    @property
    def size(self) -> int:
        """How many images its classes have."""
        return len(self.characters) * self.turns * self.drawn.images.shape[1]

    def episode(self, rng: np.random.Generator, shots: int, queries: int) -> Task:
        """Draw support [shots] and query [queries] of images [28, 28, 1] from 0 to 1, in all, evenly over the classes.

        Every class is in the support; no drawing is in both. Raises `DataError` where that cannot be.
        """
        people = self.drawn.images.shape[1]
        most = -(-shots // self.way) - (-queries // self.way)
        if shots < self.way or queries < 0 or most > people:
            raise DataError(
                f"{self.name}: {shots} shots and {queries} queries of {self.way} classes; expected at least one shot a "
                f"class, and no more than the {people} drawings of each"
            )
        classes = rng.choice(len(self.characters) * self.turns, self.way, replace=False)
        which = np.stack([rng.permutation(people) for _ in classes])
        # One drawing of each class after the other; the rest of a round that does not go up falls to random classes.
        rounds = np.concatenate([rng.permutation(self.way) for _ in range(people)])
        nth = np.repeat(np.arange(people), self.way)
        taken = np.arange(shots), -(-shots // self.way) * self.way + np.arange(queries)
        return Task(*(self._batch(classes, which, rounds[part], nth[part]) for part in taken))

    def _batch(self, classes: np.ndarray, which: np.ndarray, label: np.ndarray, nth: np.ndarray) -> Batch:
        character, turn = np.divmod(classes[label], self.turns)
        images = self.drawn.images[self.characters[character], which[label, nth]]
        turned = np.empty(images.shape, images.dtype)
        for quarter in range(self.turns):
            turned[turn == quarter] = np.rot90(images[turn == quarter], quarter, axes=(1, 2))
        x = turned[..., None].astype(np.float32) / 255
        return Batch(x, label.astype(np.int32), np.ones(len(label), np.float32))


@final
@dataclass(frozen=True)
class Omniglot(TaskSource):
    """A site is an alphabet, or, `mixed`, all alphabets of a fold are one site, whose episodes mix them.

    Each has `tasks` pools, which never repeat an episode. `shots` and `queries` count the images of all `way` classes.
    """

    way: int = 5
    mixed: bool = False
    rotations: bool = True
    tasks: int = 100

    def __post_init__(self) -> None:
        if self.way < 2:
            raise RecipeError(f"tasks.way = {self.way}: expected at least 2 classes")
        if self.tasks < 1:
            raise RecipeError(f"tasks.tasks = {self.tasks}: expected at least 1")

    def load(self, data: Path | None) -> Family:
        """Return the family. Raises `DataError` where `omniglot28/omniglot28.npz` is not in `data`, or is another."""
        drawn, alphabet, background, names = _read(data)
        turns = _TURNS if self.rotations else 1
        smallest = int(np.bincount(alphabet).min()) * turns
        if not self.mixed and self.way > smallest:
            raise RecipeError(
                f"tasks.way = {self.way}: the smallest alphabet has {smallest} classes; take fewer, or mixed = true"
            )
        order = np.flatnonzero(np.bincount(alphabet[background], minlength=len(names)))
        # The last five in the file's order, which is the alphabet's: nothing about them was looked at.
        folds = {"train": order[:-_VALID], "valid": order[-_VALID:]}
        folds["test"] = np.setdiff1d(np.arange(len(names)), order)
        classes = tuple(str(c) for c in range(self.way))
        sites = {
            fold: self._sites(drawn, {names[a]: np.flatnonzero(alphabet == a) for a in members}, fold, turns)
            for fold, members in folds.items()
        }
        note = "Omniglot by Lake's split of alphabets"
        return Family(
            TaskSpec(Target("character", "classification", classes=classes), shape=(_SIDE, _SIDE, 1)),
            **sites,
            note=note,
        )

    def _sites(
        self, drawn: Characters, alphabets: dict[str, np.ndarray], fold: str, turns: int
    ) -> dict[str, list[EpisodePool]]:
        if self.mixed:
            alphabets = {f"{fold} alphabets": np.concatenate(list(alphabets.values()))}
        return {
            site: [EpisodePool(f"episode-{t + 1}", drawn, characters, self.way, turns) for t in range(self.tasks)]
            for site, characters in alphabets.items()
        }


def _read(data: Path | None) -> tuple[Characters, np.ndarray, np.ndarray, list[str]]:
    """Return the drawings, each character's alphabet [c], whether that is a background one [c], and their names."""
    path = (data or Path()) / _FILE
    if not path.is_file():
        raise DataError(f"{path}: no such file; say with --data in which folder omniglot28 lies")
    with np.load(path, allow_pickle=False) as file:
        needed = ("images", "character_id", "alphabet_id", "is_background", "drawer_id", "alphabet_names")
        missing = [name for name in needed if name not in file]
        if missing:
            raise DataError(f"{path}: no array {missing[0]!r}; expected {', '.join(needed)}")
        images, character, alphabet, background, drawer, names = (file[name] for name in needed)
    order = np.lexsort((drawer, character))
    people = np.bincount(character)
    if (people != people[0]).any() or images.shape[1:] != (_SIDE, _SIDE):
        raise DataError(f"{path}: expected each character drawn equally often, in images of 28 x 28")
    first = order[:: people[0]]
    drawn = images[order].reshape(len(people), people[0], _SIDE, _SIDE)
    return Characters(drawn), alphabet[first].astype(int), background[first], [str(name) for name in names]
