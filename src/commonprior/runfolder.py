"""What lies in `runs/NAME/`, and the refusal to mix two runs in one folder.

recipe.toml              the recipe, every default written out
journal.cbor             the record that `commonprior audit` verifies
journal.aside.cbor       a record that the ledger was told of too late, if there was one
chain.cbor               the blocks of an embedded ledger
prior.safetensors        the prior, once the run is finished
checkpoints/             the priors of the last two rounds, and those that may be gone back to
sealed/                  sealed bytes and opened seeds of every round, unless `ledger.archive` is false: with them an
                         outsider computes every hidden sum again
sums/                    the summed words of every round: with them an outsider recomputes every prior
sites/NAME/              what a site keeps to itself: keys, policy, trust, log, memory (here: a simulation)
metrics.parquet          time, bytes and losses of every round
report.html              all of it for people
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from commonprior.appendlog import write_whole
from commonprior.errors import RunError
from commonprior.prior import Prior, load_prior, save_prior
from commonprior.recipe import Recipe, read_toml, to_toml
from commonprior.tables import without_none
from commonprior.task import Pool
from commonprior.tasks import Family


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe, every default written out."""
        return self.path / "recipe.toml"

    @property
    def journal(self) -> Path:
        """The record."""
        return self.path / "journal.cbor"

    @property
    def chain(self) -> Path:
        """The blocks of an embedded ledger."""
        return self.path / "chain.cbor"

    @property
    def prior(self) -> Path:
        """The finished prior."""
        return self.path / "prior.safetensors"

    @property
    def metrics(self) -> Path:
        """Time, bytes and losses, a row a round and measure."""
        return self.path / "metrics.parquet"

    @property
    def metric_lines(self) -> Path:
        """A line a round while the run is under way; `metrics` is made of them."""
        return self.path / "metrics.jsonl"

    @property
    def comparison(self) -> Path:
        """What `commonprior evaluate` found."""
        return self.path / "comparison.parquet"

    @property
    def predictions(self) -> Path:
        """The prior's predictions beside the truth, as `commonprior evaluate` drew them."""
        return self.path / "predictions.parquet"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.path / "report.html"

    def sum_of(self, round_: int) -> Path:
        """The summed words of one round."""
        return self.path / "sums" / f"{round_:06d}.bin"

    def sealed_of(self, round_: int) -> Path:
        """The sealed bytes and opened seeds of one round, where the recipe has them kept."""
        return self.path / "sealed" / f"{round_:06d}.cbor"

    def site(self, name: str) -> Path:
        """What one simulated site keeps to itself."""
        return self.path / "sites" / "".join(c if c.isalnum() or c in "-_." else "_" for c in name)

    def checkpoint(self, round_: int) -> Path:
        """The prior after one round."""
        return self.path / "checkpoints" / f"{round_:06d}.safetensors"

    def keep(self, round_: int, prior: Prior, also: Collection[int] = ()) -> None:
        """Write the prior of a round, before the journal names it; forget all but the last one's and `also`.

        The first one stays: an audit recomputes every prior from it.
        """
        self.checkpoint(round_).parent.mkdir(parents=True, exist_ok=True)
        save_prior(prior, self.checkpoint(round_))
        kept = {self.checkpoint(number) for number in (0, round_ - 1, round_, *also)}
        for file in set(self.checkpoint(0).parent.glob("*.safetensors")) - kept:
            file.unlink()

    def latest_prior(self) -> Prior:
        """Return the finished prior, or the last checkpoint of a run that is under way."""
        if self.prior.exists():
            return load_prior(self.prior)
        checkpoints = sorted((self.path / "checkpoints").glob("*.safetensors"))
        return load_prior(checkpoints[-1] if checkpoints else self.prior)

    def begin(self, recipe: Recipe, family: Family) -> None:
        """Claim the folder for this recipe and this data, or check that it is theirs already."""
        print_file = self.path / "data.json"
        fingerprint = fingerprints(family)
        if self.recipe.exists():
            changes = differences(read_toml(self.recipe), without_none(recipe.table()))
            if changes:
                raise RunError(f"{self.path}: holds a run of another recipe ({'; '.join(changes[:3])}); "
                               f"take another --name, or delete the folder")  # fmt: skip
        if print_file.exists():
            changes = differences(json.loads(print_file.read_text()), fingerprint)
            if changes:
                raise RunError(f"{self.path}: the data of this run has changed ({'; '.join(changes[:3])}); "
                               f"take another --name, or bring the old data back")  # fmt: skip
        else:
            write_whole(print_file, json.dumps(fingerprint, indent=1).encode())
        if not self.recipe.exists():
            write_whole(self.recipe, to_toml(recipe).encode())


def fingerprints(family: Family) -> dict[str, str]:
    """Return a short hash of what each site holds, to notice that it changed. It stays in the folder."""
    parts: Sequence[tuple[str, Mapping[str, Sequence[Pool]]]] = (
        ("train", family.train), ("valid", family.valid), ("test", family.test))  # fmt: skip
    out = {}
    for split, sites in parts:
        for site, pools in sites.items():
            hasher = hashlib.sha256()
            for pool in pools:
                hasher.update(f"{pool.name}:{pool.size}:".encode())
                episode = pool.episode(np.random.default_rng(0), 1, min(max(pool.size - 1, 1), 4096))
                for leaf in jax.tree.leaves(episode):
                    hasher.update(np.ascontiguousarray(leaf).data)
            out[f"{split}/{site}"] = hasher.hexdigest()[:16]
    return out


def differences(before: Any, after: Any, at: str = "") -> list[str]:
    """Return in words where two nested tables differ."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        out = []
        for key in sorted({*before, *after}, key=str):
            where = f"{at}.{key}" if at else str(key)
            if key not in before:
                out.append(f"{where} is new")
            elif key not in after:
                out.append(f"{where} is gone")
            else:
                out += differences(before[key], after[key], where)
        return out
    return [] if before == after else [f"{at} was {before!r}, is {after!r}"]
