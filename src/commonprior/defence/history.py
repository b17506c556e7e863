"""What the rounds so far say of the next one: who is left out of it, and which versions everyone may go back to.

Each round publishes where it found things, and its own updates and opinions lead to the next: whoever has one round's
published bytes, for whose hash a threshold of sites signed, needs no earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from commonprior.canonical import Value
from commonprior.defence.exclusion import NOBODY, Strikes
from commonprior.defence.layers import Layers
from commonprior.defence.roll_back import median
from commonprior.errors import MalformedMessage


class Version(NamedTuple):
    """A version that validators judged: the round that made it (0: the opening), its prior's hash and median loss."""

    round: int
    prior: bytes
    loss: float


class History(NamedTuple):
    """Accounts' counts of rejections, and the judged versions that later rounds can still depend on."""

    strikes: Strikes = NOBODY
    versions: tuple[Version, ...] = ()

    def encode(self) -> dict[str, Value]:
        """Return what the published bytes say."""
        return {
            "counts": [[who, count] for who, count in sorted(self.strikes.counts.items())],
            "caught": list(self.strikes.caught),
            "versions": [list(version) for version in self.versions],
        }

    def excluded(self, layers: Layers) -> frozenset[bytes]:
        """Return the accounts whose updates are not taken."""
        return layers.left_out(self.strikes)

    def judged(self, round_: int, base: bytes, losses: Mapping[int, float], layers: Layers) -> History:
        """Return this with what the sites of a round lose under the prior that it started from."""
        if layers.roll_back is None or not losses:
            return self
        return self._replace(versions=(*self.versions, Version(round_ - 1, base, median([*losses.values()]))))

    def back(self, layers: Layers) -> Version | None:
        """Return the version that the round after this goes back to, if it does."""
        rule = layers.roll_back
        at = rule.best([v.loss for v in self.versions]) if rule is not None else None
        return self.versions[at] if at is not None else None

    def after(self, accepted: Mapping[bytes, bool], layers: Layers) -> History:
        """Return what a round leaves to the next, from its contributors' accounts and whether each was accepted."""
        strikes = layers.exclusion.counted(self.strikes, accepted) if layers.exclusion is not None else self.strikes
        back = self.back(layers)
        if back is not None:  # judged anew, from there
            return History(strikes, (back,))
        needed = layers.roll_back.needed([v.loss for v in self.versions]) if layers.roll_back is not None else ()
        return History(strikes, tuple(self.versions[at] for at in needed))


def read_history(value: Value) -> History:
    """Return what published bytes say, or raise `MalformedMessage`."""
    match value:
        case {"counts": list() as counts, "caught": list() as caught, "versions": list() as versions, **rest} if (
            not rest
        ):
            history = History(
                Strikes(dict(_count(line) for line in counts), tuple(_account(who) for who in caught)),
                tuple(_version(line) for line in versions),
            )
            if history.encode() == value:
                return history
        case _:
            pass
    raise MalformedMessage("expected where the sites and the versions stand")


def _account(value: Value) -> bytes:
    if not isinstance(value, bytes) or len(value) != 20:
        raise MalformedMessage("expected an account, 20 bytes")
    return value


def _count(value: Value) -> tuple[bytes, int]:
    match value:
        case [bytes() as who, int() as count] if not isinstance(count, bool) and count >= 0:
            return _account(who), count
    raise MalformedMessage("expected an account and its count")


def _version(value: Value) -> Version:
    match value:
        case [int() as number, bytes() as prior, float() as loss] if (
            not isinstance(number, bool) and number >= 0 and len(prior) == 32 and math.isfinite(loss)
        ):
            return Version(number, prior, loss)
    raise MalformedMessage("expected a version: round, prior and a loss")
