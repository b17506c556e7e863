"""What may be changed in a recipe, field by field, and how a choice of settings is a point for a search.

["learner.server.rate"]
low = 1e-4
high = 0.1
log = true

["learner.terms"]
choices = [["deep"], ["deep", "counts"]]
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from commonprior.errors import RecipeError
from commonprior.recipe import Recipe, read_toml, recipe_from
from commonprior.tables import build, without_none

Settings: TypeAlias = dict[str, Any]
"""Field of a recipe, with dots, -> value."""


@dataclass(frozen=True)
class Dimension:
    """One field: a number from `low` to `high` (evenly spread in its logarithm if `log`), or one of `choices`."""

    low: float = math.nan
    high: float = math.nan
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.choices:
            if not math.isnan(self.low) or not math.isnan(self.high):
                raise RecipeError("give either choices or low and high, not both")
            if len(self.choices) < 2:
                raise RecipeError(f"choices = {list(self.choices)}: expected at least two")
            return
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise RecipeError(f"low = {self.low} and high = {self.high}: expected two numbers in order, or choices")
        if self.log and self.low <= 0:
            raise RecipeError(f"low = {self.low}: a logarithm needs a number above 0")

    @property
    def size(self) -> int:
        """How many coordinates it has: one for a number, one a choice."""
        return len(self.choices) or 1

    def value(self, point: np.ndarray) -> Any:
        """Return the value at a point [size] of the unit cube."""
        if self.choices:
            return self.choices[int(np.argmax(point))]
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        number = low + float(point[0]) * (high - low)
        number = min(max(math.exp(number) if self.log else number, self.low), self.high)
        return round(number) if self.integer else number

    def point(self, value: Any) -> np.ndarray:
        """Return where a value lies [size]; raises `RecipeError` where it is not in this dimension."""
        if self.choices:
            if value not in self.choices:
                raise RecipeError(f"{value!r} is not one of {list(self.choices)}")
            return np.eye(self.size)[self.choices.index(value)]
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise RecipeError(f"{value!r} is not a number from {self.low} to {self.high}")
        if self.log:
            return np.array([math.log(value / self.low) / math.log(self.high / self.low)])
        return np.array([(value - self.low) / (self.high - self.low)])


@dataclass(frozen=True)
class Space:
    """The fields that may change, in the order of their names."""

    dimensions: tuple[tuple[str, Dimension], ...]

    @property
    def size(self) -> int:
        """The number of coordinates of a point."""
        return sum(dimension.size for _, dimension in self.dimensions)

    def settings(self, point: np.ndarray) -> Settings:
        """Return the settings at a point [size] of the unit cube."""
        out, at = {}, 0
        for name, dimension in self.dimensions:
            out[name] = dimension.value(point[at : at + dimension.size])
            at += dimension.size
        return out

    def point(self, settings: Mapping[str, Any]) -> np.ndarray:
        """Return where settings lie [size]; raises `RecipeError` where they name other fields or values outside."""
        if set(settings) != {name for name, _ in self.dimensions}:
            raise RecipeError(f"settings of {sorted(settings)}, expected {[name for name, _ in self.dimensions]}")
        parts = []
        for name, dimension in self.dimensions:
            try:
                parts.append(dimension.point(settings[name]))
            except RecipeError as error:
                raise RecipeError(f"{name}: {error}") from None
        return np.concatenate(parts)

    def snap(self, points: np.ndarray) -> np.ndarray:
        """Return points [n, size] moved to where their settings (whole numbers, choices) are."""
        return np.stack([self.point(self.settings(point)) for point in points])


def read_space(path: Path) -> Space:
    """Read a space file; every mistake is one sentence with the file and the field."""
    return space_from(read_toml(path), str(path))


def space_from(table: Mapping[str, Any], where: str = "space") -> Space:
    """Build a space from a table of dimensions. Raises `RecipeError` for an empty or unreadable one."""
    if not table:
        raise RecipeError(f'{where}: names no field; expected such as ["learner.server.rate"] with low and high')
    out = []
    for name in sorted(table):
        if not isinstance(table[name], Mapping):
            raise RecipeError(f"{where}: {name}: expected a table with low and high, or choices; quote the name's dots")
        out.append((name, build(Dimension, table[name], f"{where}: {name}")))
    return Space(tuple(out))


def changed(recipe: Recipe, settings: Mapping[str, Any], where: str = "space") -> Recipe:
    """Return the recipe with other values in the fields that settings name; raises `RecipeError` for unknown ones."""
    table = copy.deepcopy(without_none(recipe.table()))
    for name, value in settings.items():
        *folders, last = name.split(".")
        inner = table
        for folder in folders:
            inner = inner.get(folder) if isinstance(inner, dict) else None
        if not isinstance(inner, dict):
            raise RecipeError(f"{where}: {name}: the recipe has no such field")
        inner[last] = value
    return recipe_from(table, where)
