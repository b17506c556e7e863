"""The parameters of a run: frozen dataclasses that a recipe file writes, a site's policy checks and the record hashes.

A recipe is TOML: `[tasks]`, `[learner]`, `[mechanism]`, `[sum]` each name a plug-in by `kind`; `[schedule]` and
`[budget]` are plain. A field that a class does not have is an error, never ignored.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType, NoneType, UnionType
from typing import Any, Literal

import tomli_w
from pydantic import TypeAdapter, ValidationError

import commonprior.learners
import commonprior.networks
import commonprior.privacy
import commonprior.sums
import commonprior.tasks
from commonprior import plugin
from commonprior.canonical import digest
from commonprior.errors import InputError, RecipeError
from commonprior.learners import Learner
from commonprior.networks import Network
from commonprior.privacy import Mechanism
from commonprior.site.policy import Policy
from commonprior.sums import SecureSum
from commonprior.tasks import TaskSource

PLUGINS: Mapping[type, ModuleType] = MappingProxyType(
    {
        TaskSource: commonprior.tasks,
        Network: commonprior.networks,
        Learner: commonprior.learners,
        Mechanism: commonprior.privacy,
        SecureSum: commonprior.sums,
    }
)
"""The folders that a recipe chooses from, by their abstract class."""


@dataclass(frozen=True)
class Schedule:
    """How long, how often and with whom: `tasks_per_site`, `shots` and `queries` are the shape of a meta-batch.

    `dropouts` sites may vanish in a round; `colluders` may work with the coordinator. `deadline` is in seconds.
    """

    rounds: int = 100
    tasks_per_site: int = 8
    shots: int = 5
    queries: int = 15
    seed: int = 0
    dropouts: int = 0
    colluders: int = 0
    deadline: float = 600.0
    attempts: int = 5

    def __post_init__(self) -> None:
        for name in ("rounds", "tasks_per_site", "shots", "queries", "attempts"):
            if getattr(self, name) < 1:
                raise RecipeError(f"schedule.{name} = {getattr(self, name)}: expected at least 1")
        if self.deadline <= 0:
            raise RecipeError(f"schedule.deadline = {self.deadline}: expected seconds above 0")
        if not 0 <= self.seed < 2**63:
            raise RecipeError(f"schedule.seed = {self.seed}: expected 0 to 2^63 - 1")


@dataclass(frozen=True)
class Budget:
    """How much privacy a run may spend for the mechanism's unit; `epsilon` 0 sets no limit and claims nothing."""

    epsilon: float = 0.0
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not (self.epsilon >= 0 and math.isfinite(self.epsilon)):
            raise RecipeError(f"budget.epsilon = {self.epsilon}: expected a finite number, 0 for no limit")
        if not 0 < self.delta < 1:
            raise RecipeError(f"budget.delta = {self.delta}: expected a probability between 0 and 1")


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a run what it is. `policy` is what simulated sites start with; others bring their own."""

    tasks: TaskSource
    learner: Learner
    mechanism: Mechanism
    sum: SecureSum
    schedule: Schedule = field(default_factory=Schedule)
    budget: Budget = field(default_factory=Budget)
    policy: Policy = field(default_factory=Policy)

    def hash(self) -> bytes:
        """Return SHA-256 over every field of every part, defaults included."""
        return digest(["commonprior/recipe/1", to_table(self)])


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; every mistake is one sentence that names the file, the field and the cure."""
    try:
        table = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None
    return recipe_from(table, str(path))


def recipe_from(table: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Build a recipe from nested tables, as TOML gives them."""
    return _dataclass(Recipe, table, where, "")


def to_table(value: Any) -> Any:
    """Return a recipe, or a part of one, as nested tables of plain values, every default written out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        table = {f.name: to_table(getattr(value, f.name)) for f in dataclasses.fields(value)}
        is_plugin = any(isinstance(value, base) for base in PLUGINS)
        return {"kind": plugin.kind_of(value), **table} if is_plugin else table
    if isinstance(value, Mapping):
        return {str(k): to_table(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_table(v) for v in value]
    return value


def to_toml(recipe: Recipe) -> str:
    """Return a recipe file that reads back as the same recipe."""
    return tomli_w.dumps(_without_none(to_table(recipe)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


def _build(annotation: Any, value: Any, file: str, at: str) -> Any:
    """Turn one TOML value into what a field's annotation asks for."""
    if annotation in PLUGINS:
        return _plugin(annotation, value, file, at)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _dataclass(annotation, value, file, at)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis and isinstance(value, list | tuple):
        return tuple(_build(arguments[0], item, file, f"{at}[{i}]") for i, item in enumerate(value))
    if origin in (typing.Union, UnionType) and value is not None:
        inner = [a for a in arguments if a is not NoneType]
        if len(inner) == 1:
            return _build(inner[0], value, file, at)
    return _leaf(annotation, value, file, at)


def _plugin(base: type, value: Any, file: str, at: str) -> Any:
    folder = PLUGINS[base].__name__.rpartition(".")[2]
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise RecipeError(
            f'{file}: {at}: expected a table with kind = "…", got {value!r}; {folder} has '
            f"{', '.join(plugin.kinds(PLUGINS[base]))}"
        )
    try:
        cls = plugin.load(PLUGINS[base], base, value["kind"])
    except RecipeError as error:
        raise RecipeError(f"{file}: {at}.kind: {error}") from None
    return _dataclass(cls, {k: v for k, v in value.items() if k != "kind"}, file, at)


def _dataclass(cls: type, table: Any, file: str, at: str) -> Any:
    if not isinstance(table, Mapping):
        raise RecipeError(f"{file}: {at}: expected a table, got {table!r}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    hints = typing.get_type_hints(cls)
    for name in table:
        if name not in fields:
            close = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(sorted(fields)) or 'none'}"
            raise RecipeError(f"{file}: {_join(at, name)}: unknown field; {hint}")
    missing = [
        n
        for n, f in fields.items()
        if n not in table and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise RecipeError(f"{file}: {_join(at, missing[0])}: missing; add it")
    values = {name: _build(hints[name], value, file, _join(at, name)) for name, value in table.items()}
    try:
        return cls(**values)
    except InputError as error:
        raise RecipeError(f"{file}: {at + ': ' if at else ''}{error}") from None


def _leaf(annotation: Any, value: Any, file: str, at: str) -> Any:
    if typing.get_origin(annotation) is Literal:
        choices = typing.get_args(annotation)
        if value not in choices or type(value) is not type(choices[choices.index(value)]):
            raise RecipeError(f"{file}: {at} = {value!r}: expected one of {', '.join(map(repr, choices))}")
        return value
    try:
        return TypeAdapter(annotation).validate_python(value, strict=annotation is not float)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"{file}: {at} = {value!r}: {_lower(first['msg'])}") from None


def _join(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
