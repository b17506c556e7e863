"""Sine waves of random amplitude and phase: the classic family of few-shot regression.

Finn, Abbeel & Levine, "Model-agnostic meta-learning for fast adaptation of deep networks" (2017), section 5.1:
y = a sin(x - p) with a in 0.1 to 5, p in 0 to pi and x in -5 to 5, all uniform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from commonprior.errors import DataError, RecipeError
from commonprior.task import Batch, Target, Task, TaskSpec
from commonprior.tasks import Family, TaskSource

_REACH = 5.0
_SAMPLES = 200
"""What a wave, which has infinitely many samples, says of its size."""

_VALID, _TEST = 1, 2


class Wave(NamedTuple):
    """y = amplitude * sin(x - phase)."""

    amplitude: float
    phase: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Wave:
        """Return a wave of the family."""
        return Wave(float(rng.uniform(0.1, 5.0)), float(rng.uniform(0.0, math.pi)))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the labels of inputs, shaped as they are."""
        return self.amplitude * np.sin(x - self.phase)


@final
@dataclass(frozen=True)
class WavePool:
    """One task; a pool without a `wave` of its own is a new one in every episode. Labels have no noise."""

    name: str
    wave: Wave | None = None

    @property
    def size(self) -> int:
        """How many samples a wave is taken to have; an episode may have more."""
        return _SAMPLES

    def episode(self, rng: np.random.Generator, shots: int, queries: int) -> Task:
        """Draw support and query of new samples, x [n, 1] and y [n]."""
        if shots < 1 or queries < 0:
            raise DataError(f"{self.name}: {shots} shots and {queries} queries; ask for at least 1 and 0")
        wave = Wave.draw(rng) if self.wave is None else self.wave
        x = rng.uniform(-_REACH, _REACH, (shots + queries, 1)).astype(np.float32)
        y = wave(x[:, 0]).astype(np.float32)
        mask = np.ones(shots + queries, np.float32)
        return Task(Batch(x[:shots], y[:shots], mask[:shots]), Batch(x[shots:], y[shots:], mask[shots:]))


@final
@dataclass(frozen=True)
class Sinusoid(TaskSource):
    """Each of `sites` has `tasks` pools to train on, which never repeat a wave.

    It has `held_out` fixed waves to choose by, and as many again to be judged by.
    """

    sites: int = 4
    tasks: int = 100
    held_out: int = 20

    def __post_init__(self) -> None:
        for name in ("sites", "tasks", "held_out"):
            if getattr(self, name) < 1:
                raise RecipeError(f"tasks.{name} = {getattr(self, name)}: expected at least 1")

    def load(self, data: Path | None) -> Family:
        """Return the family; it needs no data."""
        names = [f"site-{i + 1}" for i in range(self.sites)]
        return Family(
            TaskSpec(Target("y", scaling="public", centre=0.0, spread=1.0), shape=(1,)),
            train={name: [WavePool(f"wave-{t + 1}") for t in range(self.tasks)] for name in names},
            valid={name: self._fixed(_VALID, i) for i, name in enumerate(names)},
            test={name: self._fixed(_TEST, i) for i, name in enumerate(names)},
            note="simulated data: sine waves",
        )

    def _fixed(self, part: int, site: int) -> list[WavePool]:
        rng = np.random.default_rng([part, site])
        label = "valid" if part == _VALID else "test"
        return [WavePool(f"{label}-{t + 1}", Wave.draw(rng)) for t in range(self.held_out)]
