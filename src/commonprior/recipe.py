"""The parameters of a run: frozen dataclasses that a recipe file writes, a site's policy checks and the record hashes.

A recipe is TOML: `[tasks]`, `[learner]`, `[mechanism]`, `[sum]` each name a plug-in by `kind`; `[schedule]` and
`[budget]` are plain. A field that a class does not have is an error, never ignored.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import tomli_w

import commonprior.learners
import commonprior.networks
import commonprior.privacy
import commonprior.sums
import commonprior.tasks
from commonprior.canonical import digest
from commonprior.defence.layers import Layers
from commonprior.errors import RecipeError
from commonprior.learners import Learner
from commonprior.networks import Network
from commonprior.privacy import Mechanism
from commonprior.site.policy import Policy
from commonprior.sums import SecureSum
from commonprior.tables import Plugins, build, to_table, without_none
from commonprior.tasks import TaskSource

PLUGINS: Plugins = MappingProxyType(
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
class Ledger:
    """Where rounds are recorded and ballots counted.

    `kind`: `embedded`, an EVM in this process whose blocks are a file in the run's folder; `rpc`, any EVM node (its
    address is no part of a recipe: it stands in COMMONPRIOR_RPC), of which `chain` is the chain id and `contracts` the
    six addresses of a consortium that is there already; `none`, the sites' signed record alone.

    `mode`: `hidden` deltas are summed in secret and the ledger holds commitments. `public` deltas are int8 numbers that
    everybody sees for good: a contract averages those that the members' ballots accept, found by the layers of
    `defence`. `bond`, in millionths of a credit, is what a site stakes on showing what it committed to.

    `archive` keeps every round's sealed bytes and opened seeds, from which an auditor computes a hidden sum again: as
    many bytes as all sites send. Without them the sum is what the sites signed, and nothing shows where it came from.
    """

    kind: Literal["embedded", "rpc", "none"] = "embedded"
    mode: Literal["hidden", "public"] = "hidden"
    chain: int = 0
    contracts: tuple[str, ...] = ()
    confirmations: int = 1
    bond: int = 1_000_000
    archive: bool = True
    defence: Layers = field(default_factory=Layers)

    def __post_init__(self) -> None:
        if (self.kind == "rpc") != (self.chain > 0):
            raise RecipeError(
                f"ledger.chain = {self.chain} for kind {self.kind}: expected the chain id of an rpc ledger"
            )
        if len(self.contracts) not in (0, 6) or (self.contracts and self.kind != "rpc"):
            raise RecipeError(f"ledger.contracts: {len(self.contracts)} addresses for kind {self.kind}: expected the "
                              f"six of a consortium on an rpc ledger, or none to have them made")  # fmt: skip
        for address in self.contracts:
            if not re.fullmatch("0x[0-9a-fA-F]{40}", address):
                raise RecipeError(f"ledger.contracts: {address!r} is no address: expected 0x and 40 hex digits")
        if not 0 <= self.bond < 2**96:
            raise RecipeError(f"ledger.bond = {self.bond}: expected 0 to 2^96 - 1 millionths of a credit")
        if self.mode == "public" and self.kind == "none":
            raise RecipeError('ledger.mode = "public" with kind "none": public deltas are averaged by a contract; '
                              'take kind "embedded" or "rpc"')  # fmt: skip
        if self.confirmations < 1:
            raise RecipeError(f"ledger.confirmations = {self.confirmations}: expected at least 1")


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
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        if self.ledger.mode == "public":
            _check_public(self)

    @property
    def public(self) -> bool:
        """Whether every site's update is shown to everybody."""
        return self.ledger.mode == "public"

    def table(self) -> dict[str, Any]:
        """Return the recipe as nested tables of plain values, every default written out."""
        return to_table(self, PLUGINS)

    def hash(self) -> bytes:
        """Return SHA-256 over every field of every part, defaults included."""
        return digest(["commonprior/recipe/1", self.table()])


def _check_public(recipe: Recipe) -> None:
    """Raise `RecipeError` for a recipe of public deltas that hides them."""
    if not recipe.sum.insecure:
        raise RecipeError('ledger.mode = "public" with a secure sum: it would hide nothing; say sum.kind = "plain"')


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file; every mistake is one sentence that names the file, the field and the cure."""
    return recipe_from(read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's tables; a missing or malformed file is one sentence."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None


def recipe_from(table: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Build a recipe from nested tables, as TOML gives them."""
    return build(Recipe, table, where, PLUGINS)


def to_toml(recipe: Recipe) -> str:
    """Return a recipe file that reads back as the same recipe."""
    return tomli_w.dumps(without_none(recipe.table()))
