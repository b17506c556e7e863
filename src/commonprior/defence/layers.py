"""All layers, one after the other: what one validator says of a round's public deltas.

    norm bound ──> trimmed mean ──> multi-Krum ──> own updates ──> own losses ──> a byte a contributor
    └──────── everyone finds the same ───────┘    └─ median of opinions ─┘

Later layers look only at whom the earlier ones left, and take as many liars fewer to be among them as were sent away.
The bytes go into a ballot (`ledger.public`): 0 rejects, 1 to 255 say how good; two thirds of the votes decide.

What no layer here bears: three tenths who agree on a little everywhere (the layers then send honest ones away, and do
worse than none), and a backdoor (`benchmarks/poisoning.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np

from commonprior.defence import Layer
from commonprior.defence.accuracy import AccuracyCheck, Loss
from commonprior.defence.exclusion import Exclusion, Strikes
from commonprior.defence.multi_krum import MultiKrum
from commonprior.defence.norm_bound import NormBound
from commonprior.defence.roll_back import RollBack
from commonprior.defence.root_set import RootSet
from commonprior.defence.trimmed_mean import TrimmedMean
from commonprior.errors import InputError, RecipeError

BEST = 255


class Opinion(NamedTuple):
    """What one validator says of the n contributors: by what share of its loss each lowers it, cosines to its own.

    Either is None where the validator has no such opinion. Others' come from others: numbers that are none count as
    minus infinity.
    """

    gains: np.ndarray | None = None
    cosines: np.ndarray | None = None


@final
@dataclass(frozen=True)
class Layers:
    """Which layers are on, with their numbers; None is off. `liars` is the percentage of contributors borne."""

    liars: int = 30
    norm: NormBound | None = field(default_factory=NormBound)
    trimmed: TrimmedMean | None = None
    krum: MultiKrum | None = field(default_factory=MultiKrum)
    root: RootSet | None = None
    accuracy: AccuracyCheck | None = field(default_factory=AccuracyCheck)
    exclusion: Exclusion | None = field(default_factory=Exclusion)
    roll_back: RollBack | None = field(default_factory=RollBack)

    def __post_init__(self) -> None:
        if not 0 <= self.liars < 50:
            raise RecipeError(
                f"liars = {self.liars}: expected a percentage, 0 to 49: more than half decide what is true"
            )

    def passed(self, deltas: np.ndarray) -> np.ndarray:
        """Return whom the layers that everyone computes alike leave, [n] bool, of int8 deltas [n, d]."""
        if deltas.dtype != np.int8 or deltas.ndim != 2:
            raise InputError(f"deltas are int8 [contributors, d], got {deltas.dtype} of shape {deltas.shape}")
        left = np.arange(len(deltas))
        assumed = self.liars * len(deltas) // 100
        for layer in self._public():
            liars = max(0, assumed - (len(deltas) - len(left)))
            left = left[layer.passed(deltas[left], liars)]
        out = np.zeros(len(deltas), bool)
        out[left] = True
        return out

    def opinion(self, deltas: np.ndarray, loss: Loss | None = None, own: np.ndarray | None = None) -> Opinion:
        """Return what this validator thinks of int8 deltas [n, d], to be shown to the others.

        `loss` is what its held-out tasks lose after a mean, `own` [d] the update that it would send itself.
        """
        return Opinion(
            self.accuracy.gains(deltas, loss) if self.accuracy and loss else None,
            self.root.cosines(deltas, own) if self.root and own is not None else None,
        )

    def row(self, deltas: np.ndarray, opinions: Sequence[Opinion] = ()) -> bytes:
        """Return a validator's scores, a byte a contributor, of int8 deltas [n, d].

        `opinions` are its own and those that others showed it: whoever has seen the same ones has the same row. Where
        there are none, everyone left has the best score.
        """
        left = self.passed(deltas)
        cosines = _median([o.cosines for o in opinions], len(deltas))
        if self.root is not None and cosines is not None:
            left &= cosines >= self.root.least
        scores = np.where(left, BEST, 0)
        gains = _median([o.gains for o in opinions], len(deltas))
        if self.accuracy is not None and gains is not None:
            gains = np.minimum(gains, 1.0)  # others may claim more than all of the loss
            best = float(gains[left].max(initial=0.0))
            share = np.clip(gains, 0.0, best) / best if best > 0 else np.zeros(len(deltas))
            scores = np.where(left & (gains >= -self.accuracy.margin), 1 + np.floor((BEST - 1) * share), 0)
        return scores.astype(np.uint8).tobytes()

    def excluded(self, rounds: Sequence[Mapping[bytes, bool]]) -> frozenset[bytes]:
        """Return who is left out of the next round, from every finished round's contributors: accepted or not."""
        return self.exclusion.excluded(rounds, self.liars) if self.exclusion else frozenset()

    def left_out(self, strikes: Strikes) -> frozenset[bytes]:
        """Return who is left out of the next round, from where everyone stands."""
        return self.exclusion.left_out(strikes, self.liars) if self.exclusion else frozenset()

    def rolled_back(self, losses: np.ndarray | Sequence[Sequence[float]]) -> int | None:
        """Return the version to go back to, or None, from validators' losses [validators, versions], oldest first."""
        return self.roll_back.version(losses) if self.roll_back else None

    def _public(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in (self.norm, self.trimmed, self.krum) if layer is not None)


def _median(opinions: Sequence[np.ndarray | None], n: int) -> np.ndarray | None:
    """Return the median of opinions [n], the lower of two, or None where there are none."""
    given = [np.asarray(o, np.float64) for o in opinions if o is not None]
    if not given:
        return None
    for one in given:
        if one.shape != (n,):
            raise InputError(f"an opinion of shape {one.shape} on {n} contributors: expected one number each")
    table = np.stack(given)
    return np.sort(np.where(np.isnan(table), -np.inf, table), axis=0)[(len(table) - 1) // 2]
